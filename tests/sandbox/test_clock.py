"""`MovableClock`; `test_pytest_plugin.py` has its effects."""

from __future__ import annotations

import time

from simplestore_async import Clock
from simplestore_async._core.clock import SYSTEM_CLOCK
from simplestore_async.sandbox import MovableClock


def test_follows_the_system() -> None:
    """Until it is moved a MovableClock is a `Clock` with the readings of the system clocks."""
    clock = MovableClock()
    assert isinstance(clock, Clock)
    assert SYSTEM_CLOCK.monotonic() <= clock.monotonic() <= SYSTEM_CLOCK.monotonic()
    assert abs(time.time() - clock.time()) < 60


def test_advance() -> None:
    """Each advance() adds to both readings, on top of earlier ones and of real time."""
    clock, before, wall_before = MovableClock(), SYSTEM_CLOCK.monotonic(), time.time()
    for seconds in (3600, 0, 0.5):
        clock.advance(seconds)
    assert 3600.5 <= clock.monotonic() - before < 3660
    assert 3540 < clock.time() - wall_before < 3720
