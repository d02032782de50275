"""`TokenProvider` without a token: failures, backoff and defects; `test_policy.py` has the backoff lengths."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import aiohttp
import pytest

from simplestore_async import AccessToken, TokenEndpoint, TokenProvider
from simplestore_async.errors import ConfigurationError, TokenEndpointError, TokenError
from simplestore_async.events import Event, OutageBegan, OutageEnded, RenewalFailed, RenewalStarted
from simplestore_async.sandbox import Fault, Sandbox, Status
from tests.support.providers import TICK, Panic, begin_held, get_at_once, of_kind
from tests.support.servers import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.clocks import FakeClock
    from tests.support.providers import Provide


@pytest.mark.parametrize(
    ("fault", "pauses"),
    [
        pytest.param(Status(503), [1, 1], id="passing"),
        pytest.param(Status(400), [5, 10, 20], id="terminal"),
        pytest.param(Status(429, retry_after=100), [100, 100], id="retry-after"),
    ],
)
async def test_backoff(
    *,
    sandbox: Sandbox,
    clock: FakeClock,
    provider: TokenProvider,
    events: list[Event],
    fault: Fault,
    pauses: list[float],
) -> None:
    """During the backoff after a failure each caller gets its own copy of the error at once, without a request."""
    sandbox.fail_next(len(pauses), fault)
    for count, pause in enumerate(pauses, 1):
        with pytest.raises(TokenEndpointError) as first:
            await provider.get_token()
        clock.advance(pause - TICK)
        with pytest.raises(TokenEndpointError) as second:
            get_at_once(provider)
        clock.advance(TICK)

        assert first.value is not second.value
        assert (first.value.args, vars(first.value)) == (second.value.args, vars(second.value))
        assert count == sandbox.counters.token_requests

    assert isinstance(await provider.get_token(), AccessToken)
    assert pauses == [event.retry_in_seconds for event in of_kind(RenewalFailed, events)]


async def test_events(sandbox: Sandbox, clock: FakeClock, provider: TokenProvider, events: list[Event]) -> None:
    """Every failure is reported, and the start and end of the outage once."""
    sandbox.fail_next(1)
    sandbox.fail_next(1, Status(400))
    held, *callers = await begin_held(sandbox, provider, callers=2)
    clock.advance(3)
    held.release()
    errors = await asyncio.gather(*callers, return_exceptions=True)
    with pytest.raises(TokenEndpointError):
        await provider.get_token()
    clock.advance(1)
    with pytest.raises(TokenEndpointError):
        await provider.get_token()
    clock.advance(10)
    await provider.get_token()

    failed: dict[str, Any] = {"cause": "first", "error": ANY, "is_token_alive": False}
    assert [
        RenewalStarted(cause="first"),
        RenewalFailed(**failed, duration_seconds=3.0, retry_in_seconds=1.0, waiter_count=2, longest_wait_seconds=3.0),
        OutageBegan(error=ANY, life_seconds=0.0),
        RenewalStarted(cause="first"),
        RenewalFailed(**failed, duration_seconds=0.0, retry_in_seconds=10.0, waiter_count=1),
        RenewalStarted(cause="first"),
        ANY,  # the token
        OutageEnded(duration_seconds=11.0),
    ] == events
    assert {TokenEndpointError} == {type(event.error) for event in of_kind(RenewalFailed, events)}
    assert [TokenEndpointError] * 2 == [type(error) for error in errors]
    assert errors[0] is not errors[1]


async def test_wrong_setting(sandbox: Sandbox, provide: Provide, clock: FakeClock, events: list[Event]) -> None:
    """A ConfigurationError during the renewal is raised unchanged and counts as a terminal failure."""
    connector = aiohttp.TCPConnector()
    await connector.close()
    provider = provide(endpoint=TokenEndpoint(sandbox.credentials, connector=connector, clock=clock))
    with pytest.raises(ConfigurationError, match=r"^connector is closed"):
        await provider.get_token()
    with pytest.raises(ConfigurationError, match=r"^connector is closed"):
        get_at_once(provider)

    assert [5.0] == [event.retry_in_seconds for event in of_kind(RenewalFailed, events)]


class BrokenEndpoint(TokenEndpoint):
    """An endpoint that raises `error` unless it is None."""

    error: type[BaseException] | None = None
    fetches = 0

    async def fetch(self, *, deadline: float, may_retry: Callable[[], bool]) -> tuple[AccessToken, float]:
        self.fetches += 1
        if self.error is not None:
            raise self.error(SECRET)
        return await super().fetch(deadline=deadline, may_retry=may_retry)


class TestDefect:
    @pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError, Panic])
    async def test_in_the_endpoint(
        self, sandbox: Sandbox, provide: Provide, clock: FakeClock, events: list[Event], error: type[BaseException]
    ) -> None:
        """An unexpected exception becomes a TokenError with its type and place, not its text, and causes a backoff."""
        endpoint = BrokenEndpoint(sandbox.credentials, clock=clock)
        endpoint.error = error
        provider = provide(endpoint=endpoint)
        with pytest.raises(TokenError, match=rf"unexpected {error.__name__} in fetch, line \d+") as caught:
            await provider.get_token()
        with pytest.raises(TokenError, match="unexpected"):
            get_at_once(provider)
        assert 1 == endpoint.fetches

        endpoint.error = None
        clock.advance(1)

        assert isinstance(await provider.get_token(), AccessToken)
        assert "canary" not in str(caught.value)
        assert (None, None) == (caught.value.__cause__, caught.value.__context__)
        assert (TokenError, True) == (type(caught.value), caught.value.retryable)
        assert ("" if error is asyncio.CancelledError else "please report it") == caught.value.hint
        assert [1.0] == [event.retry_in_seconds for event in of_kind(RenewalFailed, events)]
