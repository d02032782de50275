"""`simplestore_async._core.clock`: which of the machine's clocks decides."""

from __future__ import annotations

import sys
import time

import pytest

from simplestore_async._core.clock import SYSTEM_CLOCK, SystemClock, default_clock


@pytest.mark.parametrize(("platform", "reading"), [("linux", 70.5), ("darwin", 80.5)])
def test_monotonic_counts_suspended_time(monkeypatch: pytest.MonkeyPatch, platform: str, reading: float) -> None:
    """`monotonic()` reads the clock that goes on counting while this platform's machine sleeps."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(time, "CLOCK_BOOTTIME", 7, raising=False)
    monkeypatch.setattr(time, "CLOCK_MONOTONIC_RAW", 8, raising=False)
    monkeypatch.setattr(time, "clock_gettime", {7: 70.5, 8: 80.5}.get, raising=False)

    assert reading == SystemClock().monotonic()


def test_monotonic_without_such_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no clock of that name (Windows), `monotonic()` is `time.monotonic()`, which counts sleep there."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    monkeypatch.delattr(time, "CLOCK_MONOTONIC_RAW", raising=False)

    assert time.monotonic is SystemClock().monotonic


def test_time_is_the_wall_clock() -> None:
    """`time()` is POSIX seconds."""
    assert time.time is SystemClock().time


def test_system_clock_runs() -> None:
    """`SYSTEM_CLOCK` is the machine's, and goes on."""
    first = SYSTEM_CLOCK.monotonic()

    assert isinstance(SYSTEM_CLOCK, SystemClock)
    assert 0 <= SYSTEM_CLOCK.monotonic() - first < 60


def test_the_machine_s_clock_is_the_default() -> None:
    """Whoever is given no clock gets the machine's."""
    assert SYSTEM_CLOCK is default_clock()
