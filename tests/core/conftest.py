"""A sandbox for the tests of the core."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from simplestore_async.sandbox import Sandbox
from tests.support.servers import SECRET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.clocks import FakeClock


@pytest.fixture
async def sandbox(clock: FakeClock) -> AsyncIterator[Sandbox]:
    """A SimpleStore on the test's event loop, whose time is that of `clock`."""
    async with Sandbox(client_secret=SECRET, clock=clock) as sandbox:
        yield sandbox
