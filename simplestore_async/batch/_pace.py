"""When the next request may go. Rule: no clock and no waiting of its own: it is told the time, and says until when.

Requests are spread evenly, and a stall is not made up for by a burst. While the API or the token endpoint asks for
quiet, or cannot be reached, nothing goes at all.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Pace"]

_LONGEST_PAUSE_SECONDS: Final = 30.0
_WORTH_TELLING_SECONDS: Final = 1.0


class Pace:
    """The rate of a batch, and its pauses. Instants are of one clock, in seconds.

    Args:
        rate: how many requests may go in a second; None for as many as like.
        first_pause_seconds: how long the first pause is for which nobody asked; each that follows is twice as long.
    """

    def __init__(self, rate: float | None, *, first_pause_seconds: float) -> None:
        self._first_pause_seconds = first_pause_seconds
        self._spacing_seconds = 1 / rate if rate else 0.0
        self._next_at = float("-inf")
        self._quiet_since = float("-inf")
        self._quiet_until = float("-inf")
        self._pauses = 0

    def book(self, now: float) -> float:
        """Return when a request may go, as far as the rate is concerned; nobody else gets that place."""
        place = max(self._next_at, now)
        self._next_at = place + self._spacing_seconds
        return place

    def seconds_to_wait(self, place: float, now: float) -> float:
        """Return how long the request with that place still has to wait; 0 if it may go."""
        return max(place - now, self._quiet_until - now, 0.0)

    def pause(self, now: float, *, sent_at: float, asked_seconds: float | None) -> float:
        """Let nothing go for a while, and return how long; 0 if that is hardly longer than it was to be anyway.

        Args:
            now: the time.
            sent_at: when the request began that met the trouble: those that began before the last pause met the trouble
                that this one was for, and make none longer but by what they were asked.
            asked_seconds: what the server asked for, if it did; else pauses grow with each that follows another.
        """
        seconds = asked_seconds or 0.0
        if sent_at >= self._quiet_since:
            if asked_seconds is None:
                seconds = min(self._first_pause_seconds * 2.0**self._pauses, _LONGEST_PAUSE_SECONDS)
            self._pauses += 1
            self._quiet_since = now
        added_seconds = now + seconds - max(self._quiet_until, now)
        is_quiet_already = now < self._quiet_until
        self._quiet_until = max(self._quiet_until, now + seconds)
        return 0.0 if is_quiet_already and added_seconds < _WORTH_TELLING_SECONDS else seconds

    def resume(self, *, sent_at: float) -> None:
        """Note that a request went well; if it began after the last pause, the next one is a first one again."""
        if sent_at >= self._quiet_since:
            self._pauses = 0
