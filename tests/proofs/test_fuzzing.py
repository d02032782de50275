"""Whatever comes from outside, nothing but SimpleStoreError leaves the package, and no secret with it.

`FUZZ_EXAMPLES=n` tries n of everything. What failed once is an `@example` now.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import re
import zlib
from decimal import Decimal
from math import inf, nan
from pathlib import Path
from string import ascii_letters, digits
from typing import TYPE_CHECKING, Any, Final, TypeVar
from unittest import mock

import aiohttp
import pytest
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict
from pydantic import SecretBytes, SecretStr
from yarl import URL

from simplestore_async import (
    AccessToken,
    BearerAuthMiddleware,
    ClientCredentials,
    FileTokenCache,
    RenewalPolicy,
    RetryPolicy,
    SecretFile,
    TokenEndpoint,
    TokenProvider,
    open_session,
)
from simplestore_async._core.origin import is_loopback
from simplestore_async._core.redaction import RedactedStr
from simplestore_async._core.target import find_base_url
from simplestore_async._core.token import LONGEST_LIFETIME_SECONDS, is_visible_ascii
from simplestore_async._core.wire import Exchange
from simplestore_async.caches import dumps, loads
from simplestore_async.caches.encryption import FernetCodec
from simplestore_async.errors import ConfigurationError, SimpleStoreError, TokenCacheError, TokenError
from tests.support.wire_faults import RawServer, everything_shown, says

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

EXAMPLES: Final = int(os.environ.get("FUZZ_EXAMPLES", "100"))
FUZZ: Final = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
SLOWER: Final = settings(FUZZ, max_examples=max(EXAMPLES // 4, 1))
"""For what opens a connection or a file in every example."""

SECRET: Final = "canary-secret"
CREDENTIALS: Final = ClientCredentials(client_id="app", client_secret=SECRET)
TOKEN: Final = AccessToken("canary-token", issued_at=1.0, expires_at=2.0)


def shown(error: BaseException) -> str:
    """Return all that can be seen of an error, but for the frames of these tests, which hold everything."""
    traceback = frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == __file__:
            traceback = frame.tb_next
        frame = frame.tb_next
    return everything_shown(error.with_traceback(traceback))


def outcome_of(call: Callable[[], T]) -> T | SimpleStoreError:
    """Return what *call* returns, or the error of ours that it raises, which must not show what nobody may see."""
    try:
        return call()
    except SimpleStoreError as error:
        failure = error
    assert not re.search("canary-(secret|token|pass)", shown(failure))
    return failure


class Source:
    """A `TokenSource` that always has the same token."""

    async def get_token(self) -> AccessToken:
        return TOKEN

    def invalidate(self, token: AccessToken) -> bool:
        return token is not TOKEN


def texts(
    alphabet: str | st.SearchStrategy[str] = st.characters(codec="utf-8"),  # noqa: B008 - it is a description
    *,
    min_size: int = 0,
    max_size: int | None = None,
) -> st.SearchStrategy[str]:
    """Return texts but the canaries: Hypothesis draws what stands in a program as text, too, as they do in this one."""
    return st.text(alphabet, min_size=min_size, max_size=max_size).filter(lambda text: "canary" not in text)


# Replies

json_values: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts() | st.sampled_from([10**400, -1, 0, "Bearer"]),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(texts(), values, max_size=3),
    max_leaves=6,
)
members: Final = st.sampled_from(
    ["access_token", "token_type", "expires_in", "expiries_in", "scope", "error", "error_description", "title"]
)
near_grants: Final = st.builds(
    lambda changes: {"access_token": "canary-token", "token_type": "Bearer", "expires_in": 3600} | changes,
    st.dictionaries(members, json_values, max_size=3),
)
documents: Final = st.one_of(near_grants, json_values, st.dictionaries(members, json_values)).map(
    lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
)


def damage(parts: tuple[bytes, int, bytes]) -> bytes:
    body, at, noise = parts
    at %= len(body) + 1
    return body[:at] + noise + body[at + len(noise) :]


bodies: Final = st.one_of(
    documents,
    st.tuples(documents, st.integers(0), st.binary(max_size=4)).map(damage),
    documents.map(gzip.compress),
    documents.map(zlib.compress),
    st.tuples(documents.map(gzip.compress), st.integers(0), st.binary(max_size=4)).map(damage),
    st.binary(),
)
header_texts: Final = texts(st.characters(max_codepoint=0xFF, exclude_characters="\r\n\0"))
dates: Final = st.sampled_from(
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 99999 08:49:37 GMT", "Fri, 31 Dec 9999 23:59:59 -2359", "0"]
)
reply_headers: Final = st.dictionaries(
    st.sampled_from(["Content-Encoding", "Content-Type", "Retry-After", "Date", "WWW-Authenticate"]),
    header_texts | dates | st.sampled_from(["gzip", "deflate", "identity", "9" * 5000]) | st.integers().map(str),
)


@FUZZ
@given(st.integers(100, 999) | st.just(200), reply_headers, bodies, st.floats(0, 1e11))
@example(300, {"Retry-After": "0\x1f"}, b"", 0.0)
def test_reply(status: int, headers: dict[str, str], body: bytes, now: float) -> None:
    """A complete reply is a token that can be sent, or a `TokenError`."""
    exchange = Exchange(CREDENTIALS, RedactedStr(SECRET))

    reply = exchange.parse_response(status, CIMultiDict(headers), body, issued_at=now, now=now)

    if isinstance(reply, AccessToken):
        assert 200 <= status < 300
        assert is_visible_ascii(reply.value)
        assert 0 < reply.expires_at - reply.issued_at <= LONGEST_LIFETIME_SECONDS + 0.001
    else:
        assert isinstance(reply, TokenError)
        assert SECRET not in shown(reply)
        assert 0 <= (getattr(reply, "retry_after", None) or 0) < inf


@FUZZ
@given(texts(ascii_letters + digits, min_size=4).filter(lambda text: text not in {"error", "title"}), bodies)
def test_reply_echoes_the_secret(secret: str, body: bytes) -> None:
    """Whatever the secret is, a reply that quotes it does not put it into the error."""
    secret += "Canary"
    exchange = Exchange(CREDENTIALS, RedactedStr(secret))
    quoting = json.dumps({"error": "server_error", "error_description": f"{secret}{body!r}{secret}"}).encode()

    assert secret not in str(exchange.parse_response(400, CIMultiDict(), quoting, issued_at=0.0, now=0.0))


lines: Final = st.one_of(
    st.sampled_from(
        [
            b"HTTP/1.1 200 OK",
            b"HTTP/1.0 503 x",
            b"HTTP/1.1 100 Continue",
            b"Transfer-Encoding: chunked",
            b"Content-Length: 76",
            b"Content-Type: application/json",
            b"Content-Encoding: gzip",
            b"Connection: keep-alive",
            b"4",
            b"0",
            b"",
            b"",
            b'{"access_token": "canary-token", "expires_in": 3600, "token_type": "Bearer"}',
        ]
    ),
    st.binary(max_size=20),
)
raw_replies: Final = st.one_of(
    st.lists(lines, max_size=12).map(b"\r\n".join),
    st.lists(lines, max_size=12).map(lambda rest: b"\r\n".join([b"HTTP/1.1 200 OK", *rest])),
    bodies.map(lambda body: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)),
    st.binary(),
)


@SLOWER
@given(st.lists(raw_replies, min_size=1, max_size=3))
def test_raw_reply(parts: list[bytes]) -> None:
    """Whatever bytes answer a token request, it ends in time with a token or a `TokenError`, and its connection too."""

    async def ask() -> None:
        async with RawServer(says(*parts)) as server:
            credentials = ClientCredentials(client_id="app", client_secret=SECRET, token_url=server.token_url)
            endpoint = TokenEndpoint(credentials, policy=RetryPolicy(attempts=1, attempt_seconds=0.5))
            try:
                outcome: AccessToken | TokenError = await endpoint.request_token()
            except TokenError as error:
                outcome = error
            await server.clients_left()
        if isinstance(outcome, AccessToken):
            assert is_visible_ascii(outcome.value)
        else:
            assert not re.search("canary-(secret|token)", shown(outcome))

    asyncio.run(ask())


challenges: Final = st.one_of(
    header_texts,
    st.lists(
        st.sampled_from(
            ["Bearer", " ", ",", "=", '"', "\\", "error", "invalid_token", "realm", "Basic", "\t", 'error="']
        ),
        max_size=200,
    ).map("".join),
    st.sampled_from(["Bearer " + "error=" * 5000, 'Bearer realm="' + "\\" * 20_000, "Bearer" + " " * 20_000 + "x"]),
)


@SLOWER
@given(st.sampled_from([200, 400, 401, 403, 500]), st.lists(challenges, max_size=3))
def test_challenge(status: int, values: list[str]) -> None:
    """Whatever an API says in WWW-Authenticate, its caller gets the answer, or aiohttp's refusal to read it."""
    head = [f"HTTP/1.1 {status} x", "Content-Length: 0", *(f"WWW-Authenticate: {value}" for value in values)]

    async def ask() -> None:
        async with RawServer(says("\r\n".join([*head, "", ""]).encode("latin-1"))) as server:
            url = f"http://127.0.0.1:{server.port}/"
            middleware = BearerAuthMiddleware(Source(), origins=url)
            async with aiohttp.ClientSession(middlewares=[middleware], timeout=aiohttp.ClientTimeout(5)) as session:
                failure: aiohttp.ClientError | None = None
                try:
                    async with session.get(url) as response:
                        assert status == response.status
                except aiohttp.ClientError as error:
                    failure = error
        if failure is not None:
            assert not isinstance(failure, TimeoutError)
            assert TOKEN.value not in shown(failure)

    asyncio.run(ask())


