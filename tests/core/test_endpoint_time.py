"""`TokenEndpoint`: the lifetime of a token."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from simplestore_async import RetryPolicy, TokenEndpoint
from simplestore_async.errors import TokenResponseError

if TYPE_CHECKING:
    from simplestore_async import AccessToken
    from simplestore_async.sandbox import Sandbox
    from tests.support.clocks import FakeClock


async def request_while(
    sandbox: Sandbox, clock: FakeClock, seconds: float, *, step: float = 0, attempts: int = 2
) -> tuple[AccessToken, float]:
    """Advance and step the clock during a token request; return the token and the time of its request."""
    policy = RetryPolicy(attempts=attempts, retry_seconds=0.01)
    endpoint = TokenEndpoint(sandbox.credentials, clock=clock, policy=policy)
    deadline = asyncio.get_running_loop().time() + 5
    with sandbox.token_endpoint.hold() as held:
        fetch = asyncio.create_task(endpoint.fetch(deadline=deadline, may_retry=lambda: True))
        await held.wait_for_requests()
        clock.advance(seconds)
        clock.step_wall(step)
    return await fetch


@pytest.mark.parametrize(
    ("seconds", "step"), [(0, 0), (59.9, 0), (0, -86_400), (0, 86_400)], ids=["at once", "late", "back", "ahead"]
)
async def test_counted_from_the_request(sandbox: Sandbox, clock: FakeClock, seconds: float, step: float) -> None:
    """A token's lifetime starts at its request, whatever the wall clock does until it arrives."""
    sandbox.lifetime_seconds = 60
    token, requested_at = await request_while(sandbox, clock, seconds, step=step)

    assert (1_000, 1_700_000_000, 1_700_000_060) == (requested_at, token.issued_at, token.expires_at)
    assert 1 == len(sandbox.requests)


@pytest.mark.parametrize("seconds", [60, 1e6])
async def test_expired_on_arrival(sandbox: Sandbox, clock: FakeClock, seconds: float) -> None:
    """A token that expires before it arrives causes a retryable TokenResponseError."""
    sandbox.lifetime_seconds = 60
    with pytest.raises(TokenResponseError) as caught:
        await request_while(sandbox, clock, seconds, attempts=1)

    assert "token request failed: the token of 60 s had expired when it arrived" == str(caught.value)
    assert caught.value.retryable


async def test_counted_from_the_attempt(sandbox: Sandbox, clock: FakeClock) -> None:
    """A token's lifetime starts at the attempt that obtained it, not at the first attempt."""
    sandbox.lifetime_seconds = 60
    token, requested_at = await request_while(sandbox, clock, 60)

    assert (1_060, 1_700_000_060) == (requested_at, token.issued_at)
    assert 2 == len(sandbox.requests)
