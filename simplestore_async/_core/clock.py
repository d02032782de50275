"""The clock. Rule: `monotonic()` alone decides about a token's life; `time()` serves only to store and load expiry.

`monotonic()` counts the time that the machine was suspended, so that a laptop's sleep ages a token, and no step of the
wall clock does.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SYSTEM_CLOCK", "Clock", "SystemClock", "default_clock"]


@runtime_checkable
class Clock(Protocol):
    """What the package asks of a clock; inject your own in tests."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary moment; never goes back, and counts suspended time."""
        ...

    def time(self) -> float:
        """Return POSIX seconds."""
        ...


def _suspend_aware_clock() -> Callable[[], float]:
    # macOS's CLOCK_MONOTONIC_RAW and Windows' monotonic clock go on counting in sleep; Linux has a clock of its own
    # for it.
    name = "CLOCK_MONOTONIC_RAW" if sys.platform == "darwin" else "CLOCK_BOOTTIME"
    clock_id = getattr(time, name, None)
    return time.monotonic if clock_id is None else partial(time.clock_gettime, clock_id)


class SystemClock:
    """The machine's clocks: Linux `CLOCK_BOOTTIME`, macOS `CLOCK_MONOTONIC_RAW`, Windows `time.monotonic`."""

    def __init__(self) -> None:
        # Instance attributes, so that a call goes straight to the C function: this is on every caller's path.
        self.monotonic: Final = _suspend_aware_clock()
        self.time: Final = time.time


SYSTEM_CLOCK: Final[Clock] = SystemClock()


def default_clock() -> Clock:
    """Return the clock of a part that is given none: the machine's.

    Asked when a part is made and never later, so that the pytest plugin can put another clock in its place, at no cost
    to callers.
    """
    return SYSTEM_CLOCK
