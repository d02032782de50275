"""`TokenProvider` with an expiring token: brief waits, and the longest wait in events."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from simplestore_async import RenewalPolicy
from simplestore_async.errors import ProviderClosedError, TokenEndpointError
from simplestore_async.events import Event, RenewalFailed, RenewalOverdue, TokenReceived
from tests.support.providers import DUE, HARD, LIFE, PATIENT, TICK, begin, get_at_once, of_kind, renewal_ends

if TYPE_CHECKING:
    from simplestore_async import AccessToken, TokenProvider
    from simplestore_async.sandbox import HeldResponses, Sandbox
    from tests.support.clocks import FakeClock
    from tests.support.providers import Provide


@pytest.fixture
def provider(provide: Provide) -> TokenProvider:
    return provide(policy=PATIENT)


async def wait_briefly(
    sandbox: Sandbox, clock: FakeClock, provider: TokenProvider, *, will_fail: bool = False
) -> tuple[AccessToken, HeldResponses, asyncio.Task[AccessToken]]:
    """Return an expiring token, the held response to its renewal, and a caller that waits for it."""
    old = await provider.get_token()
    clock.advance(HARD)
    if will_fail:
        sandbox.fail_next(1)
    held = sandbox.token_endpoint.hold()
    caller = await begin(provider)
    await held.wait_for_requests()
    return old, held, caller


class TestBriefWait:
    async def test_begins(self, sandbox: Sandbox, clock: FakeClock, provider: TokenProvider) -> None:
        """Callers get the token at once until it is expiring, and then wait for the renewal."""
        old = await provider.get_token()
        held = sandbox.token_endpoint.hold()
        clock.advance(HARD - TICK)
        assert old is get_at_once(provider)

        clock.advance(TICK)
        caller = await begin(provider)
        held.release()

        assert old.value != (await caller).value
        assert 2 == sandbox.counters.token_requests

    async def test_renewal_fails(
        self, sandbox: Sandbox, clock: FakeClock, provider: TokenProvider, events: list[Event]
    ) -> None:
        """If the renewal fails, its waiters and, during the backoff, later callers get the live token at once."""
        old = await provider.get_token()
        clock.advance(HARD)
        sandbox.fail_next(1)

        assert [old, old] == [*await asyncio.gather(provider.get_token(), provider.get_token())]

        assert old is get_at_once(provider)
        clock.advance(1)
        assert old.value != (await provider.get_token()).value
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
        self, sandbox: Sandbox, clock: FakeClock, provider: TokenProvider, is_rejected: bool
    ) -> None:
        """If the token expires or is rejected during the brief wait and the renewal fails, its error is raised."""
        old, held, caller = await wait_briefly(sandbox, clock, provider, will_fail=True)
        if is_rejected:
            assert provider.invalidate(old)
        else:
            clock.advance(LIFE - HARD)
        held.release()

        with pytest.raises(TokenEndpointError):
            await caller
        assert 2 == sandbox.counters.token_requests

    async def test_provider_is_closed(self, sandbox: Sandbox, clock: FakeClock, provider: TokenProvider) -> None:
        """Closing the provider during the brief wait raises ProviderClosedError."""
        _, _, caller = await wait_briefly(sandbox, clock, provider)

        await provider.aclose()

        with pytest.raises(ProviderClosedError):
            await caller

    async def test_caller_is_cancelled(self, sandbox: Sandbox, clock: FakeClock, provider: TokenProvider) -> None:
        """Cancelling a caller during the brief wait does not affect the renewal."""
        old, held, caller = await wait_briefly(sandbox, clock, provider)
        caller.cancel()
        await asyncio.wait([caller])
        held.release()
        await renewal_ends()

        assert old.value != get_at_once(provider).value
        assert caller.cancelled()
        assert 2 == sandbox.counters.token_requests


class TestLongestWait:
    async def test_caller_without_a_token(
        self, sandbox: Sandbox, clock: FakeClock, provider: TokenProvider, events: list[Event]
    ) -> None:
        """The longest wait starts with the first caller without a token, not with the renewal."""
        await provider.get_token()
        clock.advance(DUE)
        held = sandbox.token_endpoint.hold()
        get_at_once(provider)
        await held.wait_for_requests()
        clock.advance(LIFE - DUE)
        callers = [await begin(provider)]
        clock.advance(2)
        callers.append(await begin(provider))
        clock.advance(1)
        held.release()
        await asyncio.gather(*callers)

        assert [(0.0, 1, 0.0), (LIFE - DUE + 3.0, 2, 3.0)] == [
            (event.duration_seconds, event.waiter_count, event.longest_wait_seconds)
            for event in of_kind(TokenReceived, events)
        ]

    async def test_cancelled_caller(
        self, sandbox: Sandbox, clock: FakeClock, provider: TokenProvider, events: list[Event]
    ) -> None:
        """A cancelled caller's wait is included, although it is no longer a waiter."""
        held = sandbox.token_endpoint.hold()
        caller = await begin(provider)
        await held.wait_for_requests()
        caller.cancel()
        await asyncio.wait([caller])
        clock.advance(2)
        held.release()
        await renewal_ends()

        [event] = of_kind(TokenReceived, events)
        assert (0, 2.0) == (event.waiter_count, event.longest_wait_seconds)

    async def test_caller_with_a_token(
        self, sandbox: Sandbox, clock: FakeClock, provider: TokenProvider, events: list[Event]
    ) -> None:
        """A brief wait for an expiring token counts as a waiter but not towards the longest wait."""
        _, held, caller = await wait_briefly(sandbox, clock, provider)
        clock.advance(2)
        held.release()
        await caller

        assert [(1, 0.0), (1, 0.0)] == [
            (event.waiter_count, event.longest_wait_seconds) for event in of_kind(TokenReceived, events)
        ]
