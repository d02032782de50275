"""A sandbox for the tests of the core."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from yarl import URL

from simplestore_async import TokenEndpoint, TokenProvider
from simplestore_async.sandbox import Sandbox
from tests.support.api_servers import authorized_session
from tests.support.servers import SECRET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from tests.support.clocks import FakeClock


@pytest.fixture
async def sandbox(clock: FakeClock) -> AsyncIterator[Sandbox]:
    """A SimpleStore on the test's event loop, whose time is that of `clock`."""
    async with Sandbox(client_secret=SECRET, clock=clock) as sandbox:
        yield sandbox


@pytest.fixture
async def session(sandbox: Sandbox, clock: FakeClock) -> AsyncIterator[aiohttp.ClientSession]:
    """A session of aiohttp's own with our middleware, for the sandbox's API."""
    provider = TokenProvider(endpoint=TokenEndpoint(sandbox.credentials, clock=clock))
    origin = URL(sandbox.base_url).origin()
    async with provider, authorized_session(provider, origin, base_url=sandbox.base_url) as session:
        yield session
