"""`TokenEndpoint`: the life of a token, and the clock that counts it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from simplestore_async import AccessToken, RetryPolicy
from simplestore_async.errors import (
    TokenError,
    TokenResponseError,
)
from tests.support.token_requests import (
    failure,
)
from tests.support.wire_faults import (
    everything_shown,
    shows_secret,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.clocks import FakeClock
    from tests.support.servers import TokenServer


class TestTime:
    async def test_counted_from_the_request(self, token_server: TokenServer, clock: FakeClock) -> None:
        """A token's life begins when it was asked for, not when it came."""
        token_server.lifetime = 500
        token_server.gate.clear()
        endpoint = token_server.endpoint(clock=clock)
        deadline = asyncio.get_running_loop().time() + 5
        fetch = asyncio.create_task(endpoint.fetch(deadline=deadline, may_retry=lambda: True))
        await token_server.arrived.wait()
        clock.advance(100)
        token_server.gate.set()
        token, requested_at = await fetch

        assert 1_000 == requested_at
        assert (1_700_000_000, 1_700_000_500) == (token.issued_at, token.expires_at)

    async def test_counted_from_the_attempt(
        self, token_server: TokenServer, clock: FakeClock, quick: RetryPolicy
    ) -> None:
        """It is the attempt that brought it from which a token's life counts, not the first one."""
        token_server.replies = [503]

        def may_retry() -> bool:
            clock.advance(100)
            return True

        endpoint = token_server.endpoint(clock=clock, policy=quick)
        deadline = asyncio.get_running_loop().time() + 5
        token, requested_at = await endpoint.fetch(deadline=deadline, may_retry=may_retry)

        assert 1_100 == requested_at
        assert 1_700_000_100 == token.issued_at

    @pytest.mark.parametrize("late", [60, 61, 1e6])
    async def test_expired_on_arrival(self, token_server: TokenServer, clock: FakeClock, late: float) -> None:
        """A token whose life has passed on its way is a TokenResponseError."""
        token_server.lifetime = 60
        error = await failure_while(token_server, clock.advance, late, clock=clock)

        assert TokenResponseError is type(error)
        assert error.retryable
        assert "token request failed: the token of 60 s had expired when it arrived" == str(error)
        assert not shows_secret(everything_shown(error))
        assert "canary-token" not in everything_shown(error)

    async def test_asked_again(self, token_server: TokenServer, clock: FakeClock, quick: RetryPolicy) -> None:
        """After a token that came too late another one is asked for."""
        token_server.lifetime = 60
        token_server.gate.clear()
        request = asyncio.create_task(token_server.endpoint(clock=clock, policy=quick).request_token())
        await token_server.arrived.wait()
        clock.advance(60)
        token_server.gate.set()

        assert ("canary-token-2", 1_700_000_060) == ((await request).value, (await request).issued_at)

    @pytest.mark.parametrize("late", [0, 59.9])
    async def test_just_in_time(self, token_server: TokenServer, clock: FakeClock, late: float) -> None:
        """A token that still lives when it arrives is one."""
        token_server.lifetime = 60
        token_server.gate.clear()
        request = asyncio.create_task(token_server.endpoint(clock=clock).request_token())
        await token_server.arrived.wait()
        clock.advance(late)
        token_server.gate.set()

        assert "canary-token-1" == (await request).value

    @pytest.mark.parametrize("step", [-86_400, 86_400])
    async def test_wall_clock_is_stepped(self, token_server: TokenServer, clock: FakeClock, step: float) -> None:
        """A step of the wall clock neither kills nor prolongs a token on its way."""
        token_server.gate.clear()
        request = asyncio.create_task(token_server.endpoint(clock=clock).request_token())
        await token_server.arrived.wait()
        clock.step_wall(step)
        token_server.gate.set()
        token = await request

        assert (1_700_000_000, 1_700_003_600) == (token.issued_at, token.expires_at)

    @pytest.mark.parametrize(
        ("asked", "granted", "scope"),
        [
            ("", None, ()),
            ("write read", None, ("write", "read")),
            ("write read", "read", ("read",)),
            ("read", "", ()),
            ("", "b a", ("b", "a")),
        ],
    )
    async def test_scope(self, token_server: TokenServer, asked: str, granted: str | None, scope: tuple[str]) -> None:
        """The scope is the granted one, or the requested one if the response has none."""
        token_server.replies = [{"access_token": "a"} | ({} if granted is None else {"scope": granted})]
        token = await token_server.endpoint(credentials=token_server.credentials(scope=asked)).request_token()

        assert AccessToken("a", issued_at=token.issued_at, expires_at=token.issued_at + 3600, scope=scope) == token


async def failure_while(
    server: TokenServer, move: Callable[[float], None], seconds: float, **options: Any
) -> TokenError:
    """Return the error of a single attempt during which *move* was called."""
    server.gate.clear()
    endpoint = server.endpoint(policy=RetryPolicy(attempts=1), **options)
    request = asyncio.create_task(failure(endpoint))
    await server.arrived.wait()
    move(seconds)
    server.gate.set()
    return await request
