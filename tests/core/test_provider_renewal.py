"""`TokenProvider`: renewal over time; `test_policy.py` and `test_state.py` have the instants and the rules."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from simplestore_async import MemoryTokenCache
from simplestore_async.errors import TokenEndpointError
from simplestore_async.events import Event, OutageBegan, OutageEnded, RenewalFailed, RenewalStarted, TokenReceived
from simplestore_async.sandbox import Response
from tests.support.providers import DUE, HARD, LIFE, TICK, begin, find_renewals, get_at_once, of_kind, renewal_ends

if TYPE_CHECKING:
    from simplestore_async import RetryPolicy, TokenProvider
    from simplestore_async.sandbox import Sandbox
    from tests.support.clocks import FakeClock
    from tests.support.providers import Provide


class TestDue:
    async def test_no_caller_waits(
        self, sandbox: Sandbox, clock: FakeClock, provider: TokenProvider, events: list[Event]
    ) -> None:
        """Callers get a due token without a task switch while one request runs in the background."""
        old = await provider.get_token()
        clock.advance(DUE)
        del events[:]
        held = sandbox.token_endpoint.hold()

        assert {id(old)} == {id(get_at_once(provider)) for _ in range(100)}
        await held.wait_for_requests()
        assert {id(old)} == {id(get_at_once(provider)) for _ in range(100)}

        clock.advance(2)
        held.release()
        await renewal_ends()
        assert old.value != get_at_once(provider).value
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
        assert 2 == sandbox.counters.token_requests

    async def test_backoff(
        self,
        *,
        sandbox: Sandbox,
        clock: FakeClock,
        provider: TokenProvider,
        events: list[Event],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """During an outage callers get the token, requests back off to 30 s, and start and end are reported once."""
        caplog.set_level(logging.DEBUG, "simplestore_async")
        pauses = [1, 2, 4, 8, 16, 30, 30]
        token = await provider.get_token()
        clock.advance(DUE)
        sandbox.fail_next(len(pauses))
        for count, pause in enumerate(pauses, 2):
            assert token is get_at_once(provider)
            await renewal_ends()
            assert count == sandbox.counters.token_requests
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

    async def test_same_token_again(
        self, sandbox: Sandbox, clock: FakeClock, provider: TokenProvider, events: list[Event]
    ) -> None:
        """A response with the held token is reported as unchanged, causes a backoff and ends an outage."""
        old = await provider.get_token()
        clock.advance(DUE)
        sandbox.fail_next(1)
        sandbox.fail_next(1, Response(json={"access_token": old.value, "expires_in": 400}))
        for _ in range(2):
            get_at_once(provider)
            await renewal_ends()
            clock.advance(1)

        again = get_at_once(provider)
        assert (old.value, clock.time() + 399) == (again.value, again.expires_at)
        assert [] == find_renewals()
        assert [False, True] == [event.is_unchanged for event in of_kind(TokenReceived, events)]
        assert [OutageEnded(duration_seconds=1.0)] == of_kind(OutageEnded, events)


class TestAttempts:
    async def test_in_the_background(
        self, sandbox: Sandbox, clock: FakeClock, provide: Provide, quick: RetryPolicy
    ) -> None:
        """A renewal without waiters makes one attempt."""
        provider = provide(retry=quick)
        await provider.get_token()
        clock.advance(DUE)
        sandbox.fail_next(3)
        get_at_once(provider)
        await renewal_ends()

        assert 2 == sandbox.counters.token_requests

    async def test_once_a_caller_waits(
        self, *, sandbox: Sandbox, clock: FakeClock, provide: Provide, quick: RetryPolicy, events: list[Event]
    ) -> None:
        """A background renewal makes all attempts of the policy once a caller waits for it."""
        provider = provide(retry=quick)
        old = await provider.get_token()
        clock.advance(DUE)
        sandbox.fail_next(2)
        held = sandbox.token_endpoint.hold()
        get_at_once(provider)
        await held.wait_for_requests()
        clock.advance(LIFE)

        caller = await begin(provider)
        held.release()

        assert old.value != (await caller).value
        assert [("due", 1)] == [(event.cause, event.waiter_count) for event in of_kind(TokenReceived, events)[1:]]
        assert 4 == sandbox.counters.token_requests


class TestExpired:
    async def test_endpoint_is_down(
        self, sandbox: Sandbox, clock: FakeClock, provider: TokenProvider, events: list[Event]
    ) -> None:
        """An expired token is not served: if its renewal fails, the error is raised."""
        await provider.get_token()
        clock.advance(LIFE)
        sandbox.fail_next(1)

        with pytest.raises(TokenEndpointError):
            await provider.get_token()

        [failure] = of_kind(RenewalFailed, events)
        assert ("expired", False, 1.0) == (failure.cause, failure.is_token_alive, failure.retry_in_seconds)
        assert [0.0] == [event.life_seconds for event in of_kind(OutageBegan, events)]

    async def test_suspended_machine(self, clock: FakeClock, provider: TokenProvider, events: list[Event]) -> None:
        """A token that expired while the machine was suspended is renewed by the next call."""
        old = await provider.get_token()
        clock.advance(10 * LIFE)

        assert old.value != (await provider.get_token()).value
        assert ["first", "expired"] == [event.cause for event in of_kind(RenewalStarted, events)]

    @pytest.mark.parametrize("step", [-LIFE, -50, LIFE])
    async def test_wall_clock_step(self, clock: FakeClock, provider: TokenProvider, step: float) -> None:
        """Steps of the wall clock do not change when the held token is due or expired."""
        old = await provider.get_token()
        clock.step_wall(step)
        clock.advance(1_600)
        assert old is get_at_once(provider)
        assert [] == find_renewals()
        clock.advance(LIFE - 1_600)

        assert old.value != (await provider.get_token()).value

    async def test_late_token(self, sandbox: Sandbox, clock: FakeClock, provide: Provide, events: list[Event]) -> None:
        """A token that is expiring on arrival goes to the waiters, is not held or stored, and ends no outage."""
        cache = MemoryTokenCache(clock=clock)
        provider = provide(cache=cache)
        sandbox.fail_next(1)
        with pytest.raises(TokenEndpointError):
            await provider.get_token()
        clock.advance(1)
        held = sandbox.token_endpoint.hold()
        caller = await begin(provider)
        await held.wait_for_requests()
        clock.advance(HARD)
        held.release()

        late = await caller
        assert await cache.get(sandbox.credentials.cache_key) is None
        assert [] == of_kind(OutageEnded, events)
        assert late.value != (await provider.get_token()).value
        assert 1 == len(of_kind(OutageEnded, events))
        assert 3 == sandbox.counters.token_requests
