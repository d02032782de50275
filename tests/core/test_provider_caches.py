"""`TokenProvider` over caches: tokens from elsewhere, caches that fail, and locks that several providers share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn, Self

import pytest

from simplestore_async import AccessToken, MemoryTokenCache, RenewalPolicy, RetryPolicy, TokenEndpoint, TokenProvider
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
    OutageEnded,
    RenewalFailed,
    RenewalStarted,
    TokenReceived,
)
from tests.support.providers import DUE, HARD, LIFE, TICK, get_at_once, renewal_ends

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from simplestore_async._core.endpoint import Receipt
    from tests.support.clocks import FakeClock
    from tests.support.servers import TokenServer

ONCE = RetryPolicy(attempts=1)


class RecordingCache(MemoryTokenCache):
    """A cache that counts what is asked of it."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock=clock)
        self.calls: list[str] = []

    async def get(self, key: str, /) -> AccessToken | None:
        self.calls.append("get")
        return await super().get(key)

    async def set(self, key: str, token: AccessToken, /) -> None:
        self.calls.append("set")
        await super().set(key, token)


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


class FaultyCache:
    """A cache whose coroutines do what a test says; without a word, nothing is in it."""

    def __init__(self, **faults: Callable[[], Awaitable[Any]]) -> None:
        self._faults = faults

    async def get(self, key: str, /) -> AccessToken | None:
        token: AccessToken | None = await self._faults["get"]() if "get" in self._faults else None
        return token

    async def set(self, key: str, token: AccessToken, /) -> None:
        if "set" in self._faults:
            await self._faults["set"]()


class FaultyLockCache(FaultyCache):
    """A cache whose lock does what a test says."""

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


def find_renewal() -> asyncio.Task[Any]:
    """Return the only task that runs code of the package and was started by the package."""
    codes = {task: getattr(task.get_coro(), "cr_code", None) for task in asyncio.all_tasks()}
    [renewal] = [
        task
        for task, code in codes.items()
        if code and "simplestore_async" in code.co_filename and code.co_name != "get_token"
    ]
    return renewal


def build_token(clock: FakeClock, *, age: float = 0, life: float = LIFE, value: str = "canary-cached") -> AccessToken:
    """Return a token that another process asked for *age* seconds ago."""
    issued_at = clock.time() - age
    return AccessToken(value, issued_at=issued_at, expires_at=issued_at + life)


@pytest.fixture
def cache(clock: FakeClock) -> RecordingCache:
    return RecordingCache(clock)


@pytest.fixture
def shared(clock: FakeClock) -> SharedCache:
    return SharedCache(clock)


@pytest.fixture
def key(token_server: TokenServer) -> str:
    return token_server.credentials().cache_key


class TestKeeping:
    async def test_token_is_stored(
        self, token_server: TokenServer, clock: FakeClock, cache: RecordingCache, key: str
    ) -> None:
        """The cache is asked once, and is given the token that came, under the credentials' key."""
        async with token_server.provider(clock=clock, cache=cache) as provider:
            token = await provider.get_token()

            assert ["get", "set"] == cache.calls
            assert token is await cache.get(key)

    async def test_stored_token_serves(
        self, token_server: TokenServer, clock: FakeClock, cache: RecordingCache, key: str, events: list[Event]
    ) -> None:
        """A token in the cache is served without a request, and is not stored again; the event names its source."""
        stored = build_token(clock, age=600)
        await cache.set(key, stored)
        del cache.calls[:]
        async with token_server.provider(clock=clock, cache=cache, on_event=events.append) as provider:
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
        assert [] == token_server.requests

    async def test_without_a_cache(self, token_server: TokenServer) -> None:
        """Providers that are given no cache share none."""
        async with token_server.provider() as one, token_server.provider() as other:
            assert (await one.get_token()).value != (await other.get_token()).value

    async def test_stored_token_ends_an_outage(
        self, token_server: TokenServer, clock: FakeClock, cache: RecordingCache, key: str, events: list[Event]
    ) -> None:
        """A token that another process got ends the outage, and the pauses begin anew."""
        async with token_server.provider(clock=clock, cache=cache, retry=ONCE, on_event=events.append) as provider:
            token_server.replies = [400, 400, 400]
            for pause in (5, 10):
                with pytest.raises(TokenEndpointError):
                    await provider.get_token()
                clock.advance(pause)
            await cache.set(key, build_token(clock))
            await provider.get_token()
            clock.advance(LIFE)
            with pytest.raises(TokenEndpointError):
                await provider.get_token()

        assert [OutageBegan, OutageEnded, OutageBegan] == [
            type(event) for event in events if isinstance(event, OutageBegan | OutageEnded)
        ]
        assert [OutageEnded(duration_seconds=15.0)] == [event for event in events if isinstance(event, OutageEnded)]
        assert [5, 10, 5] == [event.retry_in_seconds for event in events if isinstance(event, RenewalFailed)]


