"""`TokenProvider` over caches that fail, and locks that several providers share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn, Self

import pytest

from simplestore_async import RenewalPolicy, TokenEndpoint, TokenProvider
from simplestore_async.errors import (
    ProviderClosedError,
    TokenCacheError,
    TokenEndpointError,
    TokenError,
    TokenTimeoutError,
    TokenTransportError,
)
from simplestore_async.events import (
    CacheFailed,
    Event,
    OutageBegan,
    RenewalFailed,
    RenewalStarted,
    TokenReceived,
)
from tests.support.caches import FaultyCache, RecordingCache, build_token
from tests.support.providers import DUE, find_renewal, get_at_once, renewal_ends

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from simplestore_async import AccessToken
    from tests.support.clocks import FakeClock
    from tests.support.servers import TokenServer


class SharedCache(RecordingCache):
    """A cache with a lock, whose release takes a while, as over a network."""

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


class FaultyLockCache(FaultyCache):
    """A cache with a scripted lock."""

    def renewal_lock(self, key: str, /) -> AbstractAsyncContextManager[object]:
        if "renewal_lock" in self._faults:
            raise OSError("canary")
        return self

    async def __aenter__(self) -> None:
        if "enter" in self._faults:
            await self._faults["enter"]()

    async def __aexit__(self, *_: object) -> None:
        if "exit" in self._faults:
            await self._faults["exit"]()


async def hang() -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError


async def fail() -> NoReturn:
    raise OSError("canary")


async def explain() -> NoReturn:
    raise TokenCacheError("The disk is full. Make room")


async def give_rubbish() -> str:
    return "canary"


@pytest.fixture
def cache(clock: FakeClock) -> RecordingCache:
    return RecordingCache(clock)


@pytest.fixture
def shared(clock: FakeClock) -> SharedCache:
    return SharedCache(clock)


@pytest.fixture
def key(token_server: TokenServer) -> str:
    return token_server.credentials().cache_key


class TestFaultyCache:
    @pytest.mark.parametrize(
        ("faults", "failures"),
        [
            pytest.param({"get": fail}, [("get", "it raised OSError")], id="get raises"),
            pytest.param({"get": explain}, [("get", "The disk is full. Make room")], id="get explains"),
            pytest.param({"get": hang}, [("get", "it took longer than 0.02 s")], id="get hangs"),
            pytest.param(
                {"get": give_rubbish}, [("get", "it returned str instead of an AccessToken")], id="get gives rubbish"
            ),
            pytest.param({"set": fail}, [("set", "it raised OSError")], id="set raises"),
            pytest.param({"set": explain}, [("set", "The disk is full. Make room")], id="set explains"),
            pytest.param({"set": hang}, [("set", "it took longer than 0.02 s")], id="set hangs"),
            pytest.param(
                {"get": fail, "set": explain},
                [("get", "it raised OSError"), ("set", "The disk is full. Make room")],
                id="both",
            ),
        ],
    )
    async def test_costs_no_token(
        self, token_server: TokenServer, events: list[Event], faults: dict[str, Any], failures: list[tuple[str, str]]
    ) -> None:
        """A cache that raises, hangs or returns rubbish costs no caller its token; events do not quote it."""
        policy = RenewalPolicy(cache_seconds=0.02)
        cache = FaultyCache(**faults)
        async with token_server.provider(cache=cache, policy=policy, on_event=events.append) as provider:
            token = await provider.get_token()
            assert token is get_at_once(provider)

        assert "canary-token-1" == token.value
        assert failures == [(event.operation, event.problem) for event in events if isinstance(event, CacheFailed)]
        assert [RenewalStarted, *[CacheFailed] * len(failures), TokenReceived] == [type(event) for event in events]

    async def test_endpoint_fails_as_well(self, token_server: TokenServer, events: list[Event]) -> None:
        """When the endpoint also fails, both are reported, and callers get the endpoint's error."""
        token_server.replies = [400]
        async with token_server.provider(cache=FaultyCache(get=fail), on_event=events.append) as provider:
            with pytest.raises(TokenEndpointError):
                await provider.get_token()

        assert [RenewalStarted, CacheFailed, RenewalFailed, OutageBegan] == [type(event) for event in events]

    async def test_held_token_needs_no_cache(self, token_server: TokenServer, clock: FakeClock) -> None:
        """A cache that hangs delays no caller while a token is valid."""
        cache = FaultyCache(get=hang)
        policy = RenewalPolicy(cache_seconds=0.02)
        async with token_server.provider(clock=clock, cache=cache, policy=policy) as provider:
            old = await provider.get_token()
            clock.advance(DUE)

            assert old is get_at_once(provider)
            await renewal_ends()
            assert "canary-token-2" == get_at_once(provider).value

    async def test_callers_who_come_later_do_not_wait_for_the_store(self, token_server: TokenServer) -> None:
        """While the token is being stored it is held already: a call that comes now gets it at once."""
        is_storing = asyncio.Event()

        async def store() -> None:
            is_storing.set()
            await hang()

        async with token_server.provider(cache=FaultyCache(set=store)) as provider:
            caller = asyncio.create_task(provider.get_token())
            await is_storing.wait()

            assert "canary-token-1" == get_at_once(provider).value
        with pytest.raises(ProviderClosedError):
            await caller


