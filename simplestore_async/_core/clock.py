"""The clock. Rule: `monotonic()` alone decides about a token's life; `time()` serves only to store and load expiry.

`monotonic()` counts the time that the machine was suspended, so that a laptop's sleep ages a token, and no step of the
wall clock does. Processes of one boot share its readings; `find_boot()` identifies the boot.
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
    """Return the machine's clock, the default of every part.

    Called when a part is made and never later, so that the pytest plugin can replace the clock at no cost to callers.
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
