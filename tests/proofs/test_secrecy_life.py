"""Logs and events of a program show neither the secret nor a token."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from simplestore_async import (
    AccessToken,
    FileTokenCache,
    RenewalPolicy,
    TokenEndpoint,
    TokenProvider,
    errors,
    events,
    open_session,
)
from simplestore_async.caches.encryption import FernetCodec
from tests.support.secrecy import (
    CACHE_KEY,
    LONG_SECRET,
    LONG_TOKEN,
    WAYS,
    Scene,
    read_secret,
    show_every_step,
    shows_canary,
    write_secret,
)

if TYPE_CHECKING:
    from tests.support.clocks import FakeClock


class FailingCache:
    """A cache whose errors quote their arguments."""

    async def get(self, key: str, /) -> AccessToken | None:
        raise LookupError(LONG_TOKEN)

    async def set(self, key: str, token: AccessToken, /) -> None:
        raise LookupError(str(token.value))


async def read_secret_slowly() -> str:
    await asyncio.sleep(0)
    return read_secret()


async def live_a_life(scene: Scene, clock: FakeClock, received: list[events.Event], **changes: Any) -> None:
    """Use the whole package, successfully and not, so that every event is reported."""

    def listen(event: events.Event) -> None:
        received.append(event)
        raise LookupError("a listener that fails")

    server, api = scene.token_server, scene.api_server
    credentials = server.credentials(**{"client_secret": LONG_SECRET} | changes)
    endpoint = TokenEndpoint(credentials, policy=scene.retry, clock=clock)
    files = FileTokenCache(scene.tmp_path / "tokens", codec=FernetCodec(CACHE_KEY))
    async with (
        TokenProvider(
            endpoint=endpoint, cache=files, policy=RenewalPolicy(max_wait_seconds=2.0**-10), on_event=listen
        ) as provider,
        open_session(provider, base_url=api.url, middlewares=[]) as session,
    ):
        await (await session.post("/", json={})).read()
        api.rejected.add("canary-token-1")
        await (await session.post("/", json={})).read()
        api.rejected.add("canary-token-2")
        await (await session.post("/", json={})).read()
        clock.advance(server.lifetime - 20)
        server.gate.clear()
        await provider.get_token()  # overdue: the old token
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
    async with server.provider(retry=scene.retry, cache=FailingCache(), on_event=listen) as failing:
        await failing.get_token()
        server.gate.clear()
        failing.invalidate(await failing.get_token())
        server.arrived.clear()
        waiter = asyncio.create_task(failing.get_token())
        await server.arrived.wait()
    await asyncio.wait([waiter])
    server.gate.set()
    assert isinstance(waiter.exception(), errors.ProviderClosedError)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="form"),
        pytest.param({"auth_method": "client_secret_basic"}, id="basic", marks=pytest.mark.slow),
        pytest.param({"client_secret": read_secret_slowly}, id="coroutine", marks=pytest.mark.slow),
        pytest.param({"client_secret": write_secret}, id="file", marks=pytest.mark.slow),
    ],
)
async def test_life(
    scene: Scene,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    changes: dict[str, Any],
) -> None:
    """With all loggers at DEBUG and asyncio in debug mode, no canary is logged or printed or in an event."""
    show_every_step(caplog)
    received: list[events.Event] = []
    if changes.get("client_secret") is write_secret:
        changes = {"client_secret": write_secret(scene.tmp_path / "secret")}
    await live_a_life(scene, clock, received, **changes)

    assert "took 0.000 seconds" in caplog.text
    assert "simplestore_async" in caplog.text
    assert [] == [line for line in caplog.text.splitlines() if shows_canary(line)]
    assert ("", "") == capfd.readouterr()
    kinds = {name for name in events.__all__ if isinstance(getattr(events, name), type)} - {"Event"}
    assert kinds == {type(event).__name__ for event in received}
    assert [] == [event for event in received for show in WAYS.values() if shows_canary(show(event))]