class TestRenewalLock:
    async def test_cache_is_asked_again_under_the_lock(
        self, token_server: TokenServer, clock: FakeClock, shared: SharedCache
    ) -> None:
        """The order is: look, lock, look again, fetch, store, unlock."""
        async with token_server.provider(clock=clock, cache=shared) as provider:
            await provider.get_token()

        assert ["get", "lock", "get", "set", "unlock"] == shared.calls

    async def test_is_not_taken_without_need(
        self, token_server: TokenServer, clock: FakeClock, shared: SharedCache, key: str
    ) -> None:
        """A token in the cache is taken without the lock."""
        await shared.set(key, build_token(clock))
        async with token_server.provider(clock=clock, cache=shared) as provider:
            await provider.get_token()

        assert ["set", "get"] == shared.calls

    async def test_two_providers_make_one_request(
        self, token_server: TokenServer, clock: FakeClock, shared: SharedCache, events: list[Event]
    ) -> None:
        """Two cold providers over one cache make one request; the second waits, and finds the first one's token."""
        token_server.gate.clear()
        async with (
            token_server.provider(clock=clock, cache=shared) as one,
            token_server.provider(clock=clock, cache=shared, on_event=events.append) as other,
        ):
            first = asyncio.create_task(one.get_token())
            await token_server.arrived.wait()
            shared.is_waited_for.clear()
            second = asyncio.create_task(other.get_token())
            await shared.is_waited_for.wait()
            token_server.gate.set()

            assert await first is await second
        assert ["cache"] == [event.source for event in events if isinstance(event, TokenReceived)]
        assert 1 == len(token_server.requests)
        assert not shared.lock.locked()

    async def test_hangs(
        self, token_server: TokenServer, clock: FakeClock, shared: SharedCache, events: list[Event]
    ) -> None:
        """A lock that is not granted in time is left to its holder, and the renewal goes on."""
        await shared.lock.acquire()
        policy = RenewalPolicy(lock_seconds=0.02)
        async with token_server.provider(clock=clock, cache=shared, policy=policy, on_event=events.append) as provider:
            assert "canary-token-1" == (await provider.get_token()).value

        assert [CacheFailed(operation="lock", problem="another process held it for longer than 0.02 s")] == [
            event for event in events if isinstance(event, CacheFailed)
        ]
        assert ["get", "lock", "get", "set"] == shared.calls
        assert shared.lock.locked()

    async def test_hangs_after_its_holder_renewed(
        self, token_server: TokenServer, clock: FakeClock, shared: SharedCache, key: str
    ) -> None:
        """The lock holder's token is taken, although the lock cannot be acquired."""
        await shared.lock.acquire()
        stored = build_token(clock)
        policy = RenewalPolicy(lock_seconds=0.02)
        async with token_server.provider(clock=clock, cache=shared, policy=policy) as provider:
            caller = asyncio.create_task(provider.get_token())
            await shared.is_waited_for.wait()
            await shared.set(key, stored)

            assert stored is await caller
        assert [] == token_server.requests

    @pytest.mark.parametrize(
        ("fault", "failures"),
        [
            ({"renewal_lock": fail}, [("lock", "it raised OSError")]),
            ({"enter": fail}, [("lock", "it raised OSError")]),
            ({"enter": explain}, [("lock", "The disk is full. Make room")]),
            ({"exit": fail}, [("lock", "it raised OSError")]),
            ({"exit": hang}, [("lock", "it took longer than 0.02 s")]),
            ({}, []),
        ],
        ids=["cannot be made", "enter raises", "enter explains", "exit raises", "exit hangs", "no fault"],
    )
    async def test_fails(
        self, token_server: TokenServer, events: list[Event], fault: dict[str, Any], failures: list[tuple[str, str]]
    ) -> None:
        """A lock that fails costs no caller its token."""
        policy = RenewalPolicy(cache_seconds=0.02)
        cache = FaultyLockCache(**fault)
        async with token_server.provider(cache=cache, policy=policy, on_event=events.append) as provider:
            assert "canary-token-1" == (await provider.get_token()).value

        assert failures == [(event.operation, event.problem) for event in events if isinstance(event, CacheFailed)]

    async def test_is_released_after_a_failure(
        self, token_server: TokenServer, clock: FakeClock, shared: SharedCache
    ) -> None:
        """A failing renewal releases the lock before its callers get the error."""
        token_server.replies = [400]
        async with token_server.provider(clock=clock, cache=shared) as provider:
            with pytest.raises(TokenEndpointError):
                await provider.get_token()

            assert not shared.lock.locked()

    async def test_is_released_after_a_defect(
        self, token_server: TokenServer, clock: FakeClock, shared: SharedCache
    ) -> None:
        """So does one that runs into a defect."""

        class Broken(TokenEndpoint):
            async def fetch(self, *, deadline: float, may_retry: Callable[[], bool]) -> tuple[AccessToken, float]:
                raise ZeroDivisionError

        endpoint = Broken(token_server.credentials(), clock=clock)
        async with TokenProvider(endpoint=endpoint, cache=shared) as provider:
            with pytest.raises(TokenError, match="unexpected ZeroDivisionError"):
                await provider.get_token()

            assert not shared.lock.locked()

    async def test_is_released_when_the_budget_is_spent(
        self, token_server: TokenServer, clock: FakeClock, shared: SharedCache
    ) -> None:
        """So does one that has used its budget up: others need the lock all the more."""
        token_server.gate.clear()
        policy = RenewalPolicy(budget_seconds=0.05)
        async with token_server.provider(clock=clock, cache=shared, policy=policy) as provider:
            with pytest.raises(TokenTimeoutError):
                await provider.get_token()
            token_server.gate.set()

            assert not shared.lock.locked()

    async def test_is_released_after_a_cancellation(
        self, token_server: TokenServer, clock: FakeClock, shared: SharedCache
    ) -> None:
        """So does one that a third party cancels."""
        token_server.gate.clear()
        async with token_server.provider(clock=clock, cache=shared) as provider:
            caller = asyncio.create_task(provider.get_token())
            await token_server.arrived.wait()
            find_renewal().cancel()

            with pytest.raises(TokenTransportError):
                await caller
            assert not shared.lock.locked()
        token_server.gate.set()

    @pytest.mark.parametrize("times", [1, 2])
    async def test_is_released_by_close(
        self, token_server: TokenServer, clock: FakeClock, shared: SharedCache, times: int
    ) -> None:
        """The lock is released before aclose() returns, also if it is called again meanwhile."""
        token_server.gate.clear()
        provider = token_server.provider(clock=clock, cache=shared)
        caller = asyncio.create_task(provider.get_token())
        await token_server.arrived.wait()

        async with asyncio.TaskGroup() as group:
            for _ in range(times):
                group.create_task(provider.aclose())
                await shared.is_being_released.wait()
        token_server.gate.set()

        assert not shared.lock.locked()
        with pytest.raises(ProviderClosedError):
            await caller

    async def test_close_while_waiting_for_it(
        self, token_server: TokenServer, clock: FakeClock, shared: SharedCache
    ) -> None:
        """A provider that is closed while it waits for the lock does not take it afterwards."""
        await shared.lock.acquire()
        provider = token_server.provider(clock=clock, cache=shared)
        caller = asyncio.create_task(provider.get_token())
        await shared.is_waited_for.wait()

        await provider.aclose()
        shared.lock.release()

        with pytest.raises(ProviderClosedError):
            await caller
        assert not shared.lock.locked()
        assert ["get", "lock"] == shared.calls
        assert [] == token_server.requests