# Addresses

hosts: Final = st.one_of(
    texts(max_size=12),
    st.sampled_from(
        [
            "canary-host",
            "localhost",
            "127.0.0.1",
            "[::1]",
            "[::",
            "[fe80::1%25x]",
            "\uff2cOCALHOST",
            "ß.example",
            "xn--a",
        ]
    ),
)
urls: Final = st.one_of(
    texts(),
    st.builds(
        "{}{}{}{}{}{}".format,
        st.sampled_from(["https://", "http://", "HTTPS://", "//", "https:", "https:/\\", "ftp://", "", " https://"]),
        st.sampled_from(["", "", "canary-user:canary-pass@", "@", "a@b@", ":@"]) | texts(max_size=5).map("{}@".format),
        hosts,
        st.sampled_from(["", "", ":0", ":443", ":65536", ":x", ":", ":-1", ":٣"]),
        st.sampled_from(["", "/", "/connect/token", "\\", "/%zz", "/\ud800", "/a b", "/../"]) | texts(max_size=5),
        st.sampled_from(["", "", "?a=b", "#", "#x", "?"]),
    ),
)


def is_safe(url: URL) -> bool:
    return url.scheme == "https" or (url.scheme == "http" and is_loopback(url))


@FUZZ
@given(urls)
@example("HTTPS://XN--")
def test_token_url(url: str) -> None:
    """An address of the token endpoint is one that the secret can be sent to, or is refused."""
    outcome = outcome_of(lambda: ClientCredentials(client_id="app", client_secret=SECRET, token_url=url))
    if isinstance(outcome, ClientCredentials):
        assert is_safe(outcome.token_url)
        assert outcome.token_url.host
        assert outcome.token_url.user is None
        assert 64 == len(outcome.cache_key)


