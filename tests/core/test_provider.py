"""`TokenProvider`: what a caller gets while a token lives, after failures, after rejections, and once it is closed."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import aiohttp
import pytest
from aiohttp import web

from simplestore_async import AccessToken, ClientCredentials, RenewalPolicy, RetryPolicy, TokenEndpoint, TokenProvider
from simplestore_async.errors import (
    ConfigurationError,
    InvalidClientError,
    ProviderClosedError,
    SimpleStoreError,
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
    TokenRejected,
)
from tests.support.clocks import FakeClock
from tests.support.providers import DUE, TICK, get_at_once, renewal_ends
from tests.support.servers import SECRET, TokenServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from simplestore_async._core.endpoint import Receipt

ONCE = RetryPolicy(attempts=1)


@pytest.fixture
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLIENT_ID", "CLIENT_SECRET", "CLIENT_SECRET_FILE", "TOKEN_URL", "SCOPE"):
        monkeypatch.delenv(f"SIMPLESTORE_{name}", raising=False)


class TestConstructor:
    @pytest.mark.parametrize(
        "options",
        [
            {"credentials": ClientCredentials(client_id="app", client_secret=SECRET)},
            {"policy": RenewalPolicy()},
            {"clock": FakeClock()},
        ],
        ids=lambda options: next(iter(options)),
    )
    def test_endpoint_excludes(self, options: dict[str, Any]) -> None:
        """What an endpoint has already is not given twice."""
        endpoint = TokenEndpoint(ClientCredentials(client_id="app", client_secret=SECRET))

        with pytest.raises(ConfigurationError) as caught:
            TokenProvider(endpoint=endpoint, **options)

        assert "endpoint has its own credentials, policy and clock: give them to TokenEndpoint only" == str(
            caught.value
        )

    async def test_endpoint_brings_its_policy_and_clock(self, token_server: TokenServer, clock: FakeClock) -> None:
        """The credentials, policy and clock of an endpoint are the provider's."""
        policy = RenewalPolicy(first_due_fractions=(0.5, 0.5), attempts=1)
        async with TokenProvider(endpoint=token_server.endpoint(policy=policy, clock=clock)) as provider:
            first = await provider.get_token()
            clock.advance(1_800)
            assert first is get_at_once(provider)
            await renewal_ends()

            assert "canary-token-2" == get_at_once(provider).value
        assert clock.time() - 1_800 == first.issued_at
        assert 2 == len(token_server.requests)

    @pytest.mark.parametrize(
        "lacking",
        [{}, {"get": None}, {"set": None}],
        ids=lambda members: f"only {list(members)}",
    )
    def test_cache_lacks_a_coroutine(self, lacking: dict[str, Any]) -> None:
        """A cache without get and set is named, with what it lacks."""
        cache: Any = type("Shelf", (), lacking)()

        with pytest.raises(ConfigurationError) as caught:
            TokenProvider(ClientCredentials(client_id="app", client_secret=SECRET), cache=cache)

        assert "cache must have the coroutines get and set, which Shelf has not" == str(caught.value)

    def test_listener_cannot_be_called(self) -> None:
        """A listener that is not callable is named."""
        listener: Any = ["no", "function"]

        with pytest.raises(ConfigurationError) as caught:
            TokenProvider(ClientCredentials(client_id="app", client_secret=SECRET), on_event=listener)

        assert "on_event must be callable, which list is not" == str(caught.value)

    @pytest.mark.usefixtures("empty_environment")
    def test_environment_is_empty(self) -> None:
        """Without arguments the environment must name the credentials; the error names the variables."""
        with pytest.raises(ConfigurationError, match="SIMPLESTORE_CLIENT_ID and SIMPLESTORE_CLIENT_SECRET not set"):
            TokenProvider()

    @pytest.mark.usefixtures("empty_environment")
    async def test_credentials_come_from_the_environment(
        self, token_server: TokenServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without arguments the credentials are those of the environment, and the clock is the machine's."""
        monkeypatch.setenv("SIMPLESTORE_CLIENT_ID", "from-env")
        monkeypatch.setenv("SIMPLESTORE_CLIENT_SECRET", SECRET)
        monkeypatch.setenv("SIMPLESTORE_TOKEN_URL", token_server.token_url)

        async with TokenProvider() as provider:
            token = await provider.get_token()
            assert token is get_at_once(provider)

        assert ["from-env"] == [request.form["client_id"] for request in token_server.requests]

    @pytest.mark.usefixtures("empty_environment")
    def test_credentials_that_are_given(self) -> None:
        """Credentials that are given make the environment irrelevant."""
        TokenProvider(ClientCredentials(client_id="app", client_secret=SECRET))

    def test_needs_no_event_loop(self, token_server: TokenServer) -> None:
        """A provider can be made before there is an event loop, and asks for nothing until it is used."""
        token_server.provider()

        assert [] == token_server.requests


class TestFreshToken:
    async def test_is_the_one_of_the_reply(self, token_server: TokenServer, clock: FakeClock) -> None:
        """The token is the one of the reply, with the life that the reply grants from the moment it was asked for."""
        async with token_server.provider(clock=clock) as provider:
            token = await provider.get_token()

        assert ("canary-token-1", clock.time(), clock.time() + 3_600) == (
            token.value,
            token.issued_at,
            token.expires_at,
        )

    async def test_is_given_at_once(self, token_server: TokenServer, clock: FakeClock) -> None:
        """Before it is due, the same token is returned without a task switch, and nothing is sent."""
        async with token_server.provider(clock=clock) as provider:
            token = await provider.get_token()
            clock.advance(1_600)

            assert {id(token)} == {id(get_at_once(provider)) for _ in range(100)}
        assert 1 == len(token_server.requests)

    async def test_needs_no_event_loop(self, token_server: TokenServer, clock: FakeClock) -> None:
        """Before it is due, a token is returned without anything of asyncio: even where no event loop runs."""
        async with token_server.provider(clock=clock) as provider:
            token = await provider.get_token()

            assert token is await asyncio.to_thread(get_at_once, provider)

    async def test_events(self, token_server: TokenServer, clock: FakeClock, events: list[Event]) -> None:
        """A first renewal tells its cause, its source, how long it took, how many waited, and how long it helps."""
        token_server.gate.clear()
        async with token_server.provider(clock=clock, on_event=events.append) as provider:
            callers = [asyncio.create_task(provider.get_token()) for _ in range(3)]
            await token_server.arrived.wait()
            clock.advance(2)
            token_server.gate.set()
            await asyncio.gather(*callers)
            get_at_once(provider)

        assert [
            RenewalStarted(cause="first"),
            TokenReceived(
                cause="first",
                source="endpoint",
                is_unchanged=False,
                duration_seconds=2.0,
                life_seconds=3_598.0,
                waiter_count=3,
                longest_wait_seconds=2.0,
            ),
        ] == events

    async def test_life_in_the_event_follows_the_deciding_clock(
        self, token_server: TokenServer, clock: FakeClock, events: list[Event]
    ) -> None:
        """A wall clock that steps during the fetch changes nothing about how long the token is said to live."""
        token_server.gate.clear()
        async with token_server.provider(clock=clock, on_event=events.append) as provider:
            caller = asyncio.create_task(provider.get_token())
            await token_server.arrived.wait()
            clock.step_wall(1_800)
            token_server.gate.set()
            await caller

        assert [3_600.0] == [event.life_seconds for event in events if isinstance(event, TokenReceived)]


def refuse(status: int, *, retry_after: str | None = None, error: str = "invalid_request") -> web.Response:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return web.json_response({"error": error, "title": "No luck"}, status=status, headers=headers)


class TestFailureWithoutToken:
    # case 6, 15
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
        """After a failure nobody asks the endpoint until the pause is over; callers get the error at once."""
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
        """Each caller gets an error of its own, with all that the first one said."""
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
        """Each failure is told, an outage once, and its end with how long it took."""
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
        """Callers that fail are an ERROR each time, the outage is one WARNING, its end INFO, all else DEBUG."""
        caplog.set_level(logging.DEBUG, "simplestore_async")
        token_server.replies = [503, 503]
        async with token_server.provider(clock=clock, retry=ONCE) as provider:
            for _ in range(2):
                with pytest.raises(TokenEndpointError):
                    await provider.get_token()
                clock.advance(1)
            await provider.get_token()

        assert ["DEBUG", "ERROR", "WARNING", "DEBUG", "ERROR", "DEBUG", "DEBUG", "INFO"] == [
            record.levelname for record in caplog.records
        ]

    async def test_settings_that_prove_wrong_in_use(self, token_server: TokenServer, clock: FakeClock) -> None:
        """A ConfigurationError of the renewal reaches the callers as it is, and is remembered as terminal."""
        connector = aiohttp.TCPConnector()
        await connector.close()
        endpoint = token_server.endpoint(connector=connector, clock=clock)
        events: list[Event] = []
        async with TokenProvider(endpoint=endpoint, on_event=events.append) as provider:
            with pytest.raises(ConfigurationError, match="connector given to TokenEndpoint is closed"):
                await provider.get_token()
            with pytest.raises(ConfigurationError, match="connector given to TokenEndpoint is closed"):
                provider.get_token().send(None)

        assert [5.0] == [event.retry_in_seconds for event in events if isinstance(event, RenewalFailed)]

    async def test_secret_cannot_be_read(self, token_server: TokenServer, clock: FakeClock) -> None:
        """A secret callable that raises is a TokenError, passing, without what it said; nothing is sent."""

        def read_secret() -> str:
            raise OSError(SECRET)

        credentials = token_server.credentials(client_secret=read_secret)
        async with token_server.provider(credentials=credentials, clock=clock) as provider:
            with pytest.raises(TokenError) as caught:
                await provider.get_token()

        assert "No token: the client_secret callable gave no secret: it raised OSError" == str(caught.value)
        assert caught.value.retryable
        assert [] == token_server.requests


class BrokenEndpoint(TokenEndpoint):
    """An endpoint with a defect of its own, until it is mended."""

    is_broken = True
    fetches = 0

    async def fetch(self, *, deadline: float, may_retry: Callable[[], bool]) -> Receipt:
        self.fetches += 1
        if self.is_broken:
            raise ZeroDivisionError(SECRET)
        return await super().fetch(deadline=deadline, may_retry=may_retry)


class FailingClock(FakeClock):
    """A clock whose readings raise as often as a test says."""

    failures = 0

    def monotonic(self) -> float:
        if self.failures:
            self.failures -= 1
            raise ZeroDivisionError(SECRET)
        return super().monotonic()


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
        assert [True] * 3 == [str(error).startswith("No token: unexpected ZeroDivisionError in ") for error in errors]

    async def test_in_the_clock_for_good(self, token_server: TokenServer) -> None:
        """A clock that stays broken leaves nobody waiting; once it is mended the next call gets a token."""
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


class TestInvalidate:
    async def test_first_rejection(self, token_server: TokenServer, clock: FakeClock, events: list[Event]) -> None:
        """A first rejection is replaced at once, however young the token; an event tells its age."""
        async with token_server.provider(clock=clock, on_event=events.append) as provider:
            token = await provider.get_token()
            clock.advance(0.25)

            assert provider.invalidate(token)

            assert "canary-token-2" == (await provider.get_token()).value
        assert [TokenRejected(age_seconds=0.25, is_replaced=True), RenewalStarted(cause="rejected")] == events[2:4]
        assert 2 == len(token_server.requests)

    async def test_no_token_is_held(self, token_server: TokenServer, events: list[Event]) -> None:
        """Nothing held, nothing to hold on to: True, and no event."""
        async with token_server.provider(on_event=events.append) as provider:
            assert provider.invalidate(AccessToken("canary", issued_at=0, expires_at=1))
        assert [] == events

    # case 38
    async def test_other_token_is_held(self, token_server: TokenServer, clock: FakeClock, events: list[Event]) -> None:
        """The rejection of a token that was replaced long ago costs nothing: True, no event, no request."""
        async with token_server.provider(clock=clock, on_event=events.append) as provider:
            old = await provider.get_token()
            provider.invalidate(old)
            new = await provider.get_token()
            del events[:]

            assert provider.invalidate(old)

            assert new is get_at_once(provider)
        assert [] == events
        assert 2 == len(token_server.requests)

    # case 38
    async def test_stragglers(self, token_server: TokenServer, clock: FakeClock) -> None:
        """100 rejections of one token, before, during and after the renewal, make one request and all are True."""
        async with token_server.provider(clock=clock) as provider:
            old = await provider.get_token()
            token_server.arrived.clear()
            token_server.gate.clear()

            answers = [provider.invalidate(old) for _ in range(40)]
            callers = [asyncio.create_task(provider.get_token()) for _ in range(40)]
            await token_server.arrived.wait()
            answers += [provider.invalidate(old) for _ in range(40)]
            token_server.gate.set()
            tokens = await asyncio.gather(*callers)
            answers += [provider.invalidate(old) for _ in range(20)]

            assert tokens[0] is get_at_once(provider)
        assert [True] * 100 == answers
        assert {"canary-token-2"} == {token.value for token in tokens}
        assert 2 == len(token_server.requests)

    # case 39
    async def test_api_that_always_refuses(self, token_server: TokenServer, clock: FakeClock) -> None:
        """500 requests within 5 s, each answered 401, make 2 token requests."""
        async with token_server.provider(clock=clock) as provider:
            for _ in range(500):
                if provider.invalidate(await provider.get_token()):
                    await provider.get_token()
                clock.advance(5 / 512)

        assert 2 == len(token_server.requests)

    async def test_young_replacement_is_held(
        self, token_server: TokenServer, clock: FakeClock, events: list[Event]
    ) -> None:
        """A replacement that is rejected in turn is kept for 5 s, then 10, 20, … 300 s, counted from its request."""
        async with token_server.provider(clock=clock, on_event=events.append) as provider:
            provider.invalidate(await provider.get_token())
            for hold in (5, 10, 20, 40, 80, 160, 300):
                replacement = await provider.get_token()
                clock.advance(hold - TICK)
                assert not provider.invalidate(replacement)
                assert replacement is get_at_once(provider)
                clock.advance(TICK)
                assert provider.invalidate(replacement)

        assert [True, *[False, True] * 7] == [event.is_replaced for event in events if isinstance(event, TokenRejected)]
        assert 8 == len(token_server.requests)

    @pytest.mark.parametrize(
        ("life", "hold"),
        [pytest.param(300 - TICK, 40, id="just under 300 s"), pytest.param(300, 5, id="300 s")],
    )
    async def test_hold_starts_over(
        self, token_server: TokenServer, clock: FakeClock, life: float, hold: float
    ) -> None:
        """Once a token has lived 300 s before its rejection, the next replacement is held for 5 s again."""
        async with token_server.provider(clock=clock) as provider:
            for age in (0, 5, 10, life):
                token = await provider.get_token()
                clock.advance(age)
                assert provider.invalidate(token)

            replacement = await provider.get_token()

            clock.advance(hold - TICK)
            assert not provider.invalidate(replacement)
            clock.advance(TICK)
            assert provider.invalidate(replacement)

    async def test_replacement_that_served_is_no_replacement_any_more(
        self, token_server: TokenServer, clock: FakeClock
    ) -> None:
        """The token that follows a replacement by the clock is an ordinary one: its first rejection renews at once."""
        async with token_server.provider(clock=clock) as provider:
            provider.invalidate(await provider.get_token())
            await provider.get_token()
            clock.advance(3_600)
            ordinary = await provider.get_token()

            assert provider.invalidate(ordinary)
        assert 3 == len(token_server.requests)

    async def test_accepted_replacement(self, token_server: TokenServer, clock: FakeClock) -> None:
        """A replacement that the API accepted is replaced at its next rejection, and the hold starts over."""
        async with token_server.provider(clock=clock) as provider:
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

    async def test_acceptance_of_another_token(self, token_server: TokenServer) -> None:
        """The acceptance of a token that is not held changes nothing."""
        async with token_server.provider() as provider:
            first = await provider.get_token()
            provider.invalidate(first)
            replacement = await provider.get_token()

            provider.accept(first)

            assert not provider.invalidate(replacement)

    async def test_failure_outranks_a_rejection(
        self, token_server: TokenServer, clock: FakeClock, events: list[Event]
    ) -> None:
        """While the endpoint is left alone after a failure, a rejected token is kept; afterwards it is replaced."""
        async with token_server.provider(clock=clock, on_event=events.append) as provider:
            token = await provider.get_token()
            clock.advance(DUE)
            token_server.replies = [503]
            get_at_once(provider)
            await renewal_ends()
            clock.advance(1 - TICK)

            assert not provider.invalidate(token)
            assert token is get_at_once(provider)
            clock.advance(TICK)
            assert provider.invalidate(token)

            assert "canary-token-2" == (await provider.get_token()).value
        assert [
            TokenRejected(age_seconds=DUE + 1 - TICK, is_replaced=False),
            TokenRejected(age_seconds=DUE + 1, is_replaced=True),
        ] == [event for event in events if isinstance(event, TokenRejected)]

    async def test_failure_while_no_token_is_held(self, token_server: TokenServer, clock: FakeClock) -> None:
        """Without a token, and the endpoint left alone, no replacement may be asked for: False until that is over."""
        token_server.replies = [503]
        async with token_server.provider(clock=clock, retry=ONCE) as provider:
            token = AccessToken("canary", issued_at=0, expires_at=1)
            with pytest.raises(TokenEndpointError):
                await provider.get_token()

            clock.advance(1 - TICK)
            assert not provider.invalidate(token)
            clock.advance(TICK)
            assert provider.invalidate(token)

    async def test_failed_replacement(self, token_server: TokenServer, clock: FakeClock, events: list[Event]) -> None:
        """When the replacement cannot be had the error is raised: a rejected token is not given out again."""
        async with token_server.provider(clock=clock, retry=ONCE, on_event=events.append) as provider:
            provider.invalidate(await provider.get_token())
            token_server.replies = [503]

            with pytest.raises(TokenEndpointError):
                await provider.get_token()

            clock.advance(1)
            assert "canary-token-2" == (await provider.get_token()).value
        assert ["first", "rejected", "rejected"] == [
            event.cause for event in events if isinstance(event, RenewalStarted)
        ]
        assert [False] == [event.is_token_alive for event in events if isinstance(event, RenewalFailed)]

    async def test_after_close(self, token_server: TokenServer, events: list[Event]) -> None:
        """After aclose() the answer is False, and nothing is told."""
        provider = token_server.provider(on_event=events.append)
        token = await provider.get_token()
        await provider.aclose()
        del events[:]

        assert not provider.invalidate(token)
        assert [] == events

    async def test_during_a_renewal(self, token_server: TokenServer, clock: FakeClock) -> None:
        """A token rejected while its renewal runs is gone: callers wait for that renewal, whose token replaces it."""
        async with token_server.provider(clock=clock) as provider:
            old = await provider.get_token()
            clock.advance(DUE)
            token_server.arrived.clear()
            token_server.gate.clear()
            get_at_once(provider)
            await token_server.arrived.wait()

            assert provider.invalidate(old)
            caller = asyncio.create_task(provider.get_token())
            await asyncio.sleep(0)
            assert not caller.done()
            token_server.gate.set()

            replacement = await caller
            assert "canary-token-2" == replacement.value
            assert not provider.invalidate(replacement)
        assert 2 == len(token_server.requests)

    async def test_rejected_value_comes_from_a_request_before_the_rejection(
        self, token_server: TokenServer, clock: FakeClock
    ) -> None:
        """A reply with the rejected value, asked for before the rejection, is not served: another one is asked for."""
        async with token_server.provider(clock=clock) as provider:
            old = await provider.get_token()
            clock.advance(DUE)
            token_server.arrived.clear()
            token_server.gate.clear()
            token_server.replies = [{"access_token": old.value}]
            get_at_once(provider)
            await token_server.arrived.wait()
            clock.advance(TICK)
            provider.invalidate(old)
            caller = asyncio.create_task(provider.get_token())
            await asyncio.sleep(0)
            clock.advance(TICK)
            token_server.gate.set()

            assert "canary-token-2" == (await caller).value
        assert 3 == len(token_server.requests)

    async def test_rejected_value_comes_again(self, token_server: TokenServer, clock: FakeClock) -> None:
        """A reply with the rejected value, asked for after the rejection, is taken back, and held as a replacement."""
        async with token_server.provider(clock=clock) as provider:
            old = await provider.get_token()
            token_server.replies = [{"access_token": old.value}]
            provider.invalidate(old)
            clock.advance(TICK)

            again = await provider.get_token()

            assert (old.value, old.issued_at + TICK) == (again.value, again.issued_at)
            assert not provider.invalidate(again)
        assert 2 == len(token_server.requests)

    async def test_rejected_value_comes_again_at_once(self, token_server: TokenServer, clock: FakeClock) -> None:
        """So it is if the clock did not move between rejection and request: a clock may be coarse, or stand still."""
        async with token_server.provider(clock=clock) as provider:
            old = await provider.get_token()
            token_server.replies = [{"access_token": old.value}] * 100
            provider.invalidate(old)

            assert old.value == (await provider.get_token()).value
        assert 2 == len(token_server.requests)


class TestListener:
    async def test_raises(self, token_server: TokenServer, caplog: pytest.LogCaptureFixture) -> None:
        """A listener that raises is logged each time, and harms nobody."""

        def listen(event: Event) -> None:
            raise ZeroDivisionError

        async with token_server.provider(on_event=listen) as provider:
            token = await provider.get_token()
            assert provider.invalidate(token)

            assert "canary-token-2" == (await provider.get_token()).value
        assert [
            f"on_event raised for {name}"
            for name in ("RenewalStarted", "TokenReceived", "TokenRejected", "RenewalStarted", "TokenReceived")
        ] == [record.getMessage() for record in caplog.records if record.exc_info]

    async def test_calls_invalidate(self, token_server: TokenServer) -> None:
        """A listener may call invalidate() while it is told of a rejection: no lock is held then."""
        answers: list[bool] = []

        def listen(event: Event) -> None:
            if isinstance(event, TokenRejected):
                answers.append(provider.invalidate(token))

        provider = token_server.provider(on_event=listen)
        async with provider:
            token = await provider.get_token()

            assert provider.invalidate(token)

            assert "canary-token-2" == (await provider.get_token()).value
        assert [True] == answers

    @pytest.mark.parametrize("kind", [RenewalStarted, TokenReceived])
    async def test_calls_get_token(self, token_server: TokenServer, kind: type[Event]) -> None:
        """A listener may start a call: it gets the token of that very renewal."""
        calls: list[asyncio.Task[AccessToken]] = []

        def listen(event: Event) -> None:
            if isinstance(event, kind):
                calls.append(asyncio.get_running_loop().create_task(provider.get_token()))

        provider = token_server.provider(on_event=listen)
        async with provider:
            await provider.get_token()

            assert ["canary-token-1"] == [(await call).value for call in calls]
        assert 1 == len(token_server.requests)

    async def test_calls_get_token_after_a_failure(self, token_server: TokenServer) -> None:
        """A call that a listener starts on hearing of a failure gets that failure, and starts nothing."""
        calls: list[asyncio.Task[AccessToken]] = []

        def listen(event: Event) -> None:
            if isinstance(event, RenewalFailed):
                calls.append(asyncio.get_running_loop().create_task(provider.get_token()))

        token_server.replies = [400]
        provider = token_server.provider(on_event=listen)
        async with provider:
            with pytest.raises(TokenEndpointError):
                await provider.get_token()
            with pytest.raises(TokenEndpointError):
                await calls[0]
        assert (1, 1) == (len(calls), len(token_server.requests))

    @pytest.mark.parametrize("kind", [TokenReceived, RenewalFailed])
    async def test_calls_aclose(self, token_server: TokenServer, kind: type[Event]) -> None:
        """A listener may close the provider at the end of a renewal: who waited gets its outcome, nobody after that."""
        closings: list[asyncio.Task[None]] = []

        def listen(event: Event) -> None:
            if isinstance(event, kind):
                closings.append(asyncio.get_running_loop().create_task(provider.aclose()))

        token_server.replies = [400] if kind is RenewalFailed else []
        provider = token_server.provider(on_event=listen)

        [outcome] = await asyncio.gather(provider.get_token(), return_exceptions=True)

        await closings[0]
        assert (TokenEndpointError if kind is RenewalFailed else AccessToken) is type(outcome)
        with pytest.raises(ProviderClosedError):
            await provider.get_token()


class TestNothingIsKept:
    @pytest.mark.parametrize("replies", [[], [400]], ids=["token", "failure"])
    async def test_provider_that_nobody_closes(
        self, token_server: TokenServer, caplog: pytest.LogCaptureFixture, replies: list[Any]
    ) -> None:
        """A provider that goes out of use unclosed is collected, whatever it remembered."""
        caplog.set_level(logging.CRITICAL, "simplestore_async")  # what the log captured would live on
        token_server.replies = replies
        provider = token_server.provider()
        await asyncio.gather(provider.get_token(), return_exceptions=True)
        reference = weakref.ref(provider)

        del provider
        await asyncio.sleep(0)  # the step that gather() woke still refers to its errors
        gc.collect()

        assert reference() is None

    async def test_close_forgets_the_token(self, token_server: TokenServer, clock: FakeClock) -> None:
        """After aclose() not even a call that came in the same moment gets the old token."""
        provider = token_server.provider(clock=clock)
        await provider.get_token()

        closing = asyncio.create_task(provider.aclose())
        await asyncio.sleep(0)
        with pytest.raises(ProviderClosedError):
            provider.get_token().send(None)
        await closing


async def test_nothing_shows_a_secret(
    token_server: TokenServer, clock: FakeClock, events: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither logs at DEBUG, nor events, errors or reprs show the secret or a token, whatever happens."""
    caplog.set_level(logging.DEBUG)
    shown: list[object] = []
    async with token_server.provider(clock=clock, retry=ONCE, on_event=events.append) as provider:
        for reply in (
            None,
            {"access_token": "canary-token-1"},
            503,
            refuse(400, error=SECRET),
            web.Response(text="canary-rubbish"),
            {"access_token": "canary token"},
            None,
        ):
            token_server.replies = [] if reply is None else [reply]
            try:
                token = await provider.get_token()
            except SimpleStoreError as error:
                shown += [error, vars(error)]
            else:
                shown += [token, vars(provider), provider.invalidate(token)]
            clock.advance(4_000)

    assert {RenewalStarted, TokenReceived, RenewalFailed, OutageBegan, OutageEnded, TokenRejected} == set(
        map(type, events)
    )
    assert 7 == len(token_server.requests)
    lines = [f"{value!r} {value}" for value in (*shown, *events)]
    assert [] == [line for line in (*lines, *caplog.messages) if "canary" in line]
