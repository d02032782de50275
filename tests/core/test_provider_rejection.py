"""`TokenProvider.invalidate()` and `accept()`; `test_state_tables.py` and `test_state.py` have the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from simplestore_async import AccessToken
from simplestore_async.events import Event, RenewalStarted, TokenRejected
from simplestore_async.sandbox import Response, Sandbox
from tests.support.providers import DUE, TICK, begin, get_at_once, of_kind

if TYPE_CHECKING:
    from simplestore_async import TokenProvider
    from tests.support.clocks import FakeClock


async def test_first_and_second_rejection(
    sandbox: Sandbox, clock: FakeClock, provider: TokenProvider, events: list[Event]
) -> None:
    """A rejected token is replaced at once, its young replacement is not, and a token that is not held is ignored."""
    other = AccessToken("canary", issued_at=0, expires_at=1)
    assert provider.invalidate(other)
    token = await provider.get_token()
    assert provider.invalidate(other)
    provider.accept(token)
    clock.advance(0.25)
    assert provider.invalidate(token)
    replacement = await provider.get_token()
    clock.advance(1)

    assert not provider.invalidate(replacement)

    assert replacement is get_at_once(provider)
    assert token.value != replacement.value
    rejections = [TokenRejected(age_seconds=0.25, is_replaced=True), TokenRejected(age_seconds=1, is_replaced=False)]
    assert rejections == of_kind(TokenRejected, events)
    assert ["first", "rejected"] == [event.cause for event in of_kind(RenewalStarted, events)]
    assert 2 == sandbox.counters.token_requests


@pytest.mark.parametrize("is_same", [False, True], ids=["another token", "the same token"])
async def test_during_a_renewal(sandbox: Sandbox, clock: FakeClock, provider: TokenProvider, is_same: bool) -> None:
    """If a token is rejected during its renewal, callers get a replacement, requested again if it is the same token."""
    old = await provider.get_token()
    clock.advance(DUE)
    held = sandbox.token_endpoint.hold()
    if is_same:
        sandbox.fail_next(1, Response(json={"access_token": old.value}))
    get_at_once(provider)
    await held.wait_for_requests()
    clock.advance(TICK)
    assert provider.invalidate(old)
    caller = await begin(provider)
    held.release()

    replacement = await caller
    assert old.value != replacement.value
    assert not provider.invalidate(replacement)
    assert (3 if is_same else 2) == sandbox.counters.token_requests
