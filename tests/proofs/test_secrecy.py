"""Neither the secret nor a token is shown by anything, whatever happens: the whole package, end to end.

`test_redaction` tests the values alone. Here they are in the midst of servers, sessions, tasks and caches. The canaries
are module constants, and what is made of them is no local of a test: a traceback with locals would show it.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import html
import json
import logging
import os
import pickle
import re
import reprlib
import threading
import traceback
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from pprint import pformat
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import aiohttp
import attrs
import pytest
from aiohttp import web
from rich.pretty import pretty_repr

import simplestore_async
from simplestore_async import (
    AccessToken,
    BearerAuthMiddleware,
    ClientCredentials,
    FileTokenCache,
    MemoryTokenCache,
    RenewalPolicy,
    SecretFile,
    TokenEndpoint,
    TokenProvider,
    caches,
    errors,
    events,
    open_session,
)
from simplestore_async.batch import BatchPolicy, Journal, run_batch
from simplestore_async.caches.encryption import FernetCodec
from tests.support.api_servers import ConnectProxy, RawServer, private_ca, redirecting, refusing_url
from tests.support.batches import write_requests
from tests.support.servers import SECRET, ApiServer, TokenServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from simplestore_async.batch import RequestFile
    from tests.support.clocks import FakeClock

# Longer than what debuggers and rich's tracebacks show of a string.
LONG_TOKEN = "canary-token-" + "x" * 200
# The same at both ends: asyncio's logs leave out the middle of what they show.
LONG_SECRET = "canary-" + SECRET + "-canary-canary"
MIXED_SECRET = 'canary-Secret+/&=%: "é<ß>?'
# The key of a cache. Its first letters are among the marks below.
CACHE_KEY = base64.urlsafe_b64encode(b"canary-key-" + b"x" * 21).decode()

_BASIC = base64.b64encode(f"app:{quote(SECRET, safe='')}".encode()).decode()
_MARKS = (
    "canary",
    *(base64.b64encode(each.encode()).decode()[:16].lower() for each in (SECRET, MIXED_SECRET)),
    _BASIC[:24].lower(),
    CACHE_KEY[:12].lower(),
)


def shows_canary(text: str) -> bool:
    """Return whether *text* holds a canary in any form; every encoding but base64 keeps its first letters."""
    text = text.lower()
    return any(mark in text for mark in _MARKS)


def everything_shown(error: BaseException | None) -> Iterator[str]:
    """Give all that a log or a debugger may show of an error, and of those behind it."""
    while error is not None:
        yield from (str(error), repr(error), repr(error.args), repr(vars(error)))
        yield from traceback.TracebackException.from_exception(error, capture_locals=True).format()
        if isinstance(error, errors.SimpleStoreError):
            yield str(pickle.dumps(error))
        error = error.__cause__ or error.__context__


def show_every_step(caplog: pytest.LogCaptureFixture) -> None:
    """Set every logger to DEBUG, and let asyncio's debug mode log each step of each task with its repr."""
    caplog.set_level(logging.DEBUG)
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0


@attrs.frozen
class Scene:
    """What the scenarios below need; it shows none of it."""

    token_server: TokenServer = attrs.field(repr=False)
    api_server: ApiServer = attrs.field(repr=False)
    policy: RenewalPolicy = attrs.field(repr=False)
    tmp_path: Path = attrs.field(repr=False)
    environment: pytest.MonkeyPatch = attrs.field(repr=False)

    def reply(self, status: int, body: Any, **headers: str) -> None:
        """Let the token endpoint answer so, as often as it is asked in one renewal."""
        text = body if isinstance(body, str) else json.dumps(body)
        self.token_server.replies += [web.Response(status=status, text=text, headers=headers) for _ in range(3)]

    def credentials(self, **changes: Any) -> ClientCredentials:
        return self.token_server.credentials(**changes)

    async def get_token(self, credentials: ClientCredentials | None = None, **policy: Any) -> None:
        changed_policy = attrs.evolve(self.policy, **policy)
        async with self.token_server.provider(credentials=credentials, policy=changed_policy) as provider:
            await provider.get_token()

    @asynccontextmanager
    async def session(self, **options: Any) -> AsyncIterator[aiohttp.ClientSession]:
        credentials = self.token_server.credentials()
        async with open_session(credentials, base_url=self.api_server.url, policy=self.policy, **options) as session:
            yield session


