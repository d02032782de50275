"""No error or log of the package shows the secret or a token.

`test_redaction` tests the values alone, `test_wire_table` responses of a token endpoint, `test_encryption` keys.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from simplestore_async import AccessToken, FileTokenCache, errors, open_session
from simplestore_async.batch import BatchDatabase, BatchPolicy, run_batch
from tests.support.api_servers import ConnectProxy, refusing_url
from tests.support.batches import write_requests
from tests.support.raw_server import RawServer
from tests.support.secrecy import BASIC, LONG_TOKEN, Scene, show_every_step, shows_canary
from tests.support.servers import SECRET
from tests.support.tracebacks import everything_shown
from tests.support.wire_faults import hangs_after, says

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from simplestore_async.batch import RequestFile
    from tests.support.raw_server import Script

# The expected error of each scenario, and the scenario.
FAILURES: dict[str, tuple[type[BaseException], Callable[[Scene], Awaitable[object]]]] = {}


def fails_with(error: type[BaseException]) -> Callable[[Callable[[Scene], Awaitable[object]]], Any]:
    def register(scenario: Callable[[Scene], Awaitable[object]]) -> None:
        FAILURES[scenario.__name__.strip("_")] = error, scenario

    return register


@fails_with(errors.InvalidClientError)
async def _wrong_client(scene: Scene) -> None:
    description = f"got Basic {BASIC} for {SECRET}"
    scene.reply(401, {"error": "invalid_client", "error_description": description, "title": SECRET, "secret": SECRET})
    await scene.get_token(scene.credentials(auth_method="client_secret_basic"))


@fails_with(errors.TokenEndpointError)
async def _endpoint_down(scene: Scene) -> None:
    scene.reply(500, {"error": SECRET, "error_description": SECRET})
    await scene.get_token()


@fails_with(errors.TokenResponseError)
async def _damaged_token(scene: Scene) -> None:
    scene.reply(200, {"access_token": f"{LONG_TOKEN} {SECRET}"})
    await scene.get_token()


@fails_with(errors.TokenTimeoutError)
async def _silence(scene: Scene) -> None:
    async with RawServer(hangs_after()) as server:
        await scene.get_token(scene.credentials(token_url=server.url), attempts=1, attempt_seconds=0.05)


@fails_with(errors.TokenTransportError)
async def _endpoint_refuses_connections(scene: Scene) -> None:
    await scene.get_token(scene.credentials(token_url=refusing_url()))


@fails_with(errors.TokenError)
async def _failing_callable(scene: Scene) -> None:
    def read() -> str:
        raise LookupError(SECRET)

    await scene.get_token(scene.credentials(client_secret=read))


@fails_with(errors.ConfigurationError)
async def _no_client_id(scene: Scene) -> None:
    scene.environment.setenv("SIMPLESTORE_CLIENT_SECRET", SECRET)
    scene.environment.delenv("SIMPLESTORE_CLIENT_ID", raising=False)
    async with open_session(base_url="https://api.example"):
        pass


@fails_with(errors.ProviderClosedError)
async def _closed(scene: Scene) -> None:
    async with scene.token_server.provider() as provider:
        await provider.get_token()
    await provider.get_token()


@fails_with(errors.TokenCacheError)
async def _no_directory(scene: Scene) -> None:
    (scene.tmp_path / "file").touch()
    await FileTokenCache(scene.tmp_path / "file").set("key", AccessToken(LONG_TOKEN, issued_at=0, expires_at=1))


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


async def _ask_api(scene: Scene, *, script: Script, **options: Any) -> None:
    async with (
        RawServer(script) as server,
        open_session(scene.token_server.credentials(), base_url=server.url) as session,
        session.post("/", data=b"body", **options) as response,
    ):
        await response.json()


API_FAULTS: list[tuple[type[Exception], Script, dict[str, Any]]] = [
    (aiohttp.ServerDisconnectedError, says(), {}),
    (aiohttp.ClientPayloadError, says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"), {}),
    (TimeoutError, hangs_after(), {"timeout": aiohttp.ClientTimeout(total=0.1)}),
    (ValueError, says(), {"headers": {"X-Tag": "line\r\nbreak"}}),
]
FAILURES |= {
    f"api_{error.__name__}": (error, partial(_ask_api, script=script, **options))
    for error, script, options in API_FAULTS
}


@fails_with(aiohttp.ClientHttpProxyError)
async def _api_behind_refusing_proxy(scene: Scene) -> None:
    async with (
        RawServer(says(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")) as proxy,
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
    file.check()
    file.path.write_text("oops")
    async with open_session(scene.token_server.credentials(), base_url=file.base_url) as session:
        await run_batch(file, session=session)


@fails_with(errors.BatchError)
async def _batch_without_api(scene: Scene) -> None:
    file = _write_batch(scene)
    async with open_session(scene.token_server.credentials(), base_url=file.base_url) as session:
        await run_batch(file, session=session, policy=BatchPolicy(patience_seconds=0.001))


@fails_with(errors.BatchDatabaseError)
async def _batch_in_use(scene: Scene) -> None:
    file = _write_batch(scene)
    with BatchDatabase(scene.tmp_path / "batch", requests=file):
        BatchDatabase(scene.tmp_path / "batch", requests=file)


@pytest.mark.parametrize("name", FAILURES)
async def test_error(scene: Scene, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """Neither the log nor the error's attributes and traceback with locals show a canary."""
    show_every_step(caplog)
    expected, scenario = FAILURES[name]
    with pytest.raises(expected) as caught:
        await scenario(scene)

    assert not shows_canary(everything_shown(caught.value))
    assert [] == [line for line in caplog.text.splitlines() if shows_canary(line)]


def test_every_error() -> None:
    """The scenarios include every error of the package."""
    bases = {"SimpleStoreError"}
    assert set(errors.__all__) - bases <= {error.__name__ for error, _ in FAILURES.values()}
