"""The clock. Rule: `monotonic()` alone determines a token's life; `time()` is only for storing and loading expiry.

`monotonic()` includes the time that the machine was suspended: a laptop's sleep ages a token, and a step of the wall
clock does not. Processes of one boot share its readings; `find_boot()` identifies the boot.
"""

from __future__ import annotations

import re
import sys
import time
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SYSTEM_CLOCK", "Clock", "SystemClock", "default_clock", "find_boot"]

_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


@runtime_checkable
class Clock(Protocol):
    """The clock protocol; inject your own in tests."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary moment; never goes back, and includes suspended time."""
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
    """The system clocks: Linux `CLOCK_BOOTTIME`, macOS `CLOCK_MONOTONIC_RAW`, Windows `time.monotonic`."""

    def __init__(self) -> None:
        # Instance attributes, so that a call goes directly to the C function: this is on the path of every caller.
        self.monotonic: Final = _suspend_aware_clock()
        self.time: Final = time.time


SYSTEM_CLOCK: Final[Clock] = SystemClock()


def default_clock() -> Clock:
    """Return the system clock, the default of every component.

    Called only when a component is created, so that the pytest plugin can replace the clock at no cost to callers.
    """
    return SYSTEM_CLOCK


@cache
def find_boot() -> str | None:
    """Return the identity of this boot and of its clock, or None where the platform has none (Windows)."""
    if sys.platform == "darwin":
        return _find_darwin_boot()
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, ValueError):
        return None
    try:
        # Time namespaces shift CLOCK_BOOTTIME.
        namespace = str(Path("/proc/self/ns/time").readlink())
    except OSError:
        namespace = ""
    return f"{boot} {namespace}".strip() if _UUID.fullmatch(boot) else None


def _find_darwin_boot() -> str | None:
    import ctypes  # takes milliseconds, and only macOS needs it

    text = ctypes.create_string_buffer(64)
    size = ctypes.c_size_t(len(text))
    try:
        failed = ctypes.CDLL(None).sysctlbyname(b"kern.bootsessionuuid", text, ctypes.byref(size), None, 0)
    except (OSError, AttributeError, TypeError):
        return None
    boot = text.value.decode("ascii", "replace")
    return boot if not failed and _UUID.fullmatch(boot) else None
