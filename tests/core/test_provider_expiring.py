"""`TokenProvider` in the last seconds of a token: brief waits, and how long callers waited."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from simplestore_async import RenewalPolicy, RetryPolicy
from simplestore_async.errors import ProviderClosedError, TokenEndpointError
from simplestore_async.events import (
    Event,
    RenewalFailed,
    RenewalOverdue,
    TokenReceived,
)
from tests.support.providers import DUE, HARD, LIFE, TICK, begin, get_at_once, of_kind, renewal_ends

if TYPE_CHECKING:
    from tests.support.clocks import FakeClock
    from tests.support.servers import TokenServer


# A wait that a test could not sit through, where it must not happen.
PATIENT = RenewalPolicy(max_wait_seconds=600)


class TestHardWindow:
    async def test_begins(self, token_server: TokenServer, clock: FakeClock) -> None:
        """Until 30 s before its end callers get the token at once; from then on they wait for the renewal."""
        async with token_server.provider(clock=clock, policy=PATIENT) as provider:
            old = await provider.get_token()
            token_server.gate.clear()
            clock.advance(HARD - TICK)
            assert old is get_at_once(provider)

            clock.advance(TICK)
            caller = await begin(provider)
            token_server.gate.set()

            assert "canary-token-2" == (await caller).value
        assert 2 == len(token_server.requests)

    async def test_renewal_fails(self, token_server: TokenServer, clock: FakeClock, events: list[Event]) -> None:
        """When the renewal fails, callers get the token that lives, as soon as it has; later ones without waiting."""
        async with token_server.provider(clock=clock, policy=PATIENT, on_event=events.append) as provider:
            old = await provider.get_token()
            clock.advance(HARD)
            token_server.replies = [503, 503, 503]

            assert [old, old] == [*await asyncio.gather(provider.get_token(), provider.get_token())]

            assert old is get_at_once(provider)
            clock.advance(1)
            assert "canary-token-2" == (await provider.get_token()).value
        [failure] = of_kind(RenewalFailed, events)
        assert ("due", True, 2) == (failure.cause, failure.is_token_alive, failure.waiter_count)
        assert [] == of_kind(RenewalOverdue, events)
        assert 5 == len(token_server.requests)

    @pytest.mark.parametrize(
        ("age", "policy", "wait"),
        [
            pytest.param(HARD, RenewalPolicy(max_wait_seconds=0.0625), 0.0625, id="the policy's seconds"),
            pytest.param(LIFE - 0.125, PATIENT, 0.0625, id="half of what is left"),
        ],
    )
    async def test_renewal_hangs(
        self,
        *,
        token_server: TokenServer,
        clock: FakeClock,
        events: list[Event],
        age: float,
        policy: RenewalPolicy,
        wait: float,
    ) -> None:
        """When the renewal hangs, callers wait briefly, then get the current token; this is reported once."""
        loop = asyncio.get_running_loop()
        async with token_server.provider(clock=clock, policy=policy, on_event=events.append) as provider:
            old = await provider.get_token()
            clock.advance(age)
            token_server.gate.clear()
            began_at = loop.time()

            assert [old, old] == [*await asyncio.gather(provider.get_token(), provider.get_token())]
            waited = loop.time() - began_at
            assert old is await provider.get_token()
            token_server.gate.set()

        assert wait - 0.001 < waited < 60
        assert [RenewalOverdue(waited_seconds=wait, life_seconds=LIFE - age)] == of_kind(RenewalOverdue, events)
        assert 2 == len(token_server.requests)

    async def test_each_renewal_that_hangs_is_told(
        self, token_server: TokenServer, clock: FakeClock, quick: RetryPolicy, events: list[Event]
    ) -> None:
        """A second overdue renewal is also reported."""
        async with token_server.provider(clock=clock, retry=quick, on_event=events.append) as provider:
            old = await provider.get_token()
            clock.advance(HARD)
            for _ in range(2):
                token_server.replies = [400]
                token_server.gate.clear()
                assert old is await provider.get_token()
                token_server.gate.set()
                await renewal_ends()
                clock.advance(10)

        assert [30.0, 20.0] == [event.life_seconds for event in of_kind(RenewalOverdue, events)]

    async def test_ends(self, token_server: TokenServer, clock: FakeClock) -> None:
        """While the endpoint is down the token is served until its end; from then on the failure is."""
        async with token_server.provider(clock=clock, policy=PATIENT) as provider:
            old = await provider.get_token()
            token_server.replies = [web.json_response({}, status=503, headers={"Retry-After": "100"})]
            clock.advance(HARD)
            assert old is await provider.get_token()

            clock.advance(30 - TICK)
            assert old is get_at_once(provider)
            clock.advance(TICK)

            with pytest.raises(TokenEndpointError):
                provider.get_token().send(None)
        assert 2 == len(token_server.requests)

    async def test_wait_outlasts_the_token(
        self, token_server: TokenServer, clock: FakeClock, events: list[Event]
    ) -> None:
        """A token that expires while a caller waits (the machine slept) is not served: the caller waits on."""
        policy = RenewalPolicy(max_wait_seconds=0.01)
        async with token_server.provider(clock=clock, policy=policy, on_event=events.append) as provider:
            await provider.get_token()
            clock.advance(HARD)
            token_server.gate.clear()
            first = await begin(provider)
            clock.advance(30)
            second = asyncio.create_task(provider.get_token())
            await asyncio.wait([first], timeout=5 * policy.max_wait_seconds)
            assert (False, False) == (first.done(), second.done())
            token_server.gate.set()

            assert ["canary-token-2"] * 2 == [(await caller).value for caller in (first, second)]
        assert 2 == len(token_server.requests)
        # The event is for a caller that got the old token.
        assert [] == of_kind(RenewalOverdue, events)

    async def test_wait_outlasts_the_token_and_the_renewal_fails(
        self, token_server: TokenServer, clock: FakeClock
    ) -> None:
        """A token that expires while a caller waits is not served when the renewal fails: the error is."""
        async with token_server.provider(clock=clock, policy=PATIENT) as provider:
            await provider.get_token()
            clock.advance(HARD)
            token_server.replies = [400]
            token_server.gate.clear()
            token_server.arrived.clear()
            caller = await begin(provider)
            await token_server.arrived.wait()
            clock.advance(30)
            token_server.gate.set()

            with pytest.raises(TokenEndpointError):
                await caller
        assert 2 == len(token_server.requests)

    async def test_token_is_rejected_during_the_wait(self, token_server: TokenServer, clock: FakeClock) -> None:
        """A token that is rejected while a caller waits is not served when the renewal fails."""
        async with token_server.provider(clock=clock, policy=PATIENT) as provider:
            old = await provider.get_token()
            clock.advance(HARD)
            token_server.replies = [400]
            token_server.gate.clear()
            token_server.arrived.clear()
            caller = await begin(provider)
            await token_server.arrived.wait()
            assert provider.invalidate(old)
            token_server.gate.set()

            with pytest.raises(TokenEndpointError):
                await caller

    async def test_endpoint_is_left_alone(self, token_server: TokenServer, clock: FakeClock) -> None:
        """Within the pause after a failure callers get the token without a wait."""
        async with token_server.provider(clock=clock, policy=PATIENT) as provider:
            old = await provider.get_token()
            clock.advance(HARD - TICK)
            token_server.replies = [503]
            get_at_once(provider)
            await renewal_ends()
            clock.advance(TICK)

            assert old is get_at_once(provider)
        assert 2 == len(token_server.requests)

    async def test_provider_is_closed(self, token_server: TokenServer, clock: FakeClock) -> None:
        """A caller that waits in the hard window learns of aclose(); it does not get the old token."""
        provider = token_server.provider(clock=clock, policy=PATIENT)
        await provider.get_token()
        clock.advance(HARD)
        token_server.gate.clear()
        caller = await begin(provider)

        await provider.aclose()

        with pytest.raises(ProviderClosedError):
            await caller
        token_server.gate.set()

    async def test_caller_is_cancelled(self, token_server: TokenServer, clock: FakeClock) -> None:
        """A caller cancelled while it waits for an expiring token's renewal stays cancelled; the renewal continues."""
        async with token_server.provider(clock=clock, policy=PATIENT) as provider:
            await provider.get_token()
            clock.advance(HARD)
            token_server.gate.clear()
            token_server.arrived.clear()
            caller = await begin(provider)
            await token_server.arrived.wait()
            caller.cancel()
            await asyncio.wait([caller])
            token_server.gate.set()
            await renewal_ends()

            assert "canary-token-2" == get_at_once(provider).value
        assert caller.cancelled()
        assert 2 == len(token_server.requests)


