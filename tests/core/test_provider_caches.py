"""`TokenProvider` with caches; `test_guarded_cache.py` has their failures and `test_state.py` the rules."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn, Self

import pytest

from simplestore_async import AccessToken, MemoryTokenCache, RenewalPolicy, TokenProvider
from simplestore_async.errors import ProviderClosedError, TokenCacheError, TokenEndpointError
from simplestore_async.events import CacheFailed, Event, OutageBegan, RenewalFailed, RenewalStarted, TokenReceived
from tests.support.providers import HARD, LIFE, TICK, begin, begin_held, get_at_once, of_kind

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from simplestore_async.sandbox import Sandbox
    from tests.support.clocks import FakeClock
    from tests.support.providers import Provide


class SharedCache(MemoryTokenCache):
    """A shared cache that records its calls, and whose lock takes several turns of the loop to release."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock=clock)
        self.calls: list[str] = []
        self.lock = asyncio.Lock()
        self.is_waited_for = asyncio.Event()
        self.is_being_released = asyncio.Event()

    async def get(self, key: str, /) -> AccessToken | None:
        self.calls.append("get")
        return await super().get(key)

    async def set(self, key: str, token: AccessToken, /) -> None:
        self.calls.append("set")
        await super().set(key, token)

    def renewal_lock(self, key: str, /) -> AbstractAsyncContextManager[object]:
        return self

    async def __aenter__(self) -> Self:
        self.calls.append("lock")
        self.is_waited_for.set()
        await self.lock.acquire()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.is_being_released.set()
        for _step in range(10):
            await asyncio.sleep(0)
        self.calls.append("unlock")
        self.lock.release()


def build_token(clock: FakeClock, *, age: float) -> AccessToken:
    """Return a token that another process requested *age* seconds ago."""
    issued_at = clock.time() - age
    return AccessToken("canary-cached", issued_at=issued_at, expires_at=issued_at + LIFE)


@pytest.fixture
def cache(clock: FakeClock) -> SharedCache:
    return SharedCache(clock)


@pytest.fixture
def provider(provide: Provide, cache: SharedCache) -> TokenProvider:
    return provide(cache=cache)


@pytest.fixture
def key(sandbox: Sandbox) -> str:
    return sandbox.credentials.cache_key


async def test_new_token(provider: TokenProvider, cache: SharedCache, key: str) -> None:
    """A renewal reads the cache, locks, reads again, stores the token under the credentials' key and unlocks."""
    token = await provider.get_token()

    assert ["get", "lock", "get", "set", "unlock"] == cache.calls
    assert token is await cache.get(key)


async def test_cached_token(
    *, sandbox: Sandbox, clock: FakeClock, provider: TokenProvider, cache: SharedCache, key: str, events: list[Event]
) -> None:
    """A cached token is served without lock or request and without storing it again; the event names its source."""
    stored = build_token(clock, age=600)
    await cache.set(key, stored)
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
    assert ["set", "get"] == cache.calls
    assert 0 == sandbox.counters.token_requests


async def test_newer_token_of_another_process(
    *, sandbox: Sandbox, clock: FakeClock, provider: TokenProvider, cache: SharedCache, key: str, events: list[Event]
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


class BrokenCache:
    """A cache whose reads raise and whose writes hang."""

    async def get(self, key: str, /) -> NoReturn:
        raise TokenCacheError("the disk is full", "make room")

    async def set(self, key: str, token: AccessToken, /) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize("failures", [0, 1], ids=["token", "failure"])
async def test_broken_cache(sandbox: Sandbox, provide: Provide, events: list[Event], failures: int) -> None:
    """A cache that raises and hangs fails no renewal, and its failures are reported before the outcome."""
    provider = provide(cache=BrokenCache(), policy=RenewalPolicy(cache_seconds=0.02))
    problems = [("get", "the disk is full")]
    if failures:
        sandbox.fail_next(failures)
        with pytest.raises(TokenEndpointError):
            await provider.get_token()
        outcome: list[type[Event]] = [RenewalFailed, OutageBegan]
    else:
        assert await provider.get_token() is get_at_once(provider)
        problems.append(("set", "it took longer than 0.02 s"))
        outcome = [TokenReceived]

    assert problems == [(event.operation, event.problem) for event in of_kind(CacheFailed, events)]
    assert [RenewalStarted, *[CacheFailed] * len(problems), *outcome] == [type(event) for event in events]


class TestWhileStoring:
    """Waiters get a new token once it is stored; other callers get it before."""

    @pytest.mark.parametrize("is_rejected", [False, True], ids=["expires", "is rejected"])
    @pytest.mark.parametrize("has_old_token", [False, True], ids=["no token", "an old token"])
    async def test_lost_token(self, clock: FakeClock, provide: Provide, has_old_token: bool, is_rejected: bool) -> None:
        """If the new token expires or is rejected while it is stored, its waiters get another one."""
        is_written, may_go_on = asyncio.Event(), asyncio.Event()

        class SlowToWrite(MemoryTokenCache):
            async def set(self, key: str, token: AccessToken, /) -> None:
                is_written.set()
                await may_go_on.wait()

        provider = provide(cache=SlowToWrite(clock=clock))
        if has_old_token:
            may_go_on.set()
            await provider.get_token()
            clock.advance(HARD)
            is_written.clear()
            may_go_on.clear()
        caller = await begin(provider)
        await is_written.wait()
        lost = get_at_once(provider)
        if is_rejected:
            assert provider.invalidate(lost)
        else:
            clock.advance(LIFE)
        may_go_on.set()

        assert lost.value != (await caller).value

    async def test_short_life(
        self, sandbox: Sandbox, clock: FakeClock, provider: TokenProvider, cache: SharedCache
    ) -> None:
        """A token that could expire while it is stored is not stored."""
        sandbox.lifetime_seconds = 2
        await provider.get_token()
        assert "set" not in cache.calls
        sandbox.lifetime_seconds = 3
        clock.advance(2)

        await provider.get_token()
        assert "set" in cache.calls


class TestRenewalLock:
    async def test_two_providers(
        self, sandbox: Sandbox, provide: Provide, provider: TokenProvider, cache: SharedCache, events: list[Event]
    ) -> None:
        """Two providers with one cache make one request: the second waits for the lock and finds the token."""
        held, first = await begin_held(sandbox, provider)
        cache.is_waited_for.clear()
        second = await begin(provide(cache=cache))
        await cache.is_waited_for.wait()
        held.release()

        assert await first is await second
        assert ["endpoint", "cache"] == [event.source for event in of_kind(TokenReceived, events)]
        assert 1 == sandbox.counters.token_requests == cache.calls.count("set")
        assert not cache.lock.locked()

    async def test_is_released_by_close(self, sandbox: Sandbox, provider: TokenProvider, cache: SharedCache) -> None:
        """The lock is released before aclose() returns, even if aclose() is called twice."""
        _, caller = await begin_held(sandbox, provider)

        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(provider.aclose())
                await cache.is_being_released.wait()

        assert not cache.lock.locked()
        with pytest.raises(ProviderClosedError):
            await caller
