"""`TokenProvider`: results of a call while a token is valid, after failures, after rejections, and after closing."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from simplestore_async import (
    AccessToken,
    ClientCredentials,
    FileTokenCache,
    MemoryTokenCache,
    RenewalPolicy,
    RetryPolicy,
    TokenEndpoint,
    TokenProvider,
)
from simplestore_async.errors import (
    ConfigurationError,
    ProviderClosedError,
    SimpleStoreError,
    TokenEndpointError,
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
from tests.support.providers import get_at_once, renewal_ends
from tests.support.servers import SECRET, TokenServer

if TYPE_CHECKING:
    from collections.abc import Callable

ONCE = RetryPolicy(attempts=1)


@pytest.fixture
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLIENT_ID", "CLIENT_SECRET", "CLIENT_SECRET_FILE", "TOKEN_URL", "SCOPE"):
        monkeypatch.delenv(f"SIMPLESTORE_{name}", raising=False)


CREDENTIALS = ClientCredentials(client_id="app", client_secret=SECRET)


async def listen_async(_event: Event) -> None: ...


class AsyncListener:
    async def __call__(self, _event: Event) -> None: ...


class TestConstructor:
    @pytest.mark.parametrize(
        "options", [{"credentials": CREDENTIALS}, {"clock": FakeClock()}], ids=["credentials", "clock"]
    )
    def test_contradiction(self, options: dict[str, Any]) -> None:
        """Credentials and clock are the endpoint's if there is one: they are not given twice."""
        with pytest.raises(ConfigurationError) as caught:
            TokenProvider(endpoint=TokenEndpoint(CREDENTIALS), **options)

        assert [caught.value.field] == list(options)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("credentials", "app"),
            ("credentials", ClientCredentials),
            ("cache", type("Shelf", (), {"get": None})()),
            ("cache", type("Shelf", (), {"set": None})()),
            ("cache", FileTokenCache),
            ("policy", {"due_seconds": 1}),
            ("policy", RetryPolicy()),
            ("policy", RenewalPolicy),
            ("endpoint", CREDENTIALS),
            ("endpoint", TokenEndpoint),
            ("clock", 17),
            ("clock", FakeClock),
            ("on_event", ["no", "function"]),
            ("on_event", listen_async),
            ("on_event", partial(listen_async)),
            ("on_event", AsyncListener()),
            ("on_event", AsyncListener),
            ("on_event", lambda: None),
        ],
        ids=lambda value: value if isinstance(value, str) else type(value).__name__,
    )
    def test_wrong_type(self, field: str, value: Any) -> None:
        """An argument of the wrong type, a class, or a listener that would never run is refused by name."""
        options = {} if field in {"credentials", "endpoint"} else {"credentials": CREDENTIALS}

        with pytest.raises(ConfigurationError) as caught:
            TokenProvider(**options | {field: value})

        assert field == caught.value.field

    async def test_policy_and_endpoint(self, token_server: TokenServer, clock: FakeClock) -> None:
        """The endpoint's retries and the provider's renewal numbers are separate; the clock is the endpoint's."""
        endpoint = token_server.endpoint(policy=RetryPolicy(attempts=1), clock=clock)
        policy = RenewalPolicy(first_due_fractions=(0.5, 0.5))
        async with TokenProvider(endpoint=endpoint, policy=policy) as provider:
            first = await provider.get_token()
            clock.advance(1_800)
            assert first is get_at_once(provider)
            await renewal_ends()

            assert "canary-token-2" == get_at_once(provider).value
        assert clock.time() - 1_800 == first.issued_at
        assert 2 == len(token_server.requests)

    @pytest.mark.parametrize("method", ["invalidate", "accept"])
    @pytest.mark.parametrize("token", [None, "x", AccessToken], ids=["None", "str", "class"])
    async def test_no_token(self, token_server: TokenServer, method: str, token: Any) -> None:
        """Only an AccessToken can be rejected or accepted."""
        async with token_server.provider() as provider:
            with pytest.raises(ConfigurationError) as caught:
                getattr(provider, method)(token)

        assert "token" == caught.value.field

    @pytest.mark.usefixtures("empty_environment")
    def test_environment_is_empty(self) -> None:
        """Without arguments the environment must name the credentials; the error names the variables."""
        with pytest.raises(ConfigurationError, match="SIMPLESTORE_CLIENT_ID and SIMPLESTORE_CLIENT_SECRET are not set"):
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


class TestAsAValue:
    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
    def test_copy(self, duplicate: Callable[[object], object]) -> None:
        """A copy of a provider or its parts, such as a settings framework makes, is the original."""
        for value in TokenProvider(CREDENTIALS), TokenEndpoint(CREDENTIALS), MemoryTokenCache():
            assert value is duplicate(value)

    @pytest.mark.parametrize(
        ("cache", "shown"),
        [(MemoryTokenCache(), "MemoryTokenCache"), (type("Shelf", (MemoryTokenCache,), {})(), "cache=Shelf)")],
        ids=["ours", "another's"],
    )
    def test_repr(self, cache: MemoryTokenCache, shown: str) -> None:
        """It shows client id, origin of the token URL and the cache; of another package's cache only the type."""
        credentials = ClientCredentials(client_id="app", client_secret=SECRET, token_url="https://auth.example/t?k=v")
        text = repr(TokenProvider(credentials, cache=cache))

        assert text.startswith("TokenProvider(client_id='app', token_url='https://auth.example', cache=")
        assert shown in text
        assert "canary" not in text


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
        """A first renewal reports cause, source, duration, waiters and life."""
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
        """A step of the wall clock during the request does not change the reported life."""
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


class TestListener:
    async def test_raises(self, token_server: TokenServer, caplog: pytest.LogCaptureFixture) -> None:
        """A listener that raises is logged each time, and affects no caller."""

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
        """A listener may call invalidate() on a rejection: no lock is held."""
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
        """A listener may close the provider at the end of a renewal: waiters get its outcome, later callers do not."""
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
        """An unclosed provider that is no longer referenced is collected, with its state."""
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
    """Neither logs at DEBUG, nor events, errors or reprs show the secret or a token."""
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