class TestPlausibility:
    @pytest.mark.parametrize(
        ("age", "life", "is_taken"),
        [
            pytest.param(0, LIFE, True, id="new"),
            pytest.param(-60, LIFE, True, id="60 s in the future"),
            pytest.param(-60 - TICK, LIFE, False, id="more than 60 s in the future"),
            pytest.param(0, 86_400, True, id="24 h"),
            pytest.param(0, 86_400 + TICK, False, id="more than 24 h"),
            pytest.param(DUE, LIFE, True, id="due"),
            pytest.param(HARD - TICK, LIFE, True, id="before hard"),
            pytest.param(HARD, LIFE, False, id="hard"),
            pytest.param(LIFE, LIFE, False, id="expired"),
        ],
    )
    async def test_nothing_is_held(
        self, *, token_server: TokenServer, clock: FakeClock, key: str, age: float, life: float, is_taken: bool
    ) -> None:
        """Without a token, a stored one is taken if its instants are credible and its hard window lies ahead."""
        stored = build_token(clock, age=age, life=life)

        async def give() -> AccessToken:
            return stored

        async with token_server.provider(clock=clock, cache=FaultyCache(get=give)) as provider:
            assert is_taken is (stored is await provider.get_token())
        assert (0 if is_taken else 1) == len(token_server.requests)

    @pytest.mark.parametrize(
        ("age", "value", "is_taken"),
        [
            pytest.param(0, "canary-cached", True, id="new"),
            pytest.param(2_000, "canary-cached", True, id="newer"),
            pytest.param(DUE - TICK, "canary-cached", False, id="newer, but due itself"),
            pytest.param(0, "canary-token-1", False, id="the held one"),
        ],
    )
    async def test_due_token_is_held(
        self,
        *,
        token_server: TokenServer,
        clock: FakeClock,
        cache: RecordingCache,
        key: str,
        age: float,
        value: str,
        is_taken: bool,
    ) -> None:
        """While a token lives, a stored one is taken if it is another one, newer, and not due itself."""
        async with token_server.provider(clock=clock, cache=cache) as provider:
            await provider.get_token()
            clock.advance(DUE)
            stored = build_token(clock, age=age, value=value)
            await cache.set(key, stored)

            get_at_once(provider)
            await renewal_ends()

            assert is_taken is (stored is get_at_once(provider))
        assert (1 if is_taken else 2) == len(token_server.requests)

    @pytest.mark.parametrize(
        ("later", "is_taken"), [(TICK, True), (0, False), (-TICK, False)], ids=["later", "at once", "earlier"]
    )
    async def test_newer_is_what_was_asked_for_later(
        self,
        *,
        token_server: TokenServer,
        clock: FakeClock,
        cache: RecordingCache,
        key: str,
        later: float,
        is_taken: bool,
    ) -> None:
        """Of two tokens that live, the newer one is the one that was asked for later, however long either lives."""
        token_server.lifetime = 600
        async with token_server.provider(clock=clock, cache=cache) as provider:
            await provider.get_token()
            stored = build_token(clock, age=-later)
            clock.advance(510)
            await cache.set(key, stored)

            get_at_once(provider)
            await renewal_ends()

            assert is_taken is (stored is get_at_once(provider))

    async def test_expired_token_is_held(
        self, token_server: TokenServer, clock: FakeClock, cache: RecordingCache, key: str
    ) -> None:
        """Once the held token has expired, a stored one is taken even if it is due; it is renewed in the background."""
        async with token_server.provider(clock=clock, cache=cache) as provider:
            await provider.get_token()
            clock.advance(LIFE)
            stored = build_token(clock, age=DUE)
            await cache.set(key, stored)

            assert stored is await provider.get_token()
            assert 1 == len(token_server.requests)
            assert stored is get_at_once(provider)
            await renewal_ends()

            assert "canary-token-2" == get_at_once(provider).value

    async def test_writer_has_a_fast_clock(
        self, token_server: TokenServer, clock: FakeClock, cache: RecordingCache, key: str, events: list[Event]
    ) -> None:
        """A token issued in the future, by the writer's clock, lives no longer than one issued now."""
        await cache.set(key, build_token(clock, age=-60))
        async with token_server.provider(clock=clock, cache=cache, on_event=events.append) as provider:
            stored = await provider.get_token()
            clock.advance(LIFE - 1)
            assert stored is not None
            clock.advance(1)

            assert "canary-token-1" == (await provider.get_token()).value
        assert [3_600.0, 3_600.0] == [event.life_seconds for event in events if isinstance(event, TokenReceived)]

    async def test_age_counts(
        self, token_server: TokenServer, clock: FakeClock, cache: RecordingCache, key: str
    ) -> None:
        """A stored token ends when its writer says, and not a whole life after it was read."""
        await cache.set(key, build_token(clock, age=600))
        async with token_server.provider(clock=clock, cache=cache) as provider:
            await provider.get_token()
            clock.advance(LIFE - 600)

            assert "canary-token-1" == (await provider.get_token()).value


