"""`TokenProvider.invalidate` and `accept`: what becomes of a token that the API rejected."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from simplestore_async import AccessToken, RetryPolicy
from simplestore_async.errors import (
    TokenEndpointError,
)
from simplestore_async.events import (
    Event,
    RenewalFailed,
    RenewalStarted,
    TokenRejected,
)
from simplestore_async.sandbox import Response, Sandbox
from tests.support.providers import DUE, TICK, get_at_once, provider_of, renewal_ends

if TYPE_CHECKING:
    from tests.support.clocks import FakeClock

ONCE = RetryPolicy(attempts=1)


class TestInvalidate:
    async def test_first_rejection(self, sandbox: Sandbox, clock: FakeClock, events: list[Event]) -> None:
        """A first rejection is replaced at once, however young the token; an event has its age."""
        async with provider_of(sandbox, clock=clock, on_event=events.append) as provider:
            token = await provider.get_token()
            clock.advance(0.25)

            assert provider.invalidate(token)

            assert token.value != (await provider.get_token()).value
        assert [TokenRejected(age_seconds=0.25, is_replaced=True), RenewalStarted(cause="rejected")] == events[2:4]
        assert 2 == sandbox.counters.token_requests

    async def test_no_token_is_held(self, sandbox: Sandbox, events: list[Event]) -> None:
        """Nothing held, nothing to hold on to: True, and no event."""
        async with provider_of(sandbox, on_event=events.append) as provider:
            assert provider.invalidate(AccessToken("canary", issued_at=0, expires_at=1))
        assert [] == events

    async def test_other_token_is_held(self, sandbox: Sandbox, clock: FakeClock, events: list[Event]) -> None:
        """The rejection of a token that was replaced long ago costs nothing: True, no event, no request."""
        async with provider_of(sandbox, clock=clock, on_event=events.append) as provider:
            old = await provider.get_token()
            provider.invalidate(old)
            new = await provider.get_token()
            del events[:]

            assert provider.invalidate(old)

            assert new is get_at_once(provider)
        assert [] == events
        assert 2 == sandbox.counters.token_requests

    async def test_stragglers(self, sandbox: Sandbox, clock: FakeClock) -> None:
        """100 rejections of one token, before, during and after the renewal, make one request and all are True."""
        async with provider_of(sandbox, clock=clock) as provider:
            old = await provider.get_token()
            held = sandbox.token_endpoint.hold()

            answers = [provider.invalidate(old) for _ in range(40)]
            callers = [asyncio.create_task(provider.get_token()) for _ in range(40)]
            await held.wait_for_requests()
            answers += [provider.invalidate(old) for _ in range(40)]
            held.release()
            tokens = await asyncio.gather(*callers)
            answers += [provider.invalidate(old) for _ in range(20)]

            assert tokens[0] is get_at_once(provider)
        assert [True] * 100 == answers
        assert {tokens[0].value} == {token.value for token in tokens} - {old.value}
        assert 2 == sandbox.counters.token_requests

    async def test_api_that_always_refuses(self, sandbox: Sandbox, clock: FakeClock) -> None:
        """500 requests within 5 s, each answered 401, make 2 token requests."""
        async with provider_of(sandbox, clock=clock) as provider:
            for _ in range(500):
                if provider.invalidate(await provider.get_token()):
                    await provider.get_token()
                clock.advance(5 / 512)

        assert 2 == sandbox.counters.token_requests

    async def test_young_replacement_is_held(self, sandbox: Sandbox, clock: FakeClock, events: list[Event]) -> None:
        """A replacement that is rejected in turn is kept for 5 s, then 10, 20, … 300 s, counted from its request."""
        async with provider_of(sandbox, clock=clock, on_event=events.append) as provider:
            provider.invalidate(await provider.get_token())
            for hold in (5, 10, 20, 40, 80, 160, 300):
                replacement = await provider.get_token()
                clock.advance(hold - TICK)
                assert not provider.invalidate(replacement)
                assert replacement is get_at_once(provider)
                clock.advance(TICK)
                assert provider.invalidate(replacement)

        assert [True, *[False, True] * 7] == [event.is_replaced for event in events if isinstance(event, TokenRejected)]
        assert 8 == sandbox.counters.token_requests

    @pytest.mark.parametrize(
        ("life", "hold"),
        [pytest.param(300 - TICK, 40, id="just under 300 s"), pytest.param(300, 5, id="300 s")],
    )
    async def test_hold_starts_over(self, sandbox: Sandbox, clock: FakeClock, life: float, hold: float) -> None:
        """Once a token has lived 300 s before its rejection, the next replacement is held for 5 s again."""
        async with provider_of(sandbox, clock=clock) as provider:
            for age in (0, 5, 10, life):
                token = await provider.get_token()
                clock.advance(age)
                assert provider.invalidate(token)

            replacement = await provider.get_token()

            clock.advance(hold - TICK)
            assert not provider.invalidate(replacement)
            clock.advance(TICK)
            assert provider.invalidate(replacement)

    async def test_replacement_that_served_is_no_replacement_any_more(self, sandbox: Sandbox, clock: FakeClock) -> None:
        """The token that follows a replacement by the clock is an ordinary one: its first rejection renews at once."""
        async with provider_of(sandbox, clock=clock) as provider:
            provider.invalidate(await provider.get_token())
            await provider.get_token()
            clock.advance(3_600)
            ordinary = await provider.get_token()

            assert provider.invalidate(ordinary)
        assert 3 == sandbox.counters.token_requests

    async def test_accepted_replacement(self, sandbox: Sandbox, clock: FakeClock) -> None:
        """A replacement that the API accepted is replaced at its next rejection, and the hold starts over."""
        async with provider_of(sandbox, clock=clock) as provider:
            provider.invalidate(await provider.get_token())
            for _ in range(4):
                replacement = await provider.get_token()
                assert not provider.invalidate(replacement)
                provider.accept(replacement)
                assert provider.invalidate(replacement)

            replacement = await provider.get_token()
            clock.advance(5 - TICK)
            assert not provider.invalidate(replacement)
            clock.advance(TICK)
            assert provider.invalidate(replacement)

    async def test_acceptance_of_another_token(self, sandbox: Sandbox) -> None:
        """The acceptance of a token that is not held changes nothing."""
        async with provider_of(sandbox) as provider:
            first = await provider.get_token()
            provider.invalidate(first)
            replacement = await provider.get_token()

            provider.accept(first)

            assert not provider.invalidate(replacement)

    async def test_failure_outranks_a_rejection(self, sandbox: Sandbox, clock: FakeClock, events: list[Event]) -> None:
        """While the endpoint is left alone after a failure, a rejected token is kept; afterwards it is replaced."""
        async with provider_of(sandbox, clock=clock, on_event=events.append) as provider:
            token = await provider.get_token()
            clock.advance(DUE)
            sandbox.fail_next(1)
            get_at_once(provider)
            await renewal_ends()
            clock.advance(1 - TICK)

            assert not provider.invalidate(token)
            assert token is get_at_once(provider)
            clock.advance(TICK)
            assert provider.invalidate(token)

            assert token.value != (await provider.get_token()).value
        assert [
            TokenRejected(age_seconds=DUE + 1 - TICK, is_replaced=False),
            TokenRejected(age_seconds=DUE + 1, is_replaced=True),
        ] == [event for event in events if isinstance(event, TokenRejected)]

    async def test_failure_while_no_token_is_held(self, sandbox: Sandbox, clock: FakeClock) -> None:
        """Without a token, and the endpoint left alone, no replacement may be asked for: False until that is over."""
        sandbox.fail_next(1)
        async with provider_of(sandbox, clock=clock, retry=ONCE) as provider:
            token = AccessToken("canary", issued_at=0, expires_at=1)
            with pytest.raises(TokenEndpointError):
                await provider.get_token()

            clock.advance(1 - TICK)
            assert not provider.invalidate(token)
            clock.advance(TICK)
            assert provider.invalidate(token)

    async def test_failed_replacement(self, sandbox: Sandbox, clock: FakeClock, events: list[Event]) -> None:
        """If the replacement fails, its error is raised: a rejected token is not given out again."""
        async with provider_of(sandbox, clock=clock, retry=ONCE, on_event=events.append) as provider:
            token = await provider.get_token()
            provider.invalidate(token)
            sandbox.fail_next(1)

            with pytest.raises(TokenEndpointError):
                await provider.get_token()

            clock.advance(1)
            assert token.value != (await provider.get_token()).value
        assert ["first", "rejected", "rejected"] == [
            event.cause for event in events if isinstance(event, RenewalStarted)
        ]
        assert [False] == [event.is_token_alive for event in events if isinstance(event, RenewalFailed)]

    async def test_after_close(self, sandbox: Sandbox, events: list[Event]) -> None:
        """After aclose() invalidate() returns False, and there is no event."""
        provider = provider_of(sandbox, on_event=events.append)
        token = await provider.get_token()
        await provider.aclose()
        del events[:]

        assert not provider.invalidate(token)
        assert [] == events

    async def test_during_a_renewal(self, sandbox: Sandbox, clock: FakeClock) -> None:
        """A token rejected while its renewal runs is gone: callers wait for that renewal, whose token replaces it."""
        async with provider_of(sandbox, clock=clock) as provider:
            old = await provider.get_token()
            clock.advance(DUE)
            held = sandbox.token_endpoint.hold()
            get_at_once(provider)
            await held.wait_for_requests()

            assert provider.invalidate(old)
            caller = asyncio.create_task(provider.get_token())
            await asyncio.sleep(0)
            assert not caller.done()
            held.release()

            replacement = await caller
            assert old.value != replacement.value
            assert not provider.invalidate(replacement)
        assert 2 == sandbox.counters.token_requests

    async def test_rejected_value_comes_from_a_request_before_the_rejection(
        self, sandbox: Sandbox, clock: FakeClock
    ) -> None:
        """A reply with the rejected value, asked for before the rejection, is not served: another one is asked for."""
        async with provider_of(sandbox, clock=clock) as provider:
            old = await provider.get_token()
            clock.advance(DUE)
            held = sandbox.token_endpoint.hold()
            sandbox.fail_next(1, Response(json={"access_token": old.value}))
            get_at_once(provider)
            await held.wait_for_requests()
            clock.advance(TICK)
            provider.invalidate(old)
            caller = asyncio.create_task(provider.get_token())
            await asyncio.sleep(0)
            clock.advance(TICK)
            held.release()

            assert old.value != (await caller).value
        assert 3 == sandbox.counters.token_requests

    async def test_rejected_value_comes_again(self, sandbox: Sandbox, clock: FakeClock) -> None:
        """A reply with the rejected value, asked for after the rejection, is taken back, and held as a replacement."""
        async with provider_of(sandbox, clock=clock) as provider:
            old = await provider.get_token()
            sandbox.fail_next(1, Response(json={"access_token": old.value}))
            provider.invalidate(old)
            clock.advance(TICK)

            again = await provider.get_token()

            assert (old.value, old.issued_at + TICK) == (again.value, again.issued_at)
            assert not provider.invalidate(again)
        assert 2 == sandbox.counters.token_requests

    async def test_rejected_value_comes_again_at_once(self, sandbox: Sandbox, clock: FakeClock) -> None:
        """So it is if the clock did not move between rejection and request: a clock may be coarse, or stand still."""
        async with provider_of(sandbox, clock=clock) as provider:
            old = await provider.get_token()
            sandbox.fail_next(100, Response(json={"access_token": old.value}))
            provider.invalidate(old)

            assert old.value == (await provider.get_token()).value
        assert 2 == sandbox.counters.token_requests
