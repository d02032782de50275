"""Production in virtual time: helpers for a day of one process and hours of a fleet.

Provider, attempts, pauses and parsing are the package's own. Connection, clock and random numbers are simulated from
one seed, so a run is the same on every machine.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any, Final, TypeVar

from simplestore_async import ClientCredentials
from tests.support.virtual_loop import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

# Thousands of failures are simulated, and without a handler Python would print them to standard error.
logging.getLogger("simplestore_async").addHandler(logging.NullHandler())

CREDENTIALS: Final = ClientCredentials(client_id="app", client_secret="secret")
HOUR: Final = 3_600.0
LIFE: Final = HOUR
"""A token's life."""


def run(simulation: Callable[[VirtualLoop], Coroutine[Any, Any, T]], *, seed: int) -> T:
    """Return the result of *simulation* on a new loop; *seed* also determines the package's random numbers."""
    state = random.getstate()
    random.seed(seed)
    loop = VirtualLoop()
    try:
        result = loop.run_until_complete(simulation(loop))
        left_over = asyncio.all_tasks(loop)
    finally:
        loop.close()
        random.setstate(state)
    assert not left_over
    assert not loop.complaints
    return result


class LoopClock:
    """A `simplestore_async.Clock` on the time of a loop; its wall clock can be stepped."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.monotonic = loop.time
        self._ahead = 1_700_000_000.0

    def time(self) -> float:
        return self.monotonic() + self._ahead

    def step(self, seconds: float) -> None:
        """Step the wall clock, as NTP or an operator does."""
        self._ahead += seconds
