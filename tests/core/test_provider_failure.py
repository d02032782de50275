"""`TokenProvider` without a token: failures, backoff and defects."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import aiohttp
import pytest
from aiohttp import web

from simplestore_async import AccessToken, MemoryTokenCache, RetryPolicy, TokenEndpoint, TokenProvider
from simplestore_async.errors import (
    ConfigurationError,
    InvalidClientError,
    TokenEndpointError,
    TokenError,
)
from simplestore_async.events import (
    Event,
    OutageBegan,
    OutageEnded,
    RenewalFailed,
    RenewalStarted,
    TokenReceived,
)
from tests.support.clocks import FakeClock
from tests.support.providers import TICK
from tests.support.servers import SECRET, TokenServer

if TYPE_CHECKING:
    from collections.abc import Callable


ONCE = RetryPolicy(attempts=1)


def refuse(status: int, *, retry_after: str | None = None, error: str = "invalid_request") -> web.Response:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return web.json_response({"error": error, "title": "No luck"}, status=status, headers=headers)


class TestFailureWithoutToken:
    @pytest.mark.parametrize(
        ("reply", "pauses"),
        [
            pytest.param(lambda: refuse(503), [1, 1, 1, 1], id="passing"),
            pytest.param(lambda: refuse(400), [5, 10, 20, 40, 60, 60], id="terminal"),
            pytest.param(lambda: refuse(400, error="invalid_client"), [5, 10], id="invalid_client"),
            pytest.param(lambda: refuse(429, retry_after="100"), [100, 100], id="Retry-After"),
            pytest.param(lambda: refuse(503, retry_after="0.5"), [1, 1], id="short Retry-After"),
            pytest.param(lambda: refuse(400, retry_after="7"), [7, 10], id="Retry-After and terminal"),
            pytest.param(lambda: refuse(503, retry_after="3600"), [300, 300], id="endless Retry-After"),
            pytest.param(lambda: web.json_response([]), [1, 1], id="no token"),
        ],
    )
    async def test_endpoint_is_left_alone(
        self,
        token_server: TokenServer,
        clock: FakeClock,
        events: list[Event],
        reply: Callable[[], web.Response],
        pauses: list[float],
    ) -> None:
        """After a failure there is no token request during the backoff; callers get the error at once."""
        async with token_server.provider(clock=clock, retry=ONCE, on_event=events.append) as provider:
            for count in range(1, len(pauses) + 1):
                token_server.replies = [reply()]
                with pytest.raises(TokenError):
                    await provider.get_token()
                assert count == len(token_server.requests)
                clock.advance(pauses[count - 1] - TICK)
                with pytest.raises(TokenError):
                    provider.get_token().send(None)
                clock.advance(TICK)

            assert "canary-token-1" == (await provider.get_token()).value
        assert pauses == [event.retry_in_seconds for event in events if isinstance(event, RenewalFailed)]

    async def test_success_ends_the_doubling(
        self, token_server: TokenServer, clock: FakeClock, events: list[Event]
    ) -> None:
        """After a success the pauses begin anew."""
        async with token_server.provider(clock=clock, on_event=events.append) as provider:
            for reply in (400, 400, None, 400):
                token_server.replies = [] if reply is None else [reply]
                if reply:
                    with pytest.raises(TokenEndpointError):
                        await provider.get_token()
                else:
                    await provider.get_token()
                clock.advance(3_600)

        assert [5, 10, 5] == [event.retry_in_seconds for event in events if isinstance(event, RenewalFailed)]

    async def test_remembered_error_is_a_copy(self, token_server: TokenServer, clock: FakeClock) -> None:
        """Each caller gets its own error, with the same facts."""
        token_server.replies = [refuse(400, error="invalid_client")]
        async with token_server.provider(clock=clock) as provider:
            errors = []
            for _ in range(3):
                with pytest.raises(InvalidClientError) as caught:
                    await provider.get_token()
                errors.append(caught.value)

        assert 3 == len({id(error) for error in errors})
        assert [(400, "invalid_client", "No luck")] * 3 == [
            (error.status, error.error, error.title) for error in errors
        ]
        assert 1 == len({str(error) for error in errors})
        assert 1 == len(token_server.requests)

    async def test_events(self, token_server: TokenServer, clock: FakeClock, events: list[Event]) -> None:
        """Each failure is reported, an outage once, and its end with the duration."""
        token_server.replies = [503, 400]
        token_server.gate.clear()
        async with token_server.provider(clock=clock, retry=ONCE, on_event=events.append) as provider:
            callers = [asyncio.create_task(provider.get_token()) for _ in range(2)]
            await token_server.arrived.wait()
            clock.advance(3)
            token_server.gate.set()
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
            RenewalFailed(
                **failed, duration_seconds=3.0, retry_in_seconds=1.0, waiter_count=2, longest_wait_seconds=3.0
            ),
            OutageBegan(error=ANY, life_seconds=0.0),
            RenewalStarted(cause="first"),
            RenewalFailed(**failed, duration_seconds=0.0, retry_in_seconds=10.0, waiter_count=1),
            RenewalStarted(cause="first"),
            TokenReceived(
                cause="first",
                source="endpoint",
                is_unchanged=False,
                duration_seconds=0.0,
                life_seconds=3_600.0,
                waiter_count=1,
            ),
            OutageEnded(duration_seconds=11.0),
        ] == events
        assert {TokenEndpointError} == {type(event.error) for event in events if isinstance(event, RenewalFailed)}
        assert [TokenEndpointError] * 2 == [type(error) for error in errors]

    async def test_log(self, token_server: TokenServer, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
        """Failed callers are an ERROR each time, the outage's end INFO, all else DEBUG: an error is logged once."""
        caplog.set_level(logging.DEBUG, "simplestore_async")
        token_server.replies = [503, 503]
        async with token_server.provider(clock=clock, retry=ONCE) as provider:
            for _ in range(2):
                with pytest.raises(TokenEndpointError):
                    await provider.get_token()
                clock.advance(1)
            await provider.get_token()

        assert ["DEBUG", "ERROR", "DEBUG", "DEBUG", "ERROR", "DEBUG", "DEBUG", "INFO"] == [
            record.levelname for record in caplog.records
        ]

    async def test_settings_that_prove_wrong_in_use(self, token_server: TokenServer, clock: FakeClock) -> None:
        """A ConfigurationError of the renewal reaches the callers as it is, and is remembered as terminal."""
        connector = aiohttp.TCPConnector()
        await connector.close()
        endpoint = token_server.endpoint(connector=connector, clock=clock)
        events: list[Event] = []
        async with TokenProvider(endpoint=endpoint, on_event=events.append) as provider:
            with pytest.raises(ConfigurationError, match=r"^connector is closed"):
                await provider.get_token()
            with pytest.raises(ConfigurationError, match=r"^connector is closed"):
                provider.get_token().send(None)

        assert [5.0] == [event.retry_in_seconds for event in events if isinstance(event, RenewalFailed)]

    async def test_secret_cannot_be_read(self, token_server: TokenServer, clock: FakeClock) -> None:
        """A secret callable that raises is a retryable TokenError without the callable's text; nothing is sent."""

        def read_secret() -> str:
            raise OSError(SECRET)

        credentials = token_server.credentials(client_secret=read_secret)
        async with token_server.provider(credentials=credentials, clock=clock) as provider:
            with pytest.raises(TokenError) as caught:
                await provider.get_token()

        assert "the client secret cannot be read: the callable raised OSError" == str(caught.value)
        assert caught.value.retryable
        assert [] == token_server.requests