class SlowToWrite(MemoryTokenCache):
    """A cache whose first write takes until it may go on."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock=clock)
        self.is_written, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def set(self, key: str, token: AccessToken, /) -> None:
        self.is_written.set()
        await self.may_go_on.wait()


class TestWhileTokenIsStored:
    """Those who wait for a renewal get its token once it is stored; others have it already."""

    async def test_it_is_rejected(self, token_server: TokenServer, clock: FakeClock) -> None:
        """A token that is rejected meanwhile goes to nobody any more: all wait for another."""
        cache = SlowToWrite(clock)
        async with token_server.provider(clock=clock, cache=cache) as provider:
            first = asyncio.create_task(provider.get_token())
            await cache.is_written.wait()
            assert provider.invalidate(get_at_once(provider))
            second = asyncio.create_task(provider.get_token())
            await asyncio.sleep(0)
            cache.may_go_on.set()

            assert ["canary-token-2"] * 2 == [(await caller).value for caller in (first, second)]
        assert 2 == len(token_server.requests)

    async def test_it_is_rejected_before_the_old_one_ends(self, token_server: TokenServer, clock: FakeClock) -> None:
        """Those who wait briefly, while an old token lives, do not get it either."""
        cache = SlowToWrite(clock)
        async with token_server.provider(clock=clock, cache=cache) as provider:
            cache.may_go_on.set()
            await provider.get_token()
            cache.is_written.clear()
            cache.may_go_on.clear()
            clock.advance(HARD)
            waiting = asyncio.create_task(provider.get_token())
            await cache.is_written.wait()
            assert provider.invalidate(get_at_once(provider))
            cache.may_go_on.set()

            assert "canary-token-3" == (await waiting).value

    # case 19, 58
    @pytest.mark.parametrize("age", [0, HARD], ids=["no token", "an old token"])
    async def test_it_expires(self, token_server: TokenServer, clock: FakeClock, age: float) -> None:
        """A token that expires meanwhile, as when the machine is suspended, is not handed out but renewed."""
        cache = SlowToWrite(clock)
        async with token_server.provider(clock=clock, cache=cache) as provider:
            if age:
                cache.may_go_on.set()
                await provider.get_token()
                clock.advance(age)
                cache.is_written.clear()
                cache.may_go_on.clear()
            waiting = asyncio.create_task(provider.get_token())
            await cache.is_written.wait()
            expired = get_at_once(provider)
            clock.advance(LIFE)
            cache.may_go_on.set()

            assert expired.value < (await waiting).value

    # case 58
    async def test_it_could_expire(self, token_server: TokenServer, clock: FakeClock, cache: RecordingCache) -> None:
        """A token that lives no longer than writing may take is not written: it would be renewed again and again."""
        token_server.lifetime = 2
        async with token_server.provider(clock=clock, cache=cache) as provider:
            assert "canary-token-1" == (await provider.get_token()).value
            assert ["get"] == cache.calls
            token_server.lifetime = 3
            clock.advance(2)

            assert "canary-token-2" == (await provider.get_token()).value
            assert ["get", "get", "set"] == cache.calls


class TestRejectedToken:
    # case 47
    async def test_is_not_taken_again(
        self, token_server: TokenServer, clock: FakeClock, cache: RecordingCache, key: str
    ) -> None:
        """A rejected token that is still in the cache is not taken again, not even after a failure in between."""
        async with token_server.provider(clock=clock, cache=cache, retry=ONCE) as provider:
            old = await provider.get_token()
            provider.invalidate(old)
            token_server.replies = [503]
            with pytest.raises(TokenEndpointError):
                await provider.get_token()
            clock.advance(1)
            assert old is await cache.get(key)

            assert "canary-token-2" == (await provider.get_token()).value
        assert 3 == len(token_server.requests)

    async def test_is_not_taken_again_later(
        self, token_server: TokenServer, clock: FakeClock, cache: RecordingCache, key: str
    ) -> None:
        """It is not taken either when its replacement has gone and another process has put it back."""
        async with token_server.provider(clock=clock, cache=cache) as provider:
            old = await provider.get_token()
            provider.invalidate(old)
            replacement = await provider.get_token()
            clock.advance(5)
            assert provider.invalidate(replacement)
            await cache.set(key, old)

            assert "canary-token-3" == (await provider.get_token()).value

    async def test_stored_token_is_no_replacement(
        self, token_server: TokenServer, clock: FakeClock, cache: RecordingCache, key: str
    ) -> None:
        """A stored token that replaces none is an ordinary one: its first rejection counts, however young it is."""
        await cache.set(key, build_token(clock))
        async with token_server.provider(clock=clock, cache=cache) as provider:
            assert provider.invalidate(await provider.get_token())

            assert "canary-token-1" == (await provider.get_token()).value

    # case 39
    async def test_stored_replacement(
        self, token_server: TokenServer, clock: FakeClock, cache: RecordingCache, key: str
    ) -> None:
        """A stored token that another process got for a rejected one is held: an API that rejects all has its turn."""
        async with token_server.provider(clock=clock, cache=cache) as provider:
            provider.invalidate(await provider.get_token())
            replacement = await provider.get_token()
        async with token_server.provider(clock=clock, cache=cache) as other:
            assert replacement is await other.get_token()
            assert not other.invalidate(replacement)
            clock.advance(5)
            assert other.invalidate(replacement)
        assert replacement.is_replacement
        assert 2 == len(token_server.requests)

    # case 47
    async def test_newer_token_of_another_process(
        self, token_server: TokenServer, clock: FakeClock, cache: RecordingCache, key: str, events: list[Event]
    ) -> None:
        """A token that another process has put there is taken without a request; it is held as a replacement is."""
        async with token_server.provider(clock=clock, cache=cache, on_event=events.append) as provider:
            provider.invalidate(await provider.get_token())
            clock.advance(3)
            stored = build_token(clock, age=2)
            await cache.set(key, stored)

            assert stored is await provider.get_token()

            clock.advance(3 - TICK)
            assert not provider.invalidate(stored)
            clock.advance(TICK)
            assert provider.invalidate(stored)
        assert [("first", "endpoint"), ("rejected", "cache")] == [
            (event.cause, event.source) for event in events if isinstance(event, TokenReceived)
        ]
        assert 1 == len(token_server.requests)


class TestFaultyCache:
    # case 46
    @pytest.mark.parametrize(
        ("faults", "failures"),
        [
            pytest.param({"get": fail}, [("get", "it raised OSError")], id="get raises"),
            pytest.param({"get": explain}, [("get", "The disk is full. Make room")], id="get explains"),
            pytest.param({"get": hang}, [("get", "it took longer than 0.02 s")], id="get hangs"),
            pytest.param({"get": give_rubbish}, [("get", "it returned str, no AccessToken")], id="get gives rubbish"),
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
        """A cache that raises, hangs or gives rubbish costs no caller its token; events tell, in our own words."""
        policy = RenewalPolicy(cache_seconds=0.02)
        cache = FaultyCache(**faults)
        async with token_server.provider(cache=cache, policy=policy, on_event=events.append) as provider:
            token = await provider.get_token()
            assert token is get_at_once(provider)

        assert "canary-token-1" == token.value
        assert failures == [(event.operation, event.problem) for event in events if isinstance(event, CacheFailed)]
        assert [RenewalStarted, *[CacheFailed] * len(failures), TokenReceived] == [type(event) for event in events]

    async def test_endpoint_fails_as_well(self, token_server: TokenServer, events: list[Event]) -> None:
        """When the endpoint fails as well, both are told, and callers get the endpoint's error."""
        token_server.replies = [400]
        async with token_server.provider(cache=FaultyCache(get=fail), on_event=events.append) as provider:
            with pytest.raises(TokenEndpointError):
                await provider.get_token()

        assert [RenewalStarted, CacheFailed, RenewalFailed, OutageBegan] == [type(event) for event in events]

    async def test_held_token_needs_no_cache(self, token_server: TokenServer, clock: FakeClock) -> None:
        """A cache that hangs makes nobody wait while a token lives."""
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
        """What is in the cache is taken without the lock."""
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
        """A lock that is not to be had in time is done without; its holder keeps it."""
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
        """What the lock's holder has stored is taken, although the lock is not to be had."""
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
        """A renewal that fails releases the lock before its callers hear of it."""
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
            async def fetch(self, *, deadline: float, may_retry: Callable[[], bool]) -> Receipt:
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
        """When aclose() returns the lock is released, also if it is called again while that goes on."""
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
