"""`TokenProvider`: renewal by the clock, in every state of the token's life, and late results."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

import pytest

from simplestore_async import MemoryTokenCache, RenewalPolicy, RetryPolicy
from simplestore_async.errors import TokenEndpointError, TokenResponseError
from simplestore_async.events import (
    Event,
    OutageBegan,
    OutageEnded,
    RenewalFailed,
    RenewalStarted,
    TokenReceived,
)
from tests.support.providers import DUE, HARD, LIFE, TICK, begin, find_renewals, get_at_once, of_kind, renewal_ends

if TYPE_CHECKING:
    from tests.support.clocks import FakeClock
    from tests.support.servers import TokenServer


# A wait that a test could not sit through, where it must not happen.
PATIENT = RenewalPolicy(max_wait_seconds=600)


class TestDue:
    async def test_no_caller_waits(self, token_server: TokenServer, clock: FakeClock, events: list[Event]) -> None:
        """When the token is due, callers get it without a task switch while one request runs in the background."""
        async with token_server.provider(clock=clock, on_event=events.append) as provider:
            old = await provider.get_token()
            clock.advance(DUE)
            del events[:]
            token_server.gate.clear()
            token_server.arrived.clear()

            assert {id(old)} == {id(get_at_once(provider)) for _ in range(100)}
            await token_server.arrived.wait()
            assert {id(old)} == {id(get_at_once(provider)) for _ in range(100)}

            clock.advance(2)
            token_server.gate.set()
            await renewal_ends()
            assert "canary-token-2" == get_at_once(provider).value
        assert [
            RenewalStarted(cause="due"),
            TokenReceived(
                cause="due",
                source="endpoint",
                is_unchanged=False,
                duration_seconds=2.0,
                life_seconds=LIFE - 2.0,
                waiter_count=0,
            ),
        ] == events
        assert 2 == len(token_server.requests)

    @pytest.mark.parametrize(
        ("draw", "first_due", "next_due"), [(0.0, 1_620, 3_024), (0.5, 2_322, 2_880), (1 - 2.0**-53, 3_024, 2_736)]
    )
    async def test_instant_is_drawn(
        self,
        *,
        token_server: TokenServer,
        clock: FakeClock,
        monkeypatch: pytest.MonkeyPatch,
        draw: float,
        first_due: float,
        next_due: float,
    ) -> None:
        """A first token is due at a random part of its life, each later one a random while before its end."""
        monkeypatch.setattr(random, "random", lambda: draw)
        async with token_server.provider(clock=clock) as provider:
            await provider.get_token()
            for count, due in enumerate((first_due, next_due, next_due), 1):
                clock.advance(due - 2 * TICK)
                get_at_once(provider)
                assert [] == find_renewals()
                clock.advance(3 * TICK)
                get_at_once(provider)
                await renewal_ends()
                assert count + 1 == len(token_server.requests)

    async def test_instant_is_drawn_once(
        self, token_server: TokenServer, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A token is due at one instant: many calls do not make an early draw likelier."""
        async with token_server.provider(clock=clock) as provider:
            monkeypatch.setattr(random, "random", lambda: 0.5)
            await provider.get_token()
            monkeypatch.setattr(random, "random", lambda: 0.0)

            clock.advance(2_000)
            for _ in range(100):
                get_at_once(provider)

            assert [] == find_renewals()

    async def test_replacement_is_due_as_any_later_token(
        self, token_server: TokenServer, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Only the very first token is due early; one that replaces a rejected token is not."""
        monkeypatch.setattr(random, "random", lambda: 0.0)
        async with token_server.provider(clock=clock) as provider:
            provider.invalidate(await provider.get_token())
            await provider.get_token()

            clock.advance(3_023)
            get_at_once(provider)
            assert [] == find_renewals()
            clock.advance(2)
            get_at_once(provider)
            await renewal_ends()


class TestOutageWhileTheTokenLives:
    async def test_attempts_follow_the_pauses(
        self, token_server: TokenServer, clock: FakeClock, events: list[Event], caplog: pytest.LogCaptureFixture
    ) -> None:
        """Callers get the token, requests follow after 1, 2, 4 … 30 s; beginning and end are reported once."""
        caplog.set_level(logging.DEBUG, "simplestore_async")
        pauses = [1, 2, 4, 8, 16, 30, 30]
        async with token_server.provider(clock=clock, on_event=events.append) as provider:
            token = await provider.get_token()
            clock.advance(DUE)
            caplog.clear()
            del events[:]
            token_server.replies = [503] * len(pauses)
            for count, pause in enumerate(pauses, 2):
                assert token is get_at_once(provider)
                await renewal_ends()
                assert count == len(token_server.requests)
                clock.advance(pause - TICK)
                assert token is get_at_once(provider)
                assert [] == find_renewals()
                clock.advance(TICK)
            get_at_once(provider)
            await renewal_ends()

        failures = of_kind(RenewalFailed, events)
        assert [(pause, True, "due", 0) for pause in pauses] == [
            (failure.retry_in_seconds, failure.is_token_alive, failure.cause, failure.waiter_count)
            for failure in failures
        ]
        assert [OutageBegan(error=failures[0].error, life_seconds=500.0)] == of_kind(OutageBegan, events)
        assert [OutageEnded(duration_seconds=91.0)] == of_kind(OutageEnded, events)
        assert [RenewalStarted, TokenReceived, OutageEnded] == [type(event) for event in events[-3:]]
        assert ["WARNING", "INFO"] == [record.levelname for record in caplog.records if record.levelname != "DEBUG"]

    async def test_each_outage_is_told(self, token_server: TokenServer, clock: FakeClock, events: list[Event]) -> None:
        """After a success the next failure begins another outage, with pauses that begin anew."""
        async with token_server.provider(clock=clock, on_event=events.append) as provider:
            await provider.get_token()
            for _ in range(2):
                clock.advance(DUE)
                token_server.replies = [503]
                get_at_once(provider)
                await renewal_ends()
                clock.advance(1)
                get_at_once(provider)
                await renewal_ends()

        assert [OutageBegan, OutageEnded] * 2 == [
            type(event) for event in events if isinstance(event, OutageBegan | OutageEnded)
        ]

    async def test_outage_that_outlasts_the_token(
        self, token_server: TokenServer, clock: FakeClock, events: list[Event]
    ) -> None:
        """An outage that continues when the token has expired, or was rejected, is still the same one."""
        async with token_server.provider(
            clock=clock, retry=RetryPolicy(attempts=1), on_event=events.append
        ) as provider:
            await provider.get_token()
            clock.advance(DUE)
            token_server.replies = [503, 503, 503]
            get_at_once(provider)
            await renewal_ends()
            for seconds in (LIFE, 1):
                clock.advance(seconds)
                with pytest.raises(TokenEndpointError):
                    await provider.get_token()
            clock.advance(1)
            await provider.get_token()

        assert [True, False, False] == [event.is_token_alive for event in of_kind(RenewalFailed, events)]
        assert [1.0, 1.0, 1.0] == [event.retry_in_seconds for event in of_kind(RenewalFailed, events)]
        assert [500.0] == [event.life_seconds for event in of_kind(OutageBegan, events)]
        assert [OutageEnded(duration_seconds=LIFE + 2.0)] == of_kind(OutageEnded, events)

    @pytest.mark.parametrize(
        ("status", "pauses"),
        [
            pytest.param(503, [1, 2, 4, 8, 16] + [30] * 95, id="passing"),
            pytest.param(400, [5, 10, 20, 40] + [60] * 96, id="terminal"),
        ],
    )
    async def test_hundred_failures(
        self, *, token_server: TokenServer, clock: FakeClock, events: list[Event], status: int, pauses: list[float]
    ) -> None:
        """After 100 failures in a row the backoff is at its cap, and renewal continues."""
        token_server.lifetime = 24 * LIFE
        async with token_server.provider(clock=clock, on_event=events.append) as provider:
            token = await provider.get_token()
            clock.advance(0.85 * 24 * LIFE)
            token_server.replies = [status] * 100
            for pause in pauses:
                assert token is get_at_once(provider)
                await renewal_ends()
                clock.advance(pause)
            get_at_once(provider)
            await renewal_ends()

            assert "canary-token-2" == get_at_once(provider).value
        assert pauses == [event.retry_in_seconds for event in of_kind(RenewalFailed, events)]
        assert 102 == len(token_server.requests)


class TestAttempts:
    async def test_background_makes_one(self, token_server: TokenServer, clock: FakeClock) -> None:
        """A renewal without waiters makes one attempt."""
        async with token_server.provider(clock=clock) as provider:
            await provider.get_token()
            clock.advance(DUE)
            token_server.replies = [503, 503, 503]
            get_at_once(provider)
            await renewal_ends()

        assert 2 == len(token_server.requests)

    async def test_caller_that_waits_makes_it_all(
        self, token_server: TokenServer, clock: FakeClock, quick: RetryPolicy, events: list[Event]
    ) -> None:
        """A renewal that began in the background makes all its attempts once a caller waits for it."""
        async with token_server.provider(clock=clock, retry=quick, on_event=events.append) as provider:
            await provider.get_token()
            clock.advance(DUE)
            token_server.replies = [503, 503]
            token_server.gate.clear()
            token_server.arrived.clear()
            get_at_once(provider)
            await token_server.arrived.wait()
            clock.advance(LIFE)

            caller = await begin(provider)
            token_server.gate.set()

            assert "canary-token-2" == (await caller).value
        assert [("due", 1)] == [(event.cause, event.waiter_count) for event in of_kind(TokenReceived, events)[1:]]
        assert 4 == len(token_server.requests)

    async def test_caller_that_waits_makes_no_more_than_all(
        self, token_server: TokenServer, clock: FakeClock, quick: RetryPolicy
    ) -> None:
        """The policy's attempts are all there are."""
        async with token_server.provider(clock=clock, retry=quick) as provider:
            token_server.replies = [503, 503, 503]

            with pytest.raises(TokenEndpointError):
                await provider.get_token()

        assert 3 == len(token_server.requests)


class TestExpired:
    @pytest.mark.parametrize("age", [LIFE, LIFE + 60], ids=["at once", "long ago"])
    async def test_endpoint_is_down(
        self, token_server: TokenServer, clock: FakeClock, events: list[Event], age: float
    ) -> None:
        """Once the token has expired, a failing endpoint is an error, and the token is not served."""
        async with token_server.provider(clock=clock, on_event=events.append) as provider:
            await provider.get_token()
            clock.advance(age)
            token_server.replies = [400]

            with pytest.raises(TokenEndpointError):
                await provider.get_token()

        [failure] = of_kind(RenewalFailed, events)
        assert ("expired", False, 5.0) == (failure.cause, failure.is_token_alive, failure.retry_in_seconds)
        assert [0.0] == [event.life_seconds for event in of_kind(OutageBegan, events)]

    async def test_machine_was_suspended(
        self, token_server: TokenServer, clock: FakeClock, events: list[Event]
    ) -> None:
        """A token that expired while the machine slept is renewed by the first call."""
        async with token_server.provider(clock=clock, on_event=events.append) as provider:
            await provider.get_token()
            clock.advance(10 * LIFE)

            assert "canary-token-2" == (await provider.get_token()).value
        assert [RenewalStarted(cause="first"), RenewalStarted(cause="expired")] == of_kind(RenewalStarted, events)


class TestLifetimes:
    @pytest.mark.parametrize(
        ("life", "fresh", "due", "hard"), [(5, 2.125, 4.25, 4.5), (60, 26.5, 51, 54), (300, 134.5, 255, 270)]
    )
    async def test_short(
        self, *, token_server: TokenServer, clock: FakeClock, life: int, fresh: float, due: float, hard: float
    ) -> None:
        """A token of 5 s, 60 s or 300 s is reused, renewed in the background when due, and waited for at its end."""
        token_server.lifetime = life
        async with token_server.provider(clock=clock, policy=PATIENT) as provider:
            first = await provider.get_token()
            clock.advance(fresh)
            assert {id(first)} == {id(get_at_once(provider)) for _ in range(100)}
            assert [] == find_renewals()

            clock.advance(due - fresh)
            assert first is get_at_once(provider)
            await renewal_ends()
            second = get_at_once(provider)
            token_server.gate.clear()
            clock.advance(hard)
            caller = await begin(provider)
            [renewal] = find_renewals()
            token_server.gate.set()
            await asyncio.wait([caller, renewal])

            assert ["canary-token-2", "canary-token-3"] == [second.value, get_at_once(provider).value]
        assert 3 == len(token_server.requests)

    async def test_changes(self, token_server: TokenServer, clock: FakeClock) -> None:
        """Each token is due by the lifetime that came with it."""
        async with token_server.provider(clock=clock) as provider:
            await provider.get_token()
            for lifetime, due in ((60, DUE), (LIFE, 53), (60, DUE)):
                token_server.lifetime = lifetime
                clock.advance(due)
                get_at_once(provider)
                await renewal_ends()
                assert clock.time() + lifetime == get_at_once(provider).expires_at
                assert [] == find_renewals()
        assert 4 == len(token_server.requests)


class TestUnchangedToken:
    async def test_backs_off(
        self, token_server: TokenServer, clock: FakeClock, events: list[Event], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The value that is held already counts as no renewal: the endpoint is asked less and less, until its end."""
        monkeypatch.setattr(random, "random", lambda: 0.5)
        policy = RenewalPolicy(first_due_fractions=(0.5, 0.5))
        token_server.lifetime = 5
        async with token_server.provider(clock=clock, policy=policy, on_event=events.append) as provider:
            old = await provider.get_token()
            token_server.replies = [{"access_token": old.value, "expires_in": 5}] * 5
            # Each time due after 4 s; the pauses are 1, 2, 4 and 8 s, of which the last is longer than its life.
            for count, due in enumerate((2.5, 4, 4, 4), 2):
                clock.advance(due - TICK)
                get_at_once(provider)
                assert [] == find_renewals()
                clock.advance(TICK)
                get_at_once(provider)
                await renewal_ends()
                assert count == len(token_server.requests)
                # Its life follows the newer reply.
                assert (old.value, clock.time() + 5) == (get_at_once(provider).value, get_at_once(provider).expires_at)
            for seconds in (4, 1 - TICK):
                clock.advance(seconds)
                assert old.value == get_at_once(provider).value
                assert [] == find_renewals()
            clock.advance(TICK)
            assert old.value == (await provider.get_token()).value

        assert [False, True, True, True, True, False] == [
            event.is_unchanged for event in of_kind(TokenReceived, events)
        ]
        assert [] == of_kind(OutageBegan, events)
        assert 6 == len(token_server.requests)

    async def test_ends_an_outage(self, token_server: TokenServer, clock: FakeClock, events: list[Event]) -> None:
        """An endpoint that answers with the value that is held is no outage."""
        async with token_server.provider(clock=clock, on_event=events.append) as provider:
            old = await provider.get_token()
            clock.advance(DUE)
            token_server.replies = [503, {"access_token": old.value, "expires_in": 500}]
            for _ in range(2):
                get_at_once(provider)
                await renewal_ends()
                clock.advance(1)

        assert [OutageEnded(duration_seconds=1.0)] == of_kind(OutageEnded, events)


class TestLateArrival:
    @pytest.mark.parametrize(
        ("age", "posts"), [pytest.param(HARD - TICK, 1, id="before hard"), pytest.param(HARD, 2, id="at hard")]
    )
    async def test_past_hard(self, token_server: TokenServer, clock: FakeClock, age: float, posts: int) -> None:
        """A token that is expiring on arrival goes to the waiters, and is neither kept nor stored."""
        cache = MemoryTokenCache(clock=clock)
        token_server.gate.clear()
        async with token_server.provider(clock=clock, cache=cache) as provider:
            caller = await begin(provider)
            await token_server.arrived.wait()
            clock.advance(age)
            token_server.gate.set()

            assert "canary-token-1" == (await caller).value
            assert (posts == 1) is (await cache.get(token_server.credentials().cache_key) is not None)
            assert f"canary-token-{posts}" == (await provider.get_token()).value
            if posts == 1:
                await renewal_ends()
        assert 2 == len(token_server.requests)

    async def test_past_hard_during_an_outage(
        self, token_server: TokenServer, clock: FakeClock, events: list[Event]
    ) -> None:
        """The end of an outage is reported once, although the first token after it was too late to be kept."""
        async with token_server.provider(clock=clock, on_event=events.append) as provider:
            token_server.replies = [400]
            with pytest.raises(TokenEndpointError):
                await provider.get_token()
            clock.advance(5)
            token_server.gate.clear()
            token_server.arrived.clear()
            caller = await begin(provider)
            await token_server.arrived.wait()
            clock.advance(HARD)
            token_server.gate.set()
            await caller
            await provider.get_token()

        assert [OutageBegan, OutageEnded] == [
            type(event) for event in events if isinstance(event, OutageBegan | OutageEnded)
        ]

    async def test_expired(self, token_server: TokenServer, clock: FakeClock) -> None:
        """A token that had expired when it arrived is an error, and is asked for again."""
        token_server.gate.clear()
        async with token_server.provider(clock=clock, retry=RetryPolicy(attempts=1)) as provider:
            caller = await begin(provider)
            await token_server.arrived.wait()
            clock.advance(LIFE)
            token_server.gate.set()

            with pytest.raises(TokenResponseError, match="had expired when it arrived"):
                await caller
            clock.advance(1)
            assert "canary-token-2" == (await provider.get_token()).value


class TestWallClock:
    @pytest.mark.parametrize("step", [-LIFE, -50, LIFE])
    async def test_step_leaves_the_life_as_it_is(
        self, token_server: TokenServer, clock: FakeClock, step: float
    ) -> None:
        """A step of the wall clock neither ages nor rejuvenates the held token."""
        async with token_server.provider(clock=clock) as provider:
            token = await provider.get_token()
            clock.step_wall(step)

            clock.advance(1_600)
            assert token is get_at_once(provider)
            assert [] == find_renewals()
            clock.advance(DUE - 1_600)
            assert token is get_at_once(provider)
            await renewal_ends()

            assert "canary-token-2" == get_at_once(provider).value
        assert 2 == len(token_server.requests)

    @pytest.mark.parametrize("step", [-LIFE, -50, LIFE])
    async def test_step_does_not_revive_the_token(
        self, token_server: TokenServer, clock: FakeClock, step: float
    ) -> None:
        """A token that has expired is not taken from the cache again because the wall clock was set back."""
        async with token_server.provider(clock=clock) as provider:
            await provider.get_token()
            clock.step_wall(step)
            clock.advance(LIFE)

            assert "canary-token-2" == (await provider.get_token()).value
        assert 2 == len(token_server.requests)