@FUZZ
@given(urls | st.lists(urls, max_size=3))
def test_origins(origins: str | list[str]) -> None:
    """Origins are safe ones, or are refused."""
    outcome_of(lambda: BearerAuthMiddleware(Source(), origins=origins))


@FUZZ
@given(urls, st.none() | texts())
def test_proxy(url: str, no_proxy: str | None) -> None:
    """A proxy, named as an argument or by the environment, is used without its password in sight, or is refused."""
    outcome_of(lambda: TokenEndpoint(CREDENTIALS, proxy=url))
    endpoint = TokenEndpoint(CREDENTIALS, trust_env=True)
    with environment({"https_proxy": url} | ({} if no_proxy is None else {"no_proxy": no_proxy})):
        outcome_of(endpoint._find_proxy)


@SLOWER
@given(urls)
@example("canary-pass")
def test_base_url(url: str) -> None:
    """A base URL is one that the token can be sent to, or is refused; by the environment, too."""

    async def open_and_close(**options: Any) -> None:
        async with open_session(CREDENTIALS, **options):
            pass

    outcome_of(lambda: asyncio.run(open_and_close(base_url=url)))
    with environment({"SIMPLESTORE_BASE_URL": url}):
        outcome_of(lambda: asyncio.run(open_and_close()))