class TestLongestWait:
    async def test_of_a_caller_that_came_during_the_renewal(
        self, token_server: TokenServer, clock: FakeClock, events: list[Event]
    ) -> None:
        """It is counted from the first caller without a token, not from the renewal's start or later callers."""
        async with token_server.provider(clock=clock, on_event=events.append) as provider:
            await provider.get_token()
            clock.advance(DUE)
            token_server.gate.clear()
            token_server.arrived.clear()
            get_at_once(provider)
            await token_server.arrived.wait()
            clock.advance(LIFE - DUE)
            callers = [await begin(provider)]
            clock.advance(2)
            callers.append(await begin(provider))
            clock.advance(1)
            token_server.gate.set()
            await asyncio.gather(*callers)

        assert [(0.0, 1, 0.0), (LIFE - DUE + 3.0, 2, 3.0)] == [
            (event.duration_seconds, event.waiter_count, event.longest_wait_seconds)
            for event in of_kind(TokenReceived, events)
        ]

    async def test_of_a_caller_that_is_gone(
        self, token_server: TokenServer, clock: FakeClock, events: list[Event]
    ) -> None:
        """A cancelled caller counts, although no waiter is left; the next renewal counts anew."""
        async with token_server.provider(clock=clock, on_event=events.append) as provider:
            token_server.gate.clear()
            caller = await begin(provider)
            await token_server.arrived.wait()
            caller.cancel()
            await asyncio.wait([caller])
            clock.advance(2)
            token_server.gate.set()
            await renewal_ends()
            clock.advance(DUE)
            get_at_once(provider)
            await renewal_ends()

        assert [(0, 2.0), (0, 0.0)] == [
            (event.waiter_count, event.longest_wait_seconds) for event in of_kind(TokenReceived, events)
        ]

    async def test_of_a_caller_that_still_has_a_token(
        self, token_server: TokenServer, clock: FakeClock, events: list[Event]
    ) -> None:
        """A caller that waits briefly and could get the current token is counted, but not its wait."""
        async with token_server.provider(clock=clock, policy=PATIENT, on_event=events.append) as provider:
            await provider.get_token()
            clock.advance(HARD)
            token_server.gate.clear()
            token_server.arrived.clear()
            caller = await begin(provider)
            await token_server.arrived.wait()
            clock.advance(2)
            token_server.gate.set()
            await caller

        assert [(1, 0.0), (1, 0.0)] == [
            (event.waiter_count, event.longest_wait_seconds) for event in of_kind(TokenReceived, events)
        ]
