"""A sandbox and providers for the tests of the core."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from yarl import URL

from simplestore_async import RetryPolicy, TokenEndpoint, TokenProvider
from simplestore_async.sandbox import Sandbox
from tests.support.api_servers import authorized_session
from tests.support.servers import SECRET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from simplestore_async.events import Event
    from tests.support.clocks import FakeClock
    from tests.support.providers import Provide


@pytest.fixture
async def sandbox(clock: FakeClock) -> AsyncIterator[Sandbox]:
    """A sandbox on the test's event loop that runs on `clock`."""
    async with Sandbox(client_secret=SECRET, clock=clock) as sandbox:
        yield sandbox


@pytest.fixture
async def provide(sandbox: Sandbox, clock: FakeClock, events: list[Event]) -> AsyncIterator[Provide]:
    """Make providers for `sandbox` on `clock`: one attempt per renewal, events appended to `events`."""
    async with AsyncExitStack() as stack:

        def make(*, retry: RetryPolicy | None = None, **options: Any) -> TokenProvider:
            retry = retry or RetryPolicy(attempts=1)
            options.setdefault("on_event", events.append)
            options.setdefault("endpoint", TokenEndpoint(sandbox.credentials, policy=retry, clock=clock))
            provider = TokenProvider(**options)
            stack.push_async_exit(provider)
            return provider

        yield make


@pytest.fixture
def provider(provide: Provide) -> TokenProvider:
    """A provider with the defaults of `provide`."""
    return provide()


@pytest.fixture
async def session(sandbox: Sandbox, provider: TokenProvider) -> AsyncIterator[aiohttp.ClientSession]:
    """A plain aiohttp session with `BearerAuthMiddleware` for the sandbox's API."""
    origin = URL(sandbox.base_url).origin()
    async with authorized_session(provider, origin, base_url=sandbox.base_url) as session:
        yield session