# The environment


def environment(values: dict[str, str]) -> Any:
    """Return a context in which the environment is *values*, as far as an environment can hold them."""
    storable = {}
    for name, value in values.items():
        try:
            storable[name] = os.fsdecode(os.fsencode(value.replace("\0", "")))
        except UnicodeEncodeError:
            assume(condition=False)
    return mock.patch.dict(os.environ, storable, clear=True)


variables: Final = st.fixed_dictionaries(
    {},
    optional={
        "SIMPLESTORE_CLIENT_ID": texts() | st.just("app"),
        "SIMPLESTORE_CLIENT_SECRET": texts() | st.just(SECRET) | st.binary().map(os.fsdecode),
        "SIMPLESTORE_CLIENT_SECRET_FILE": texts()
        | st.sampled_from([".", "/", "/dev/null", "/proc/self/mem", "~", "a" * 5000]),
        "SIMPLESTORE_TOKEN_URL": urls,
        "SIMPLESTORE_SCOPE": texts() | st.binary().map(os.fsdecode),
    },
)


@FUZZ
@given(variables)
def test_environment(values: dict[str, str]) -> None:
    """An environment names credentials, or an error names the variable."""
    with environment(values):
        outcome = outcome_of(ClientCredentials.from_env)
    if isinstance(outcome, ClientCredentials):
        assert values["SIMPLESTORE_CLIENT_SECRET"] not in {"", repr(outcome)}
        assert is_safe(outcome.token_url)
    else:
        assert isinstance(outcome, ConfigurationError)
        assert "SIMPLESTORE_" in str(outcome)


keys_of_caches: Final = st.one_of(
    texts(),
    st.binary().map(os.fsdecode),
    st.binary(min_size=32, max_size=32).map(lambda key: base64.urlsafe_b64encode(key).decode()),
    st.lists(st.sampled_from([SECRET, "A" * 43 + "=", ",", " ", "#", "\n"]), max_size=4).map("".join),
)


@FUZZ
@given(keys_of_caches, texts() | st.sampled_from(["", ".", "/dev/null", "/proc/self/mem", "a" * 5000]))
def test_environment_of_the_codec(text: str, path: str) -> None:
    """An environment names keys that encrypt, or an error names the variable."""
    with environment({"SIMPLESTORE_CACHE_KEY": text, "SIMPLESTORE_CACHE_KEY_FILE": path}):
        outcome = outcome_of(FernetCodec.from_env)
    if isinstance(outcome, FernetCodec):
        assert b"data" == outcome.decode(outcome.encode(b"data"))
    else:
        assert isinstance(outcome, ConfigurationError)
        assert str(outcome).startswith("SIMPLESTORE_CACHE_KEY")


# Arguments


class Locked:
    """An object that is refused whatever is done with it."""

    def get_secret_value(self) -> str:
        raise LookupError(SECRET)

    def __fspath__(self) -> Any:
        return 5

    def __repr__(self) -> str:
        return "Locked()"

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]  # the odder the better


