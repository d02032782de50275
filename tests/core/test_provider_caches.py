"""`TokenProvider` with working caches; `test_state.py` has the rules for a cached token."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from simplestore_async import AccessToken, MemoryTokenCache, TokenProvider
from simplestore_async.events import Event, RenewalStarted, TokenReceived
from tests.support.caches import RecordingCache, build_token
from tests.support.providers import HARD, LIFE, TICK, begin, get_at_once, of_kind

if TYPE_CHECKING:
    from simplestore_async.sandbox import Sandbox
    from tests.support.clocks import FakeClock
    from tests.support.providers import Provide


@pytest.fixture
def cache(clock: FakeClock) -> RecordingCache:
    return RecordingCache(clock)


@pytest.fixture
def provider(provide: Provide, cache: RecordingCache) -> TokenProvider:
    return provide(cache=cache)


@pytest.fixture
def key(sandbox: Sandbox) -> str:
    return sandbox.credentials.cache_key


async def test_token_is_stored(provider: TokenProvider, cache: RecordingCache, key: str) -> None:
    """A new token is stored under the key of the credentials, after one read."""
    token = await provider.get_token()

    assert ["get", "set"] == cache.calls
    assert token is await cache.get(key)


async def test_cached_token(
    *,
    sandbox: Sandbox,
    clock: FakeClock,
    provider: TokenProvider,
    cache: RecordingCache,
    key: str,
    events: list[Event],
) -> None:
    """A cached token is served without a request and without storing it again, and the event names its source."""
    stored = build_token(clock, age=600)
    await cache.set(key, stored)
    del cache.calls[:]
    assert stored is await provider.get_token()
    assert stored is get_at_once(provider)

    assert [
        RenewalStarted(cause="first"),
        TokenReceived(
            cause="first",
            source="cache",
            is_unchanged=False,
            duration_seconds=0.0,
            life_seconds=3_000.0,
            waiter_count=1,
        ),
    ] == events
    assert ["get"] == cache.calls
    assert 0 == sandbox.counters.token_requests


async def test_without_a_cache(provide: Provide) -> None:
    """Providers without a cache do not share tokens."""
    assert (await provide().get_token()).value != (await provide().get_token()).value


async def test_newer_token_of_another_process(
    *, sandbox: Sandbox, clock: FakeClock, provider: TokenProvider, cache: RecordingCache, key: str, events: list[Event]
) -> None:
    """A rejected token is replaced from the cache without a request, and the cached token counts as a replacement."""
    provider.invalidate(await provider.get_token())
    clock.advance(3)
    stored = build_token(clock, age=2)
    await cache.set(key, stored)

    taken = await provider.get_token()

    assert (stored.value, True) == (taken.value, taken.is_replacement)
    clock.advance(3 - TICK)
    assert not provider.invalidate(taken)
    clock.advance(TICK)
    assert provider.invalidate(taken)
    assert [("first", "endpoint"), ("rejected", "cache")] == [
        (event.cause, event.source) for event in of_kind(TokenReceived, events)
    ]
    assert 1 == sandbox.counters.token_requests


class SlowToWrite(MemoryTokenCache):
    """A cache whose writes block until `may_go_on` is set."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock=clock)
        self.is_written, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def set(self, key: str, token: AccessToken, /) -> None:
        self.is_written.set()
        await self.may_go_on.wait()


class TestWhileStoring:
    """Waiters get a new token once it is stored; other callers get it before."""

    @pytest.mark.parametrize("is_rejected", [False, True], ids=["expires", "is rejected"])
    @pytest.mark.parametrize("has_old_token", [False, True], ids=["no token", "an old token"])
    async def test_lost_token(self, clock: FakeClock, provide: Provide, has_old_token: bool, is_rejected: bool) -> None:
        """If the new token expires or is rejected while it is stored, its waiters get another one."""
        cache = SlowToWrite(clock)
        provider = provide(cache=cache)
        if has_old_token:
            cache.may_go_on.set()
            await provider.get_token()
            clock.advance(HARD)
            cache.is_written.clear()
            cache.may_go_on.clear()
        caller = await begin(provider)
        await cache.is_written.wait()
        lost = get_at_once(provider)
        if is_rejected:
            assert provider.invalidate(lost)
        else:
            clock.advance(LIFE)
        cache.may_go_on.set()

        assert lost.value != (await caller).value

    async def test_short_life(
        self, sandbox: Sandbox, clock: FakeClock, provider: TokenProvider, cache: RecordingCache
    ) -> None:
        """A token that could expire while it is stored is not stored."""
        sandbox.lifetime_seconds = 2
        await provider.get_token()
        assert ["get"] == cache.calls
        sandbox.lifetime_seconds = 3
        clock.advance(2)

        await provider.get_token()
        assert ["get", "get", "set"] == cache.calls