@pytest.fixture
def scene(
    token_server: TokenServer,
    api_server: ApiServer,
    quick: RenewalPolicy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Scene:
    return Scene(token_server, api_server, quick, tmp_path, monkeypatch)


class SayingServer(RawServer):
    """Reads a request's head, says its piece, and closes; or waits, if it has none."""

    def __init__(self, piece: bytes | None) -> None:
        super().__init__()
        self._piece = piece

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if self._piece is None:
            await asyncio.Event().wait()
        else:
            writer.write(self._piece)
            await writer.drain()


# Every way to fail: the expected error, and a scenario that ends in it.
FAILURES: dict[str, tuple[type[BaseException], Callable[[Scene], Awaitable[object]]]] = {}


def fails_with(error: type[BaseException]) -> Callable[[Callable[[Scene], Awaitable[object]]], Any]:
    def register(scenario: Callable[[Scene], Awaitable[object]]) -> None:
        FAILURES[scenario.__name__.strip("_")] = error, scenario

    return register


@fails_with(errors.InvalidClientError)
async def _wrong_client(scene: Scene) -> None:
    scene.reply(401, {"error": "invalid_client", "error_description": SECRET, "title": SECRET, "client_secret": SECRET})
    await scene.get_token()


@fails_with(errors.InvalidClientError)
async def _wrong_client_basic(scene: Scene) -> None:
    scene.reply(400, {"error": "invalid_client", "error_description": f"got Basic {_BASIC} for {SECRET}"})
    await scene.get_token(scene.credentials(auth_method="client_secret_basic"))


@fails_with(errors.InvalidClientError)
async def _wrong_dynamic_secret(scene: Scene) -> None:
    scene.reply(400, {"error": "invalid_client", "error_description": SECRET})
    await scene.get_token(scene.credentials(client_secret=lambda: SECRET))


@fails_with(errors.TokenEndpointError)
async def _endpoint_down(scene: Scene) -> None:
    scene.reply(500, {"error": SECRET, "error_description": SECRET})
    await scene.get_token()


@fails_with(errors.TokenEndpointError)
async def _refusal_in_html(scene: Scene) -> None:
    scene.reply(403, f"<h1>{SECRET}</h1>")
    await scene.get_token()


@fails_with(errors.TokenEndpointError)
async def _redirect(scene: Scene) -> None:
    scene.reply(307, "", Location=f"https://evil.example/?client_secret={quote(SECRET)}")
    await scene.get_token()


@fails_with(errors.TokenResponseError)
async def _damaged_token(scene: Scene) -> None:
    scene.reply(200, {"access_token": f"{LONG_TOKEN} {SECRET}"})
    await scene.get_token()


@fails_with(errors.TokenResponseError)
async def _wrong_fields(scene: Scene) -> None:
    scene.reply(200, {"access_token": LONG_TOKEN, "expires_in": SECRET, "token_type": SECRET, "scope": SECRET})
    await scene.get_token()


@fails_with(errors.TokenResponseError)
async def _cut_json(scene: Scene) -> None:
    scene.reply(200, json.dumps({"access_token": LONG_TOKEN})[:-1])
    await scene.get_token()


@fails_with(errors.TokenResponseError)
async def _no_token_status(scene: Scene) -> None:
    scene.reply(202, {"access_token": LONG_TOKEN})
    await scene.get_token()


async def _ask(scene: Scene, server: SayingServer, auth_method: str = "client_secret_post") -> None:
    async with server:
        await scene.get_token(scene.credentials(token_url=f"{server.url}/token", auth_method=auth_method))


@fails_with(errors.TokenTransportError)
async def _babble(scene: Scene) -> None:
    await _ask(scene, SayingServer(b"HTTP/1.1 2OO " + SECRET.encode() + b"\r\n\r\n"))


@fails_with(errors.TokenTransportError)
async def _wrong_header(scene: Scene) -> None:
    await _ask(scene, SayingServer(b"HTTP/1.1 200 OK\r\n" + SECRET.encode() + b"\r\n\r\n"), "client_secret_basic")


@fails_with(errors.TokenTransportError)
async def _cut_reply(scene: Scene) -> None:
    await _ask(scene, SayingServer(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + LONG_TOKEN.encode()))


@fails_with(errors.TokenTransportError)
async def _hang_up(scene: Scene) -> None:
    await _ask(scene, SayingServer(b""), "client_secret_basic")


@fails_with(errors.TokenTimeoutError)
async def _silence(scene: Scene) -> None:
    async with SayingServer(None) as server:
        await scene.get_token(scene.credentials(token_url=server.url), attempts=1, attempt_seconds=0.05)


@fails_with(errors.TokenTransportError)
async def _nobody_there(scene: Scene) -> None:
    await scene.get_token(scene.credentials(token_url=refusing_url()))


@fails_with(errors.TokenTransportError)
async def _untrusted(scene: Scene) -> None:
    asyncio.get_running_loop().set_debug(False)  # else asyncio complains of the server's side
    async with TokenServer(ssl_context=private_ca().server) as server:
        await scene.get_token(scene.credentials(token_url=server.token_url))


@fails_with(errors.TokenError)
async def _failing_callable(scene: Scene) -> None:
    def read() -> str:
        raise LookupError(SECRET)

    await scene.get_token(scene.credentials(client_secret=read))


@fails_with(errors.TokenError)
async def _failing_coroutine(scene: Scene) -> None:
    async def read() -> str:
        raise LookupError(SECRET)

    await scene.get_token(scene.credentials(client_secret=read))


@fails_with(errors.TokenError)
async def _callable_of_bytes(scene: Scene) -> None:
    await scene.get_token(scene.credentials(client_secret=SECRET.encode))


@fails_with(errors.TokenError)
async def _secret_of_two_lines(scene: Scene) -> None:
    path = scene.tmp_path / "secret"
    path.write_text(f"{SECRET}\n{SECRET}\n", "utf-8")
    await scene.get_token(scene.credentials(client_secret=SecretFile(path)))


@fails_with(errors.ConfigurationError)
async def _no_client_id(scene: Scene) -> None:
    scene.environment.setenv("SIMPLESTORE_CLIENT_SECRET", SECRET)
    scene.environment.delenv("SIMPLESTORE_CLIENT_ID", raising=False)
    async with open_session(base_url="https://api.example"):
        pass


@fails_with(errors.ConfigurationError)
async def _no_base_url(scene: Scene) -> None:
    scene.environment.setenv("SIMPLESTORE_CLIENT_SECRET", SECRET)
    scene.environment.setenv("SIMPLESTORE_CLIENT_ID", "app")
    async with open_session():
        pass


@fails_with(errors.ConfigurationError)
async def _wrong_option(scene: Scene) -> None:
    async with scene.session(origins="api.example"):
        pass


@fails_with(errors.ProviderClosedError)
async def _closed(scene: Scene) -> None:
    async with scene.token_server.provider() as provider:
        await provider.get_token()
    await provider.get_token()


@fails_with(errors.TokenCacheError)
async def _no_folder(scene: Scene) -> None:
    (scene.tmp_path / "file").touch()
    await FileTokenCache(scene.tmp_path / "file").set("key", AccessToken(LONG_TOKEN, issued_at=0, expires_at=1))


@fails_with(errors.TokenCacheError)
async def _failing_write(scene: Scene) -> None:
    # A folder that cannot hold a file, not even root's.
    await FileTokenCache("/proc/self").set("key", AccessToken(LONG_TOKEN, issued_at=0, expires_at=1))


@fails_with(errors.TokenCacheError)
async def _damaged_entry(scene: Scene) -> None:
    caches.loads(caches.dumps(AccessToken(LONG_TOKEN, issued_at=0, expires_at=1))[:-1])


@fails_with(errors.ConfigurationError)
async def _damaged_cache_key(scene: Scene) -> None:
    FernetCodec([CACHE_KEY, CACHE_KEY[:-1]])


@fails_with(errors.ConfigurationError)
async def _damaged_cache_key_in_environment(scene: Scene) -> None:
    scene.environment.setenv("SIMPLESTORE_CACHE_KEY", f"{CACHE_KEY} {CACHE_KEY[:-1]}")
    FernetCodec.from_env()


@fails_with(TypeError)
async def _pickled_codec(scene: Scene) -> None:
    pickle.dumps(FernetCodec(CACHE_KEY))


@fails_with(errors.TokenCacheError)
async def _damaged_file_of_cache_keys(scene: Scene) -> None:
    cache = FileTokenCache(scene.tmp_path / "tokens", codec=FernetCodec(write_keys(scene.tmp_path / "keys")))
    (scene.tmp_path / "keys").write_text(f"{CACHE_KEY[:-1]} {CACHE_KEY}")
    await cache.set("key", AccessToken(LONG_TOKEN, issued_at=0, expires_at=1))


@fails_with(errors.TokenCacheError)
async def _failing_codec(scene: Scene) -> None:
    class Codec:
        def encode(self, data: bytes, /) -> bytes:
            raise LookupError(data)

        decode = encode

    cache = FileTokenCache(scene.tmp_path, codec=Codec())
    await cache.set("key", AccessToken(LONG_TOKEN, issued_at=0, expires_at=1))


@fails_with(errors.TokenCacheError)
async def _too_long_a_token(scene: Scene) -> None:
    await FileTokenCache(scene.tmp_path).set("key", AccessToken(LONG_TOKEN * 1000, issued_at=0, expires_at=1))


@fails_with(errors.InvalidClientError)
async def _api_rejects_and_renewal_fails(scene: Scene) -> None:
    async with scene.session() as session:
        await (await session.get("/")).read()
        scene.api_server.rejected.add("canary-token-1")
        scene.reply(400, {"error": "invalid_client", "title": SECRET})
        await session.post("/", data=b"body")


@fails_with(errors.TokenError)
async def _same_token_again(scene: Scene) -> None:
    class Source:
        async def get_token(self) -> AccessToken:
            return AccessToken(LONG_TOKEN, issued_at=0, expires_at=1)

        def invalidate(self, token: AccessToken) -> bool:
            return True

    scene.api_server.rejected.add(LONG_TOKEN)
    async with open_session(Source(), base_url=scene.api_server.url) as session:
        await session.get("/")


@fails_with(aiohttp.ClientResponseError)
async def _api_always_rejects(scene: Scene) -> None:
    scene.api_server.rejected |= {"canary-token-1", "canary-token-2"}
    async with scene.session(raise_for_status=True) as session:
        await session.get("/")


@fails_with(aiohttp.TooManyRedirects)
async def _api_runs_in_circles(scene: Scene) -> None:
    scene.api_server.handler = redirecting(scene.api_server, {"/": "/"})
    async with scene.session() as session:
        await session.get("/")


@fails_with(aiohttp.WSServerHandshakeError)
async def _api_speaks_no_websocket(scene: Scene) -> None:
    async with scene.session() as session:
        await session.ws_connect("/")


async def _ask_api(scene: Scene, piece: bytes | None, **options: Any) -> None:
    async with (
        SayingServer(piece) as server,
        open_session(scene.token_server.credentials(), base_url=server.url) as session,
        session.post("/", data=b"body", **options) as response,
    ):
        await response.json()


@fails_with(aiohttp.ClientResponseError)
async def _api_babbles(scene: Scene) -> None:
    await _ask_api(scene, b"HTTP/1.1 2OO ?\r\n\r\n")


@fails_with(aiohttp.ServerDisconnectedError)
async def _api_hangs_up(scene: Scene) -> None:
    await _ask_api(scene, b"")


@fails_with(aiohttp.ClientPayloadError)
async def _api_breaks_off(scene: Scene) -> None:
    await _ask_api(scene, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")


@fails_with(TimeoutError)
async def _api_is_silent(scene: Scene) -> None:
    await _ask_api(scene, None, timeout=aiohttp.ClientTimeout(total=0.1))


@fails_with(ValueError)
async def _api_request_is_wrong(scene: Scene) -> None:
    await _ask_api(scene, b"", headers={"X-Tag": "line\r\nbreak"})


@fails_with(aiohttp.ClientConnectorError)
async def _api_is_not_there(scene: Scene) -> None:
    async with open_session(scene.token_server.credentials(), base_url=refusing_url()) as session:
        await session.get("/")


@fails_with(aiohttp.ClientHttpProxyError)
async def _api_behind_refusing_proxy(scene: Scene) -> None:
    async with (
        SayingServer(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n") as proxy,
        open_session(scene.token_server.credentials(), base_url="https://api.example") as session,
    ):
        await session.get("/", proxy=proxy.url)


@fails_with(errors.ConfigurationError)
async def _api_by_http_proxy(scene: Scene) -> None:
    async with ConnectProxy() as proxy, scene.session() as session:
        await session.get("/", proxy=proxy.url)


def _write_batch(scene: Scene) -> RequestFile:
    line = {"id": 1, "method": "POST", "path": "orders", "json": 1}
    return write_requests(scene.tmp_path, [line], base_url=refusing_url())


@fails_with(errors.BatchFileError)
async def _batch_changed(scene: Scene) -> None:
    file = _write_batch(scene)
    file.path.write_text("oops")
    async with open_session(scene.token_server.credentials(), base_url=file.base_url) as session:
        await run_batch(file, session=session)


@fails_with(errors.BatchError)
async def _batch_without_api(scene: Scene) -> None:
    file = _write_batch(scene)
    async with open_session(scene.token_server.credentials(), base_url=file.base_url) as session:
        await run_batch(file, session=session, policy=BatchPolicy(patience_seconds=0.001))


@fails_with(errors.JournalError)
async def _batch_on_full_disk(scene: Scene) -> None:
    file = _write_batch(scene)
    with (
        open("/dev/full", "wb", buffering=0) as full,  # noqa: ASYNC230, PTH123 - no file
        Journal(scene.tmp_path / "journal", requests=file, results=full) as journal,
    ):
        async with scene.session() as session:
            await run_batch(file, session=session, journal=journal)


# case 55
class TestFailures:
    @pytest.mark.parametrize("name", FAILURES)
    async def test_error(self, scene: Scene, caplog: pytest.LogCaptureFixture, name: str) -> None:
        """No error shows a canary, not by what it carries nor by the locals of its traceback; nor does a log."""
        show_every_step(caplog)
        expected, scenario = FAILURES[name]
        with pytest.raises(expected) as caught:
            await scenario(scene)

        assert [] == [text for text in everything_shown(caught.value) if shows_canary(text)]
        assert [] == [line for line in caplog.text.splitlines() if shows_canary(line)]

    def test_are_whole(self) -> None:
        """Every error of the package is among them."""
        bases = {"SimpleStoreError"}
        assert set(errors.__all__) - bases <= {error.__name__ for error, _ in FAILURES.values()}

    # case 56
    @pytest.mark.parametrize(
        "spell",
        [
            str,
            lambda secret: quote(secret, safe=""),
            quote,
            quote_plus,
            lambda secret: re.sub("%..", lambda escape: escape[0].lower(), quote_plus(secret)),  # .NET's way
            lambda secret: re.sub("%..", lambda escape: escape[0].lower(), quote(secret, safe="")),
            lambda secret: json.dumps(secret)[1:-1],
            lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1],
            html.escape,
            lambda secret: base64.b64encode(secret.encode()).decode(),
            lambda secret: base64.b64encode(secret.encode()).decode().rstrip("="),
            lambda secret: base64.urlsafe_b64encode(secret.encode()).decode(),
            lambda secret: base64.b64encode(f"app:{quote(secret, safe='')}".encode()).decode(),
        ],
        ids=[
            "plain",
            "percent",
            "path",
            "form",
            "form-lower",
            "percent-lower",
            "json",
            "json-utf8",
            "html",
            "base64",
            "unpadded",
            "urlsafe",
            "basic",
        ],
    )
    async def test_echo(self, scene: Scene, spell: Callable[[str], str]) -> None:
        """An endpoint that echoes the secret, in whatever spelling, does not get it into the error."""
        echo(scene, spell)
        with pytest.raises(errors.TokenEndpointError) as caught:
            await scene.get_token(scene.credentials(client_secret=MIXED_SECRET, auth_method="client_secret_basic"))

        error = caught.value
        said = [str(text).replace("=", "") for text in (error.error, error.error_description, error.title)]
        assert ["before *** after"] * 3 == said  # base64's padding may stay
        assert [] == [text for text in everything_shown(error) if shows_canary(text) or spell(MIXED_SECRET) in text]


def echo(scene: Scene, spell: Callable[[str], str]) -> None:
    said = f"before {spell(MIXED_SECRET)} after"
    scene.reply(400, {"error": said, "error_description": said, "title": said})


class FailingCache:
    """A cache whose errors quote what it was given."""

    async def get(self, key: str, /) -> AccessToken | None:
        raise LookupError(LONG_TOKEN)

    async def set(self, key: str, token: AccessToken, /) -> None:
        raise LookupError(str(token.value))


def read_secret() -> str:
    return LONG_SECRET


async def read_secret_slowly() -> str:
    await asyncio.sleep(0)
    return read_secret()


def write_secret(path: Path) -> SecretFile:
    path.write_text(LONG_SECRET, "utf-8")
    return SecretFile(path)


def write_keys(path: Path) -> Path:
    path.write_text(CACHE_KEY)
    return path


async def live_a_life(scene: Scene, clock: FakeClock, heard: list[events.Event], **changes: Any) -> None:
    """Do all that a program does with the package in its best and its worst days, and hear of every event."""

    def listen(event: events.Event) -> None:
        heard.append(event)
        raise LookupError("a listener that fails")

    server, api = scene.token_server, scene.api_server
    credentials = server.credentials(**{"client_secret": LONG_SECRET} | changes)
    endpoint = TokenEndpoint(credentials, policy=scene.policy, clock=clock)
    files = FileTokenCache(scene.tmp_path / "tokens", codec=FernetCodec(CACHE_KEY))
    async with (
        TokenProvider(endpoint=endpoint, cache=files, on_event=listen) as provider,
        open_session(provider, base_url=api.url, middlewares=[]) as session,
    ):
        await (await session.post("/", json={})).read()
        api.rejected.add("canary-token-1")
        await (await session.post("/", json={})).read()
        api.rejected.add("canary-token-2")
        await (await session.post("/", json={})).read()
        clock.advance(server.lifetime - 20)
        server.gate.clear()
        await provider.get_token()  # overdue, and the old token
        server.gate.set()
        clock.advance(100)
        server.arrived.clear()
        await provider.get_token()
        clock.advance(server.lifetime + 1)
        scene.reply(400, {"error": "invalid_client", "error_description": LONG_SECRET})
        with pytest.raises(errors.InvalidClientError):
            await session.get("/")
        server.replies.clear()
        clock.advance(1000)
        await provider.get_token()
    async with server.provider(policy=scene.policy, cache=FailingCache(), on_event=listen) as failing:
        await failing.get_token()
        server.gate.clear()
        failing.invalidate(await failing.get_token())
        server.arrived.clear()
        waiter = asyncio.create_task(failing.get_token())
        await server.arrived.wait()
    await asyncio.wait([waiter])
    server.gate.set()
    assert isinstance(waiter.exception(), errors.ProviderClosedError)


class TestLife:
    # case 55
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"auth_method": "client_secret_basic"},
            {"client_secret": read_secret},
            {"client_secret": read_secret_slowly},
            {"client_secret": partial(read_secret_slowly)},
            {"client_secret": write_secret},
        ],
        ids=["form", "basic", "callable", "coroutine", "partial", "file"],
    )
    async def test_logs(
        self,
        scene: Scene,
        clock: FakeClock,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
        changes: dict[str, Any],
    ) -> None:
        """With all loggers at DEBUG, and asyncio's debug mode showing every step, no canary is logged or printed."""
        show_every_step(caplog)
        if changes.get("client_secret") is write_secret:
            changes = {"client_secret": write_secret(scene.tmp_path / "secret")}
        await live_a_life(scene, clock, [], **changes)

        assert "took 0.000 seconds" in caplog.text
        assert "simplestore_async" in caplog.text
        assert [] == [line for line in caplog.text.splitlines() if shows_canary(line)]
        assert ("", "") == capfd.readouterr()

    # case 55
    async def test_events(self, scene: Scene, clock: FakeClock) -> None:
        """No event shows a canary, in whatever way it is shown; a life has them all."""
        heard: list[events.Event] = []
        await live_a_life(scene, clock, heard)

        kinds = {name for name in events.__all__ if isinstance(getattr(events, name), type)} - {"Event"}
        assert kinds == {type(event).__name__ for event in heard}
        assert [] == [event for event in heard for show in WAYS.values() if shows_canary(show(event))]

    # case 55
    async def test_names(self, scene: Scene, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
        """Names of threads, tasks and files hold no canary, and the environment is left as it was."""
        monkeypatch.chdir(scene.tmp_path)
        environment = dict(os.environ)
        names: set[str] = set()

        def read() -> str:
            names.update(thread.name for thread in threading.enumerate())
            return read_secret()

        def listen(event: events.Event) -> None:
            names.update(repr(task) for task in asyncio.all_tasks())

        credentials = scene.token_server.credentials(client_secret=read)
        cache = FileTokenCache(scene.tmp_path / "tokens")
        async with scene.token_server.provider(credentials=credentials, cache=cache, on_event=listen) as provider:
            await provider.get_token()
            names.update(thread.name for thread in threading.enumerate())
        names.update(str(path) for path in scene.tmp_path.rglob("*"))

        assert ["simplestore-cache", "simplestore-secret"] == sorted(
            {name.partition("_")[0] for name in names if name.startswith("simplestore-")}
        )
        assert [] == [name for name in names if shows_canary(name)]
        assert environment == dict(os.environ)


def frames_of(task: asyncio.Task[Any]) -> Iterator[tuple[Any, int]]:
    """Give the frames of a task that waits, from the outermost to the one that waits."""
    awaitable: Any = task.get_coro()
    while awaitable is not None:
        frame = next(filter(None, (getattr(awaitable, f"{kind}_frame", None) for kind in ("cr", "gi", "ag"))), None)
        if frame is not None:
            yield frame, frame.f_lineno
        awaitable = next(
            filter(None, (getattr(awaitable, name, None) for name in ("cr_await", "gi_yieldfrom", "ag_await"))), None
        )


def dump_of_waiting_tasks() -> list[str]:
    """Return the stacks of all tasks but the servers', with locals: what a debugger or a watchdog shows."""
    dumps: list[str] = []
    for task in asyncio.all_tasks():
        frames = list(frames_of(task))
        if not any(
            "web_protocol" in frame.f_code.co_filename or "servers.py" in frame.f_code.co_filename
            for frame, _ in frames
        ):
            dumps += traceback.StackSummary.extract(iter(frames), capture_locals=True).format()
    return dumps


async def ask(session: aiohttp.ClientSession) -> None:
    async with session.post("/", json={}) as response:
        await response.read()


class TestWaiting:
    # case 55
    @pytest.mark.parametrize("auth_method", ["client_secret_post", "client_secret_basic"])
    async def test_token_request(self, scene: Scene, auth_method: str) -> None:
        """While a token request is under way, no frame of any task holds the secret where it shows."""
        scene.token_server.gate.clear()
        task = asyncio.create_task(
            scene.get_token(scene.credentials(auth_method=auth_method, client_secret=read_secret))
        )
        await scene.token_server.arrived.wait()
        dumps = dump_of_waiting_tasks()
        scene.token_server.gate.set()
        await task

        assert any("endpoint.py" in line for line in dumps)
        assert [] == [line for line in dumps if shows_canary(line)]

    # case 55
    async def test_api_request(self, scene: Scene) -> None:
        """While an API request is under way, no frame of any task holds the token where it shows."""
        may_answer = asyncio.Event()

        async def handle(request: web.Request) -> web.StreamResponse:
            await may_answer.wait()
            return web.Response()

        scene.api_server.handler = handle
        async with scene.session() as session:
            task = asyncio.create_task(ask(session))
            await scene.api_server.arrived.wait()
            dumps = dump_of_waiting_tasks()
            task.cancel()  # aiohttp cannot go on with a response whose repr was taken
            await asyncio.wait([task])
            may_answer.set()

        assert any("middleware.py" in line for line in dumps)
        assert [] == [line for line in dumps if shows_canary(line)]


WAYS: dict[str, Callable[[Any], str]] = {
    "repr": repr,
    "str": str,
    "format": format,
    "f-string": lambda value: f"{value!r} {value!s} {value!a}",
    "percent": lambda value: "%r %s" % (value, value),  # noqa: UP031 - as logging does
    "container": lambda value: str([{"key": (value,)}]),
    "pformat": lambda value: pformat([value, attributes(value)], width=20),
    "attributes": lambda value: repr(attributes(value)),
    "reprlib": lambda value: reprlib.repr([value, attributes(value)]),
    "rich": lambda value: pretty_repr([value, attributes(value)], max_string=80, max_length=10),
    "asdict": lambda value: repr(attrs.asdict(value) if attrs.has(type(value)) else value),
    "astuple": lambda value: repr(attrs.astuple(value) if attrs.has(type(value)) else value),
}


def attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of an object, those in slots too."""
    if isinstance(value, type | ModuleType | FunctionType):
        return {}
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    found = {name: getattr(value, name) for name in slots if hasattr(value, name) and not name.startswith("__")}
    return found | getattr(value, "__dict__", {})


def parts(name: str, value: object, seen: dict[int, tuple[str, object]]) -> None:
    """Collect an object of ours and all of ours behind it, by the ways that lead there."""
    if id(value) in seen or isinstance(value, str) or not type(value).__module__.startswith("simplestore_async"):
        return
    seen[id(value)] = name, value
    for attribute, behind in attributes(value).items():
        items = (
            behind.values() if isinstance(behind, dict) else behind if isinstance(behind, list | tuple) else [behind]
        )
        for item in items:
            parts(f"{name}.{attribute}", item, seen)


@asynccontextmanager
async def a_world(scene: Scene) -> AsyncIterator[dict[str, Any]]:
    """All public things in full use: they hold secrets, tokens and rejected tokens, and have failed."""
    credentials = scene.token_server.credentials(scope="read", extra_parameters={"audience": "api"})
    memory_cache = MemoryTokenCache()
    await memory_cache.set("key", AccessToken(LONG_TOKEN, issued_at=0, expires_at=1e10))
    endpoint = TokenEndpoint(credentials, policy=scene.policy)
    async with (
        TokenProvider(endpoint=endpoint, cache=memory_cache) as provider,
        open_session(provider, base_url=scene.api_server.url) as session,
    ):
        scene.api_server.rejected.add("canary-token-1")
        response = await session.post("/", json={})
        token = await provider.get_token()
        scene.reply(400, {"error": "invalid_client", "title": SECRET})
        scene.api_server.rejected.add("canary-token-2")
        provider.invalidate(token)
        yield {
            **{name: getattr(simplestore_async, name) for name in simplestore_async.__all__},
            "AccessToken": AccessToken(LONG_TOKEN, issued_at=0, expires_at=1, scope="read"),
            "AccessToken of the provider": token,
            "BearerAuthMiddleware": BearerAuthMiddleware(provider, origins=scene.api_server.url),
            "ClientCredentials": credentials,
            "ClientCredentials with a callable": scene.token_server.credentials(client_secret=read_secret),
            "FernetCodec": FernetCodec(CACHE_KEY),
            "FernetCodec with a file": FernetCodec(write_keys(scene.tmp_path / "keys")),
            "FileTokenCache": FileTokenCache(scene.tmp_path),
            "FileTokenCache with a codec": FileTokenCache(scene.tmp_path, codec=FernetCodec(CACHE_KEY)),
            "MemoryTokenCache": memory_cache,
            "RenewalPolicy": scene.policy,
            "SecretFile": write_secret(scene.tmp_path / "secret"),
            "TokenEndpoint": endpoint,
            "TokenProvider": provider,
            "open_session": session,
            "its response": response,
            "its request": response.request_info,
        }
        response.release()


class TestEverythingPublic:
    # case 55
    @pytest.mark.parametrize("way", WAYS)
    async def test_shown(self, scene: Scene, way: str) -> None:
        """No public object shows a canary, nor does anything of ours that it holds."""
        async with a_world(scene) as world:
            seen: dict[int, tuple[str, object]] = {}
            for name, value in world.items():
                parts(name, value, seen)
            shown = {name: WAYS[way](value) for name, value in [*world.items(), *seen.values()]}

        assert [] == [name for name, text in shown.items() if shows_canary(text)]
        assert len(world) + 5 < len(shown)

    # case 55
    async def test_pickled(self, scene: Scene) -> None:
        """What can be pickled at all takes no canary along; what cannot says so without one."""
        leaks: list[str] = []
        async with a_world(scene) as world:
            for name, value in world.items():
                try:
                    text = str(pickle.dumps(value))
                except (TypeError, AttributeError, pickle.PicklingError) as error:
                    text = "".join(everything_shown(error))
                leaks += [name] if shows_canary(text) else []

        assert [] == leaks

    # case 55
    @pytest.mark.parametrize(
        "name", ["AccessToken", "ClientCredentials", "ClientCredentials with a callable", "FernetCodec"]
    )
    async def test_refuse_to_be_pickled(self, scene: Scene, name: str) -> None:
        """Tokens and secrets refuse to be pickled, and are copied as themselves."""
        async with a_world(scene) as world:
            value = world[name]
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(value)

        assert value is copy.copy(value)
        assert value is copy.deepcopy([value])[0]

    # case 55
    async def test_recipe(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        """Credentials from the environment are pickled as that recipe, which holds no value of it."""
        monkeypatch.setenv("SIMPLESTORE_CLIENT_ID", "canary-id")
        monkeypatch.setenv("SIMPLESTORE_CLIENT_SECRET", SECRET)
        monkeypatch.setenv("SIMPLESTORE_TOKEN_URL", scene.token_server.token_url)
        monkeypatch.delenv("SIMPLESTORE_CLIENT_SECRET_FILE", raising=False)
        credentials = ClientCredentials.from_env()
        recipe = pickle.dumps(credentials)

        assert not shows_canary(str(recipe))
        assert credentials == pickle.loads(recipe)

    # case 55
    async def test_among_locals(self, scene: Scene) -> None:
        """An error of the caller's own, with all of it among the locals of its frame, shows no canary."""

        def fail(world: dict[str, Any]) -> None:
            values = list(world.values())
            raise LookupError(len(values))

        async with a_world(scene) as world:
            with pytest.raises(LookupError) as caught:
                fail(world)

        assert [] == [text for text in everything_shown(caught.value) if shows_canary(text)]
