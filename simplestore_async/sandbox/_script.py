"""What is to go wrong, and how much may come. Rule: no I/O and no clock: whoever asks says what time it is."""

from __future__ import annotations

from collections import deque
from math import ceil, inf

import attrs

from ._faults import Fault

__all__ = ["RateLimit", "Script"]


@attrs.define(kw_only=True)
class _Run:
    """A run of one fault, bounded by requests or by seconds; the seconds count from its first request."""

    fault: Fault
    requests_left: float
    seconds: float
    _ends_at: float | None = attrs.field(init=False, default=None)

    def covers(self, now: float) -> bool:
        """Return whether a request at *now* meets the fault; if so, it is counted."""
        if self._ends_at is None:
            self._ends_at = now + self.seconds
        if self.requests_left <= 0 or now >= self._ends_at:
            return False
        self.requests_left -= 1
        return True


@attrs.define
class Script:
    """Runs of faults, one after the other; any thread may add one, while one thread draws."""

    _runs: deque[_Run] = attrs.field(init=False, factory=deque[_Run])

    def add(self, fault: Fault, *, requests: float = inf, seconds: float = inf) -> None:
        """Let *fault* meet so many requests, or those of so many seconds, after what was scripted before."""
        self._runs.append(_Run(fault=fault, requests_left=requests, seconds=seconds))

    def draw_fault(self, now: float) -> Fault | None:
        """Return the fault that a request at *now* meets, or None."""
        while self._runs:
            if self._runs[0].covers(now):
                return self._runs[0].fault
            self._runs.popleft()
        return None


@attrs.define(kw_only=True)
class RateLimit:
    """At most so many requests in any window of so many seconds; only those that were let through count."""

    requests: int
    seconds: float
    _passed_at: deque[float] = attrs.field(init=False, factory=deque[float])

    def seconds_to_wait(self, now: float) -> int:
        """Return after how many whole seconds a request at *now* would pass; if 0, it has passed and is counted."""
        if len(self._passed_at) == self.requests:
            wait_seconds = self._passed_at[0] + self.seconds - now
            if wait_seconds > 0:
                return ceil(wait_seconds)
            self._passed_at.popleft()
        self._passed_at.append(now)
        return 0