class Text(str):
    """A string of a type of its own."""

    __slots__ = ()


async def coroutine_function(*_: object) -> str:
    return SECRET


anything: Final[st.SearchStrategy[Any]] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from([10**400, -(10**400), nan, inf, Decimal(1), Decimal("NaN"), 1j, b"bytes", object(), int, URL("x")]),
    st.sampled_from([FileTokenCache, ClientCredentials, Exception(), len, coroutine_function, range(3), Locked()]),
    st.sampled_from(
        [SecretStr(SECRET), SecretBytes(SECRET.encode()), Text("x"), "false", "\ud800", "a\0b", "~", "\ufeff"]
    ),
    st.builds(URL.build, scheme=st.just("https"), host=st.sampled_from(["\u00fc", "1.2", "a%2e", "::1%lo", "a.."])),
    st.dictionaries(
        texts(max_size=3) | st.just("\udfff"), st.lists(texts(max_size=3) | st.none(), max_size=2), max_size=2
    ),
    texts(),
    st.binary(),
    st.lists(texts() | st.integers() | st.none(), max_size=3),
    st.tuples(st.floats() | texts(), st.floats() | st.integers()),
    st.dictionaries(texts(max_size=3), texts(max_size=3) | st.integers(), max_size=2),
    st.builds(Path, texts(max_size=5)),
    st.builds(lambda: lambda: SECRET),
)


def with_argument(make: Callable[..., Any], name: str, **others: Any) -> Any:
    return pytest.param(make, name, others, id=f"{make.__qualname__} {name}")


def client_credentials(**arguments: Any) -> object:
    defaults: dict[str, Any] = {"client_id": "app", "client_secret": SECRET}
    return ClientCredentials(**defaults | arguments)


def access_token(**arguments: Any) -> object:
    defaults: dict[str, Any] = {"value": "canary-token", "issued_at": 1.0, "expires_at": 2.0}
    return AccessToken(**defaults | arguments)


def token_endpoint(**arguments: Any) -> object:
    defaults: dict[str, Any] = {"credentials": CREDENTIALS}
    return TokenEndpoint(**defaults | arguments)


def provider(**arguments: Any) -> object:
    others: dict[str, Any] = {} if arguments.get("endpoint") is not None else {"credentials": CREDENTIALS}
    return TokenProvider(**others | arguments)


def middleware(**arguments: Any) -> object:
    defaults: dict[str, Any] = {"source": Source(), "origins": "https://canary-host"}
    return BearerAuthMiddleware(**defaults | arguments)


def session(**arguments: Any) -> object:
    async def open_and_close() -> None:
        defaults: dict[str, Any] = {"source": CREDENTIALS, "base_url": "https://canary-host"}
        async with open_session(**defaults | arguments):
            pass

    return asyncio.run(open_and_close())


ARGUMENTS: Final = [
    *[
        with_argument(client_credentials, name)
        for name in (
            *("client_id", "client_secret", "token_url", "scope", "extra_parameters", "auth_method"),
            "allow_insecure_http",
        )
    ],
    with_argument(SecretFile, "path"),
    with_argument(find_base_url, "base_url"),
    *[
        with_argument(access_token, name)
        for name in ("value", "token_type", "issued_at", "expires_at", "scope", "is_replacement")
    ],
    *[with_argument(token_endpoint, name) for name in ("credentials", "policy", "connector", "ssl", "proxy", "clock")],
    *[with_argument(provider, name) for name in ("credentials", "cache", "policy", "endpoint", "on_event", "clock")],
    *[with_argument(middleware, name) for name in ("source", "origins")],
    *[
        with_argument(session, name)
        for name in ("source", "base_url", "origins", "cache", "policy", "on_event", "ssl", "proxy")
    ],
    with_argument(FileTokenCache, "directory"),
    with_argument(FileTokenCache, "codec"),
    with_argument(FernetCodec, "keys"),
    with_argument(loads, "data"),
    *[with_argument(policy, name) for policy in (RenewalPolicy, RetryPolicy) for name in policy.__annotations__],
]
OF_OURS: Final = {"policy", "connector", "clock", "endpoint", "cache", "source", "credentials", "codec", "keys"}
"""Arguments that nothing of `anything` but None can be."""