class BrokenEndpoint(TokenEndpoint):
    """An endpoint with a defect, until it is repaired."""

    is_broken = True
    fetches = 0

    async def fetch(self, *, deadline: float, may_retry: Callable[[], bool]) -> tuple[AccessToken, float]:
        self.fetches += 1
        if self.is_broken:
            raise ZeroDivisionError(SECRET)
        return await super().fetch(deadline=deadline, may_retry=may_retry)


class FailingClock(FakeClock):
    """A clock that raises at scripted readings."""

    failures = 0

    def monotonic(self) -> float:
        if self.failures:
            self.failures -= 1
            raise ZeroDivisionError(SECRET)
        return super().monotonic()


class Panic(BaseException):
    """What extension modules in Rust raise."""


@pytest.mark.parametrize("error", [asyncio.CancelledError, Panic])
class TestForeignCancellation:
    """A part that raises CancelledError, which no one asked for, or another BaseException has failed."""

    async def test_of_the_secret(
        self, token_server: TokenServer, clock: FakeClock, events: list[Event], error: type[BaseException]
    ) -> None:
        """A client_secret callable that does so is a failure like any other: it is remembered, and causes no storm."""
        calls = 0

        async def read_secret() -> str:
            nonlocal calls
            calls += 1
            raise error

        credentials = token_server.credentials(client_secret=read_secret)
        async with token_server.provider(credentials=credentials, clock=clock, on_event=events.append) as provider:
            for _ in range(1_000):
                with pytest.raises(TokenError):
                    await provider.get_token()

        assert (1, 0) == (calls, len(token_server.requests))
        assert [RenewalStarted, RenewalFailed, OutageBegan] == [type(event) for event in events]

    @pytest.mark.parametrize("method", ["get", "set", "renewal_lock"])
    async def test_of_the_cache(self, token_server: TokenServer, method: str, error: type[BaseException]) -> None:
        """A cache that does so costs no caller its token."""
        calls = 0

        def raise_error(*_: object) -> Any:
            nonlocal calls
            calls += 1
            raise error

        class Cache(MemoryTokenCache):
            def renewal_lock(self, _key: str, /) -> AbstractAsyncContextManager[object]:
                return nullcontext()

        async def raise_when_awaited(*_: object) -> None:
            raise_error()

        setattr(Cache, method, raise_error if method == "renewal_lock" else raise_when_awaited)
        async with token_server.provider(cache=Cache()) as provider:
            tokens = await asyncio.gather(*(provider.get_token() for _ in range(100)))

        assert {"canary-token-1"} == {token.value for token in tokens}
        assert calls <= 2

    async def test_of_the_listener(
        self, token_server: TokenServer, caplog: pytest.LogCaptureFixture, error: type[BaseException]
    ) -> None:
        """A listener that does so is logged, and affects neither renewal nor caller."""

        def listen(event: Event) -> None:
            raise error

        async with token_server.provider(on_event=listen) as provider:
            token = await provider.get_token()
            assert provider.invalidate(token)
        assert ["RenewalStarted", "TokenReceived", "TokenRejected"] == [
            record.getMessage().rpartition(" ")[2] for record in caplog.records if record.exc_info
        ]


