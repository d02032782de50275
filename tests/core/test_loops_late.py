"""One provider on two event loops: late results. `test_state.py` has the rules."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from simplestore_async import AccessToken, MemoryTokenCache, TokenProvider
from simplestore_async.events import Event, OutageBegan, RenewalFailed, TokenReceived
from tests.support.loops import other_loop
from tests.support.providers import DUE, TICK, begin, get_at_once, of_kind

if TYPE_CHECKING:
    from simplestore_async.sandbox import Sandbox
    from tests.support.clocks import FakeClock
    from tests.support.providers import Provide


async def test_late_token(sandbox: Sandbox, clock: FakeClock, provide: Provide, events: list[Event]) -> None:
    """A token that was requested earlier but arrives later is discarded, and its waiters get the newer one."""
    cache = MemoryTokenCache(clock=clock)
    provider = provide(cache=cache)
    async with other_loop() as start:
        late = sandbox.token_endpoint.hold()
        caller = await begin(provider)
        await late.wait_for_requests()
        clock.advance(60)
        sandbox.token_endpoint.hold().release()
        newer = await start(provider.get_token())
        assert newer is get_at_once(provider)

        late.release()

        assert newer is await caller
        assert newer is get_at_once(provider)
        assert newer is await cache.get(sandbox.credentials.cache_key)
    assert [("endpoint", 3_600.0), ("memory", 3_600.0)] == [
        (event.source, event.life_seconds) for event in of_kind(TokenReceived, events)
    ]
    assert 2 == sandbox.counters.tokens_issued


async def test_late_failure(sandbox: Sandbox, provider: TokenProvider, events: list[Event]) -> None:
    """A renewal that fails after another loop's succeeded serves the newer token and reports no failure."""
    async with other_loop() as start:
        sandbox.fail_next(1)
        late = sandbox.token_endpoint.hold()
        caller = await begin(provider)
        await late.wait_for_requests()
        sandbox.token_endpoint.hold().release()
        newer = await start(provider.get_token())
        late.release()

        assert newer is await caller
        # The provider does not back off either.
        assert provider.invalidate(newer)
    assert [] == of_kind(RenewalFailed, events) + of_kind(OutageBegan, events)
    assert ["endpoint", "memory"] == [event.source for event in of_kind(TokenReceived, events)]


async def test_failure_finds_a_due_token(
    sandbox: Sandbox, clock: FakeClock, provider: TokenProvider, events: list[Event]
) -> None:
    """If the other loop's token is already due, the callers get it but the failure is reported."""
    async with other_loop() as start:
        late = sandbox.token_endpoint.hold()
        token = start(provider.get_token())
        await late.wait_for_requests()
        clock.advance(DUE)
        sandbox.fail_next(1)
        failure = sandbox.token_endpoint.hold()
        caller = await begin(provider)
        await failure.wait_for_requests()
        late.release()
        await token
        failure.release()

        assert await token is await caller
        assert not provider.invalidate(await token)
    assert [True] == [event.is_token_alive for event in of_kind(RenewalFailed, events)]


@pytest.mark.parametrize("is_due", [False, True], ids=["fresh", "due"])
async def test_token_during_the_cache_read(
    *, sandbox: Sandbox, clock: FakeClock, provide: Provide, events: list[Event], is_due: bool
) -> None:
    """A token that another loop obtained during a slow cache read is used unless it is due."""
    is_read, may_go_on = asyncio.Event(), asyncio.Event()
    here = asyncio.get_running_loop()

    class SlowHere(MemoryTokenCache):
        async def get(self, key: str, /) -> AccessToken | None:
            if asyncio.get_running_loop() is here:
                is_read.set()
                await may_go_on.wait()
            return None

    provider = provide(cache=SlowHere())
    async with other_loop() as start:
        caller = await begin(provider)
        await is_read.wait()
        newer = await start(provider.get_token())
        clock.advance(DUE if is_due else 1_600)
        may_go_on.set()

        assert is_due is (newer is not await caller)
    assert ["endpoint", "endpoint" if is_due else "memory"] == [
        event.source for event in of_kind(TokenReceived, events)
    ]
    assert (2 if is_due else 1) == sandbox.counters.token_requests


async def test_two_replacements(sandbox: Sandbox, clock: FakeClock, provider: TokenProvider) -> None:
    """If two loops replace one rejected token, the later token counts as a replacement and is kept while young."""
    provider.invalidate(await provider.get_token())
    async with other_loop() as start:
        earlier = sandbox.token_endpoint.hold()
        first = await begin(provider)
        await earlier.wait_for_requests()
        clock.advance(TICK)
        later = sandbox.token_endpoint.hold()
        second = start(provider.get_token())
        await later.wait_for_requests()
        earlier.release()
        await first
        later.release()

        assert not provider.invalidate(await second)
        assert await second is get_at_once(provider)
