"""`TokenProvider` over caches: tokens from elsewhere, caches that fail, and locks that several providers share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from simplestore_async import AccessToken, MemoryTokenCache, RetryPolicy
from simplestore_async.errors import (
    TokenEndpointError,
)
from simplestore_async.events import (
    Event,
    OutageBegan,
    OutageEnded,
    RenewalFailed,
    RenewalStarted,
    TokenReceived,
)
from tests.support.caches import FaultyCache, RecordingCache, build_token
from tests.support.providers import DUE, HARD, LIFE, TICK, get_at_once, renewal_ends

if TYPE_CHECKING:
    from tests.support.clocks import FakeClock
    from tests.support.servers import TokenServer


ONCE = RetryPolicy(attempts=1)


@pytest.fixture
def cache(clock: FakeClock) -> RecordingCache:
    return RecordingCache(clock)


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
        """A stored token ends at its stored expiry, not a whole life after it was read."""
        await cache.set(key, build_token(clock, age=600))
        async with token_server.provider(clock=clock, cache=cache) as provider:
            await provider.get_token()
            clock.advance(LIFE - 600)

            assert "canary-token-1" == (await provider.get_token()).value


class SlowToWrite(MemoryTokenCache):
    """A cache whose first write blocks until it is released."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock=clock)
        self.is_written, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def set(self, key: str, token: AccessToken, /) -> None:
        self.is_written.set()
        await self.may_go_on.wait()


class TestWhileTokenIsStored:
    """Waiters get the token once it is stored; other callers have it before."""

    async def test_it_is_rejected(self, token_server: TokenServer, clock: FakeClock) -> None:
        """A token rejected meanwhile is no longer served: all callers wait for another."""
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
        """Callers that wait briefly, while a token is valid, also get it only once it is stored."""
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

    async def test_newer_token_of_another_process(
        self, token_server: TokenServer, clock: FakeClock, cache: RecordingCache, key: str, events: list[Event]
    ) -> None:
        """A token that another process has put there is taken without a request; it is held as a replacement is."""
        async with token_server.provider(clock=clock, cache=cache, on_event=events.append) as provider:
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
            (event.cause, event.source) for event in events if isinstance(event, TokenReceived)
        ]
        assert 1 == len(token_server.requests)
