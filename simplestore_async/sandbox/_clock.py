"""A clock that tests move ahead."""

from __future__ import annotations

import threading

from simplestore_async._core.clock import SystemClock
from simplestore_async._core.validation import is_number
from simplestore_async.errors import ConfigurationError

__all__ = ["MovableClock"]


class MovableClock:
    """The machine's time, advanced by a test.

    The fixture `simplestore_clock` is one that the whole package uses; another one is used where it is passed as
    `clock=`. It may be moved from any thread.
    """

    def __init__(self) -> None:
        self._machine = SystemClock()
        self._ahead_seconds = 0.0
        self._lock = threading.Lock()  # of the sum

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass at once, for token lifetimes and for the backoff after failures.

        asyncio's own time does not move: sleeps, timeouts, and the pauses between the attempts of one renewal.

        Raises:
            ConfigurationError: if *seconds* is not a number, 0 or more.
        """
        if not is_number(seconds) or seconds < 0:
            raise ConfigurationError("seconds", f"must be a number, 0 or more, got {seconds!r}")
        with self._lock:
            self._ahead_seconds += seconds

    def monotonic(self) -> float:
        """Return the machine's reading plus the advance."""
        return self._machine.monotonic() + self._ahead_seconds

    def time(self) -> float:
        """Return POSIX seconds plus the advance."""
        return self._machine.time() + self._ahead_seconds
