"""`TokenProvider` with failing caches and the renewal lock; `test_guarded_cache.py` has every kind of failure."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn, Self

import pytest

from simplestore_async import RenewalPolicy, TokenProvider
from simplestore_async.errors import ProviderClosedError, TokenCacheError, TokenEndpointError
from simplestore_async.events import CacheFailed, Event, OutageBegan, RenewalFailed, RenewalStarted, TokenReceived
from tests.support.caches import RecordingCache, build_token
from tests.support.providers import begin, get_at_once, of_kind

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from simplestore_async import AccessToken
    from simplestore_async.sandbox import Sandbox
    from tests.support.clocks import FakeClock
    from tests.support.providers import Provide


class BrokenCache:
    """A cache whose reads raise and whose writes hang."""

    async def get(self, key: str, /) -> NoReturn:
        raise TokenCacheError("the disk is full", "make room")

    async def set(self, key: str, token: AccessToken, /) -> None:
        await asyncio.Event().wait()


class SharedCache(RecordingCache):
    """A shared cache whose lock takes several turns of the loop to release, as over a network."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.lock = asyncio.Lock()
        self.is_waited_for = asyncio.Event()
        self.is_being_released = asyncio.Event()

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


@pytest.fixture
def shared(clock: FakeClock) -> SharedCache:
    return SharedCache(clock)


@pytest.fixture
def provider(provide: Provide, shared: SharedCache) -> TokenProvider:
    return provide(cache=shared)


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


class TestRenewalLock:
    async def test_order(self, provider: TokenProvider, shared: SharedCache) -> None:
        """A renewal reads the cache, locks, reads again, stores the new token and unlocks."""
        await provider.get_token()

        assert ["get", "lock", "get", "set", "unlock"] == shared.calls

    async def test_cache_hit(
        self, sandbox: Sandbox, clock: FakeClock, provider: TokenProvider, shared: SharedCache
    ) -> None:
        """A cached token is used without the lock."""
        await shared.set(sandbox.credentials.cache_key, build_token(clock))
        await provider.get_token()

        assert ["set", "get"] == shared.calls

    async def test_two_providers(
        self, sandbox: Sandbox, provide: Provide, provider: TokenProvider, shared: SharedCache, events: list[Event]
    ) -> None:
        """Two providers with one cache make one request: the second waits for the lock and finds the token."""
        held = sandbox.token_endpoint.hold()
        first = await begin(provider)
        await held.wait_for_requests()
        shared.is_waited_for.clear()
        second = await begin(provide(cache=shared))
        await shared.is_waited_for.wait()
        held.release()

        assert await first is await second
        assert ["endpoint", "cache"] == [event.source for event in of_kind(TokenReceived, events)]
        assert 1 == sandbox.counters.token_requests == shared.calls.count("set")
        assert not shared.lock.locked()

    async def test_is_released_after_a_failure(
        self, sandbox: Sandbox, provider: TokenProvider, shared: SharedCache
    ) -> None:
        """A failing renewal releases the lock before callers get the error."""
        sandbox.fail_next(1)
        with pytest.raises(TokenEndpointError):
            await provider.get_token()

        assert not shared.lock.locked()

    async def test_is_released_by_close(self, sandbox: Sandbox, provider: TokenProvider, shared: SharedCache) -> None:
        """The lock is released before aclose() returns, even if aclose() is called twice."""
        held = sandbox.token_endpoint.hold()
        caller = await begin(provider)
        await held.wait_for_requests()

        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(provider.aclose())
                await shared.is_being_released.wait()

        assert not shared.lock.locked()
        with pytest.raises(ProviderClosedError):
            await caller