@SLOWER
@given(value=anything)
@example(value=None)
@example(value=False)
@example(value=lambda: SECRET)
@pytest.mark.parametrize(("make", "name", "others"), ARGUMENTS)
def test_argument(make: Callable[..., Any], name: str, others: dict[str, Any], value: Any) -> None:
    """A value of any type is accepted, or refused at once with an error that names the argument."""
    with environment({"SIMPLESTORE_CLIENT_ID": "app", "SIMPLESTORE_CLIENT_SECRET": SECRET}):
        outcome = outcome_of(lambda: make(**others, **{name: value}))
    if isinstance(outcome, SimpleStoreError):
        assert name in str(outcome) or make in (loads, find_base_url) or name == "expires_at"
        assert isinstance(outcome, ConfigurationError | TokenCacheError)
    elif name in OF_OURS:
        assert value is None


# Caches

CODEC: Final = FernetCodec(Fernet.generate_key())
damaged_tokens: Final = st.tuples(st.just(dumps(TOKEN)), st.integers(0), st.binary(max_size=4)).map(damage)
odd_tokens: Final = st.dictionaries(
    st.sampled_from(["value", "token_type", "issued_at", "expires_at", "scope", "is_replacement", "version"]),
    json_values,
).map(lambda changes: json.dumps(json.loads(dumps(TOKEN)) | changes).encode())


@FUZZ
@given(st.one_of(st.binary(), damaged_tokens, odd_tokens, bodies))
def test_stored_token(data: bytes) -> None:
    """What a cache kept is a token that can be stored again, or is refused."""
    outcome = outcome_of(lambda: loads(data))
    if isinstance(outcome, AccessToken):
        assert is_visible_ascii(outcome.value)
        assert outcome == loads(dumps(outcome))
    else:
        assert isinstance(outcome, TokenCacheError)


@SLOWER
@given(texts(), st.one_of(st.binary(), damaged_tokens, odd_tokens), st.booleans())
def test_cache_file(tmp_path_factory: pytest.TempPathFactory, key: str, data: bytes, is_after_header: bool) -> None:
    """Whatever stands in a cache's file is a token or a miss, and is replaced; every text is a key."""
    folder = tmp_path_factory.mktemp("cache")
    cache = FileTokenCache(folder / "tokens")

    async def use() -> None:
        assert await cache.get(key) is None
        await cache.set(key, TOKEN)
        (path,) = (folder / "tokens").glob("token-*.json")
        header, _, whole = path.read_bytes().partition(b"\n")
        assert dumps(TOKEN) == whole
        path.write_bytes(header + b"\n" + data if is_after_header else data)
        found = await cache.get(key)
        assert found is None or (is_after_header and found == loads(data))
        await cache.set(key, TOKEN)
        assert TOKEN == await cache.get(key)

    asyncio.run(use())


@SLOWER
@given(st.one_of(st.binary(), damaged_tokens, odd_tokens), st.integers(0), st.binary(max_size=4))
def test_encrypted_cache_file(tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int, noise: bytes) -> None:
    """Whatever stands in an encrypted cache's file is a miss, unless it is what was written; so is any damage to it."""
    folder = tmp_path_factory.mktemp("cache")
    cache = FileTokenCache(folder, codec=CODEC)

    async def use() -> None:
        await cache.set("key", TOKEN)
        (path,) = folder.glob("token-*.json")
        whole = path.read_bytes()
        for content in (data, damage((whole, at, noise)), CODEC.encode(data)):
            path.write_bytes(content)
            assert (TOKEN if content == whole else None) == await cache.get("key")
        await cache.set("key", TOKEN)
        assert TOKEN == await cache.get("key")

    asyncio.run(use())
