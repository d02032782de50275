"""`TokenProvider`: renewal over time; `test_policy.py` and `test_state.py` have the instants and the rules."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from simplestore_async import MemoryTokenCache, RenewalPolicy
from simplestore_async.errors import ProviderClosedError, TokenEndpointError
from simplestore_async.events import (
    Event,
    OutageBegan,
    OutageEnded,
    RenewalFailed,
    RenewalOverdue,
    RenewalStarted,
    TokenReceived,
)
from simplestore_async.sandbox import Response
from tests.support.providers import (
    DUE,
    HARD,
    LIFE,
    PATIENT,
    TICK,
    begin,
    begin_held,
    find_renewals,
    get_at_once,
    of_kind,
    renew_in_background,
    renewal_ends,
)

if TYPE_CHECKING:
    from simplestore_async import AccessToken, RetryPolicy, TokenProvider
    from simplestore_async.sandbox import HeldResponses, Sandbox
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
        clock.step_wall(1_800)
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
        held = await renew_in_background(sandbox, provider)
        clock.advance(LIFE)

        caller = await begin(provider)
        held.release()

        assert old.value != (await caller).value
        assert [("due", 1)] == [(event.cause, event.waiter_count) for event in of_kind(TokenReceived, events)[1:]]
        assert 4 == sandbox.counters.token_requests


class TestExpired:
    async def test_suspended_machine(
        self, sandbox: Sandbox, clock: FakeClock, provider: TokenProvider, events: list[Event]
    ) -> None:
        """A token that expired, as while the machine was suspended, is not served: the call renews it or fails."""
        old = await provider.get_token()
        clock.advance(10 * LIFE)
        sandbox.fail_next(1)
        with pytest.raises(TokenEndpointError):
            await provider.get_token()
        clock.advance(1)

        assert old.value != (await provider.get_token()).value
        assert ["first", "expired", "expired"] == [event.cause for event in of_kind(RenewalStarted, events)]
        [failure] = of_kind(RenewalFailed, events)
        assert (False, 1.0) == (failure.is_token_alive, failure.retry_in_seconds)
        assert [0.0] == [event.life_seconds for event in of_kind(OutageBegan, events)]

    async def test_late_token(self, sandbox: Sandbox, clock: FakeClock, provide: Provide, events: list[Event]) -> None:
        """A token that is expiring on arrival goes to the waiters, is not held or stored, and ends no outage."""
        cache = MemoryTokenCache(clock=clock)
        provider = provide(cache=cache)
        sandbox.fail_next(1)
        with pytest.raises(TokenEndpointError):
            await provider.get_token()
        clock.advance(1)
        held, caller = await begin_held(sandbox, provider)
        clock.advance(HARD)
        held.release()

        late = await caller
        assert await cache.get(sandbox.credentials.cache_key) is None
        assert [] == of_kind(OutageEnded, events)
        assert late.value != (await provider.get_token()).value
        assert 1 == len(of_kind(OutageEnded, events))
        assert 3 == sandbox.counters.token_requests


@pytest.fixture
def patient(provide: Provide) -> TokenProvider:
    """A provider whose brief waits do not time out."""
    return provide(policy=PATIENT)


async def wait_briefly(
    sandbox: Sandbox, clock: FakeClock, provider: TokenProvider, *, will_fail: bool = False
) -> tuple[AccessToken, HeldResponses, asyncio.Task[AccessToken]]:
    """Return an expiring token, the held response to its renewal, and a caller that waits for it."""
    old = await provider.get_token()
    clock.advance(HARD)
    if will_fail:
        sandbox.fail_next(1)
    held, caller = await begin_held(sandbox, provider)
    return old, held, caller


class TestBriefWait:
    async def test_renewal_fails(
        self, sandbox: Sandbox, clock: FakeClock, patient: TokenProvider, events: list[Event]
    ) -> None:
        """If the renewal fails, its waiters and, during the backoff, later callers get the live token at once."""
        old = await patient.get_token()
        clock.advance(HARD)
        sandbox.fail_next(1)

        assert [old, old] == [*await asyncio.gather(patient.get_token(), patient.get_token())]

        assert old is get_at_once(patient)
        clock.advance(1)
        assert old.value != (await patient.get_token()).value
        [failure] = of_kind(RenewalFailed, events)
        assert ("due", True, 2) == (failure.cause, failure.is_token_alive, failure.waiter_count)
        assert [] == of_kind(RenewalOverdue, events)
        assert 3 == sandbox.counters.token_requests

    @pytest.mark.parametrize(
        ("age", "policy", "wait"),
        [
            pytest.param(HARD, RenewalPolicy(max_wait_seconds=0.0625), 0.0625, id="max_wait_seconds"),
            pytest.param(LIFE - 0.125, PATIENT, 0.0625, id="half of the remaining life"),
        ],
    )
    async def test_renewal_hangs(
        self,
        *,
        sandbox: Sandbox,
        clock: FakeClock,
        provide: Provide,
        events: list[Event],
        age: float,
        policy: RenewalPolicy,
        wait: float,
    ) -> None:
        """If the renewal hangs, callers get the held token after a brief wait, which is reported once."""
        loop = asyncio.get_running_loop()
        provider = provide(policy=policy)
        old = await provider.get_token()
        clock.advance(age)
        sandbox.token_endpoint.hold()
        began_at = loop.time()

        assert [old, old] == [*await asyncio.gather(provider.get_token(), provider.get_token())]
        waited = loop.time() - began_at
        assert old is await provider.get_token()

        assert wait - 0.001 < waited < 60
        assert [RenewalOverdue(waited_seconds=wait, life_seconds=LIFE - age)] == of_kind(RenewalOverdue, events)
        assert 2 == sandbox.counters.token_requests

    async def test_outlasts_the_token(
        self, sandbox: Sandbox, clock: FakeClock, provide: Provide, events: list[Event]
    ) -> None:
        """If the token expires during the brief wait, the caller waits on for the renewal."""
        policy = RenewalPolicy(max_wait_seconds=0.01)
        provider = provide(policy=policy)
        old = await provider.get_token()
        clock.advance(HARD)
        held = sandbox.token_endpoint.hold()
        first = await begin(provider)
        clock.advance(LIFE - HARD)
        await asyncio.wait([first], timeout=5 * policy.max_wait_seconds)
        assert not first.done()
        held.release()

        assert old.value != (await first).value
        assert 2 == sandbox.counters.token_requests
        # Only a caller that got the old token is reported.
        assert [] == of_kind(RenewalOverdue, events)

    @pytest.mark.parametrize("is_rejected", [False, True], ids=["expired", "rejected"])
    async def test_token_is_gone_when_the_renewal_fails(
        self, sandbox: Sandbox, clock: FakeClock, patient: TokenProvider, is_rejected: bool
    ) -> None:
        """If the token expires or is rejected during the brief wait and the renewal fails, its error is raised."""
        old, held, caller = await wait_briefly(sandbox, clock, patient, will_fail=True)
        if is_rejected:
            assert patient.invalidate(old)
        else:
            clock.advance(LIFE - HARD)
        held.release()

        with pytest.raises(TokenEndpointError):
            await caller
        assert 2 == sandbox.counters.token_requests

    async def test_provider_is_closed(self, sandbox: Sandbox, clock: FakeClock, patient: TokenProvider) -> None:
        """Closing the provider during the brief wait raises ProviderClosedError."""
        _, _, caller = await wait_briefly(sandbox, clock, patient)

        await patient.aclose()

        with pytest.raises(ProviderClosedError):
            await caller


class TestLongestWait:
    async def test_caller_without_a_token(
        self, sandbox: Sandbox, clock: FakeClock, patient: TokenProvider, events: list[Event]
    ) -> None:
        """The longest wait starts with the first caller without a token, not with the renewal."""
        await patient.get_token()
        clock.advance(DUE)
        held = await renew_in_background(sandbox, patient)
        clock.advance(LIFE - DUE)
        callers = [await begin(patient)]
        clock.advance(2)
        callers.append(await begin(patient))
        clock.advance(1)
        held.release()
        await asyncio.gather(*callers)

        assert [(0.0, 1, 0.0), (LIFE - DUE + 3.0, 2, 3.0)] == [
            (event.duration_seconds, event.waiter_count, event.longest_wait_seconds)
            for event in of_kind(TokenReceived, events)
        ]

    async def test_caller_with_a_token(
        self, sandbox: Sandbox, clock: FakeClock, patient: TokenProvider, events: list[Event]
    ) -> None:
        """A caller that waits briefly gets the new token, and counts as a waiter but not towards the longest wait."""
        old, held, caller = await wait_briefly(sandbox, clock, patient)
        clock.advance(2)
        held.release()

        assert old.value != (await caller).value
        assert [(1, 0.0), (1, 0.0)] == [
            (event.waiter_count, event.longest_wait_seconds) for event in of_kind(TokenReceived, events)
        ]
