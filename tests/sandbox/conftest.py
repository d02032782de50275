"""Fixtures: a sandbox on a manual clock, a session with its tokens, and a plain HTTP client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest

from simplestore_async import open_session
from simplestore_async.sandbox import Sandbox
from tests.support.sandbox_client import SHOP, SHOP_SECRET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.clocks import FakeClock


@pytest.fixture
async def sandbox(clock: FakeClock) -> AsyncIterator[Sandbox]:
    """A sandbox with two clients."""
    async with Sandbox(clients={SHOP: SHOP_SECRET}, clock=clock) as sandbox:
        yield sandbox


@pytest.fixture
async def session(sandbox: Sandbox) -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session(sandbox.credentials, base_url=sandbox.base_url) as session:
        yield session


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    # Without keep-alive, so that a fault does not affect the connection of a later request.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session
