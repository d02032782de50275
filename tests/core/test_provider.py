"""`TokenProvider`: arguments, fresh tokens, listeners and lifetime."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from simplestore_async import (
    AccessToken,
    ClientCredentials,
    FileTokenCache,
    MemoryTokenCache,
    RetryPolicy,
    TokenEndpoint,
    TokenProvider,
)
from simplestore_async.errors import ConfigurationError, ProviderClosedError, TokenEndpointError
from simplestore_async.events import Event, RenewalFailed, RenewalStarted, TokenReceived, TokenRejected
from tests.support.clocks import FakeClock
from tests.support.providers import get_at_once
from tests.support.servers import SECRET

if TYPE_CHECKING:
    from simplestore_async import TokenCache
    from simplestore_async.sandbox import Sandbox
    from tests.support.providers import Provide

CREDENTIALS = ClientCredentials(client_id="app", client_secret=SECRET)


async def listen_async(_event: Event) -> None: ...


class TestConstructor:
    @pytest.mark.parametrize(
        ("field", "options"),
        [
            ("endpoint", {"credentials": None, "endpoint": CREDENTIALS}),
            ("on_event", {"on_event": listen_async}),
            ("on_event", {"on_event": lambda: None}),
            ("credentials", {"endpoint": TokenEndpoint(CREDENTIALS)}),
            ("clock", {"credentials": None, "endpoint": TokenEndpoint(CREDENTIALS), "clock": FakeClock()}),
        ],
        ids=[
            "endpoint",
            "async listener",
            "listener without argument",
            "credentials and endpoint",
            "clock and endpoint",
        ],
    )
    def test_wrong_argument(self, field: str, options: dict[str, Any]) -> None:
        """A wrong argument, and one that an endpoint has of its own, is refused by name."""
        with pytest.raises(ConfigurationError) as caught:
            TokenProvider(**{"credentials": CREDENTIALS} | options)

        assert field == caught.value.field

    @pytest.mark.parametrize("method", ["invalidate", "accept"])
    def test_no_token(self, method: str) -> None:
        """invalidate() and accept() refuse anything but an AccessToken."""
        with pytest.raises(ConfigurationError) as caught:
            getattr(TokenProvider(CREDENTIALS), method)("x")

        assert "token" == caught.value.field

    async def test_no_arguments(self, simplestore_sandbox: Sandbox) -> None:
        """Without arguments credentials come from the environment, and `async with` closes the provider."""
        async with TokenProvider() as provider:
            assert await provider.get_token() is get_at_once(provider)

        with pytest.raises(ProviderClosedError):
            await provider.get_token()
        assert ["sandbox-client"] == [request.client_id for request in simplestore_sandbox.requests]


class TestAsAValue:
    @pytest.mark.parametrize(
        ("cache", "shown"),
        [
            (MemoryTokenCache(), "cache=MemoryTokenCache())"),
            (FileTokenCache("tokens"), f"cache={FileTokenCache('tokens')!r})"),
            (type("Shelf", (MemoryTokenCache,), {})(), "cache=Shelf)"),
        ],
        ids=["memory", "files", "custom"],
    )
    def test_repr(self, cache: TokenCache, shown: str) -> None:
        """The repr shows client id, origin of the token URL, and the cache or, if it is custom, only its type."""
        credentials = ClientCredentials(client_id="app", client_secret=SECRET, token_url="https://auth.example/t?k=v")
        text = repr(TokenProvider(credentials, cache=cache))

        assert text.startswith("TokenProvider(client_id='app', token_url='https://auth.example', cache=")
        assert shown in text
        assert "canary" not in text


class TestFreshToken:
    async def test_is_served_at_once(self, sandbox: Sandbox, clock: FakeClock, provider: TokenProvider) -> None:
        """A token that is not due is returned without a request, a task switch or an event loop."""
        requested_at = clock.time()
        token = await provider.get_token()
        clock.advance(1_600)

        assert token is get_at_once(provider)
        assert token is await asyncio.to_thread(get_at_once, provider)
        assert (requested_at, requested_at + 3_600) == (token.issued_at, token.expires_at)
        assert 1 == sandbox.counters.token_requests


class TestListener:
    async def test_calls_invalidate(self, provide: Provide) -> None:
        """A listener may call invalidate() without a deadlock."""
        verdicts: list[bool] = []

        def listen(event: Event) -> None:
            if isinstance(event, TokenRejected):
                verdicts.append(provider.invalidate(token))

        provider = provide(on_event=listen)
        token = await provider.get_token()

        assert provider.invalidate(token)
        assert [True] == verdicts

    @pytest.mark.parametrize(
        ("method", "kind"),
        [
            *(("get_token", kind) for kind in (RenewalStarted, TokenReceived, RenewalFailed)),
            *(("aclose", kind) for kind in (TokenReceived, RenewalFailed)),
        ],
    )
    async def test_starts_a_call(self, sandbox: Sandbox, provide: Provide, method: str, kind: type[Event]) -> None:
        """A get_token() call that a listener starts gets that renewal's outcome, and aclose() spares its waiters."""
        calls: list[asyncio.Task[Any]] = []

        def listen(event: Event) -> None:
            if isinstance(event, kind):
                calls.append(asyncio.get_running_loop().create_task(getattr(provider, method)()))

        if kind is RenewalFailed:
            sandbox.fail_next(1)
        provider = provide(on_event=listen)
        [outcome] = await asyncio.gather(provider.get_token(), return_exceptions=True)
        [result] = await asyncio.gather(*calls, return_exceptions=True)

        assert (TokenEndpointError if kind is RenewalFailed else AccessToken) is type(outcome)
        if method == "aclose":
            with pytest.raises(ProviderClosedError):
                await provider.get_token()
        else:
            assert type(outcome) is type(result)
        assert 1 == sandbox.counters.token_requests


@pytest.mark.parametrize("failures", [0, 1], ids=["token", "failure"])
async def test_unclosed_provider_is_collected(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, failures: int
) -> None:
    """An unclosed provider is garbage-collected once nothing references it."""
    caplog.set_level(logging.CRITICAL, "simplestore_async")  # captured log records would keep objects alive
    if failures:
        sandbox.fail_next(failures)
    provider = TokenProvider(endpoint=TokenEndpoint(sandbox.credentials, policy=RetryPolicy(attempts=1)))
    await asyncio.gather(provider.get_token(), return_exceptions=True)
    reference = weakref.ref(provider)

    del provider
    await asyncio.sleep(0)  # gather() references its errors for one more turn of the loop
    gc.collect()

    assert reference() is None
