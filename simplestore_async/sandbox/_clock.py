"""The clock that tests move. Rule: it goes on as the machine's does, and only ever further ahead."""

from __future__ import annotations

import threading

from simplestore_async._core.clock import SystemClock
from simplestore_async._core.validation import is_number
from simplestore_async.errors import ConfigurationError

__all__ = ["MovableClock"]


class MovableClock:
    """The machine's time, and as much on top of it as a test adds.

    The fixture `simplestore_clock` is one, and the package sees it; one that you make yourself is seen by the parts to
    which you pass it as `clock=`. It may be moved from any thread.
    """

    def __init__(self) -> None:
        self._machine = SystemClock()
        self._ahead_seconds = 0.0
        self._lock = threading.Lock()  # guards the sum against another thread's

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass at once, for the life of tokens and for the pauses after failures.

        asyncio's own time does not move: sleeps, timeouts, and the pauses between the attempts of one renewal.

        Raises:
            ConfigurationError: if *seconds* is not a number, 0 or more.
        """
        if not is_number(seconds) or seconds < 0:
            raise ConfigurationError(f"seconds is {seconds!r}: set how far the clock moves ahead, 0 or more")
        with self._lock:
            self._ahead_seconds += seconds

    def monotonic(self) -> float:
        """Return the machine's reading, and what was added."""
        return self._machine.monotonic() + self._ahead_seconds

    def time(self) -> float:
        """Return POSIX seconds, and what was added."""
        return self._machine.time() + self._ahead_seconds
