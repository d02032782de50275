"""A clock that tests move ahead."""

from __future__ import annotations

import threading

from simplestore_async._core.clock import SystemClock
from simplestore_async._core.validation import check_number

__all__ = ["MovableClock"]


class MovableClock:
    """The system time, advanced by a test.

    The fixture `simplestore_clock` replaces the clock of the whole package; any other instance must be passed as
    `clock=`. `advance()` may be called from any thread.
    """

    def __init__(self) -> None:
        self._machine = SystemClock()
        self._ahead_seconds = 0.0
        self._lock = threading.Lock()  # of the sum

    def advance(self, seconds: float) -> None:
        """Advance token lifetimes and backoffs by *seconds*.

        asyncio's time does not move: sleeps, timeouts, and the pauses between the attempts of one renewal.

        Raises:
            ConfigurationError: if *seconds* is negative or not a number.
        """
        check_number("seconds", seconds, at_least=0)
        with self._lock:
            self._ahead_seconds += seconds

    def monotonic(self) -> float:
        """Return the system's reading plus the advance."""
        return self._machine.monotonic() + self._ahead_seconds

    def time(self) -> float:
        """Return POSIX seconds plus the advance."""
        return self._machine.time() + self._ahead_seconds
