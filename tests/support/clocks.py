"""A clock that moves only when a test moves it."""

from __future__ import annotations


class FakeClock:
    """Both readings of a `simplestore_async.Clock`, moved together by `advance` and apart by `step_wall`."""

    def __init__(self, *, wall: float = 1_700_000_000.0) -> None:
        self._monotonic = 1_000.0
        self._wall = wall

    def monotonic(self) -> float:
        return self._monotonic

    def time(self) -> float:
        return self._wall

    def advance(self, seconds: float) -> None:
        """Let time pass, as it does while a program runs or its machine is suspended."""
        self._monotonic += seconds
        self._wall += seconds

    def step_wall(self, seconds: float) -> None:
        """Step the wall clock, as NTP or an operator does."""
        self._wall += seconds
