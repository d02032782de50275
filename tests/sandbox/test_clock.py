"""`simplestore_async.sandbox.MovableClock`; its effects are in `test_pytest_plugin.py`."""

from __future__ import annotations

import time

from simplestore_async import Clock
from simplestore_async._core.clock import SYSTEM_CLOCK
from simplestore_async.sandbox import MovableClock


def test_is_a_clock() -> None:
    """It implements the protocol `Clock`."""
    assert isinstance(MovableClock(), Clock)


def test_goes_on() -> None:
    """Until it is moved it reads as the machine's clocks do."""
    clock = MovableClock()
    assert SYSTEM_CLOCK.monotonic() <= clock.monotonic() <= SYSTEM_CLOCK.monotonic()
    assert abs(time.time() - clock.time()) < 60


def test_moves_ahead() -> None:
    """Each step moves both readings, in addition to earlier ones and to real time."""
    clock, before, wall_before = MovableClock(), SYSTEM_CLOCK.monotonic(), time.time()
    for seconds in (3600, 0, 0.5):
        clock.advance(seconds)
    assert 3600.5 <= clock.monotonic() - before < 3660
    assert 3540 < clock.time() - wall_before < 3720
