"""`MovableClock`; `test_pytest_plugin.py` has its effects."""

from __future__ import annotations

import time

from simplestore_async import Clock
from simplestore_async._core.clock import SYSTEM_CLOCK
from simplestore_async.sandbox import MovableClock


def test_advance() -> None:
    """A MovableClock is a `Clock` that follows the system's; each advance() adds to both of its readings."""
    clock = MovableClock()
    assert isinstance(clock, Clock)
    assert SYSTEM_CLOCK.monotonic() <= clock.monotonic() <= SYSTEM_CLOCK.monotonic()
    assert abs(time.time() - clock.time()) < 60

    before, wall_before = SYSTEM_CLOCK.monotonic(), time.time()
    for seconds in (3600, 0, 0.5):
        clock.advance(seconds)
    assert 3600.5 <= clock.monotonic() - before < 3660
    assert 3540 < clock.time() - wall_before < 3720