class TestDefect:
    async def test_in_the_endpoint(self, token_server: TokenServer, clock: FakeClock, events: list[Event]) -> None:
        """An unexpected exception becomes a TokenError that names it and where, not its text; it is remembered."""
        endpoint = BrokenEndpoint(token_server.credentials(), clock=clock)
        async with TokenProvider(endpoint=endpoint, on_event=events.append) as provider:
            with pytest.raises(TokenError, match=r"unexpected ZeroDivisionError in .*fetch.*line \d+") as caught:
                await provider.get_token()
            with pytest.raises(TokenError, match="unexpected ZeroDivisionError"):
                provider.get_token().send(None)
            assert 1 == endpoint.fetches

            endpoint.is_broken = False
            clock.advance(1)

            assert "canary-token-1" == (await provider.get_token()).value
        assert "canary" not in str(caught.value)
        assert (None, None) == (caught.value.__cause__, caught.value.__context__)
        assert (TokenError, True) == (type(caught.value), caught.value.retryable)
        assert [1.0] == [event.retry_in_seconds for event in events if isinstance(event, RenewalFailed)]

    async def test_in_the_clock_once(self, token_server: TokenServer) -> None:
        """A clock that raises once during the renewal is such a defect, for every caller that waits."""
        clock = FailingClock()
        token_server.gate.clear()
        async with token_server.provider(clock=clock) as provider:
            callers = [asyncio.create_task(provider.get_token()) for _ in range(3)]
            await token_server.arrived.wait()
            clock.failures = 1
            token_server.gate.set()
            errors = await asyncio.wait_for(asyncio.gather(*callers, return_exceptions=True), 10)

            clock.advance(1)
            assert isinstance(await provider.get_token(), AccessToken)
        assert [TokenError] * 3 == [type(error) for error in errors]
        assert [True] * 3 == [str(error).startswith("unexpected ZeroDivisionError in ") for error in errors]

    async def test_in_the_clock_for_good(self, token_server: TokenServer) -> None:
        """A broken clock leaves no waiter; once it works the next call gets a token."""
        clock = FailingClock()
        token_server.gate.clear()
        async with token_server.provider(clock=clock) as provider:
            callers = [asyncio.create_task(provider.get_token()) for _ in range(3)]
            await token_server.arrived.wait()
            clock.failures = 1_000
            token_server.gate.set()
            errors = await asyncio.wait_for(asyncio.gather(*callers, return_exceptions=True), 10)

            clock.failures = 0
            clock.advance(1)
            assert isinstance(await provider.get_token(), AccessToken)
        assert [True] * 3 == [isinstance(error, Exception) for error in errors]
