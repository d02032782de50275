"""When the next request may go: `simplestore_async.batch._pace`."""

from __future__ import annotations

import pytest

from simplestore_async.batch._pace import Pace


def make_pace(rate: float | None = None) -> Pace:
    return Pace(rate, first_pause_seconds=1)


def test_no_rate() -> None:
    """Without a rate every request may go at once."""
    pace = make_pace()
    assert [5, 5, 5] == [pace.book(5) for _ in range(3)]
    assert 0 == pace.seconds_to_wait(5, 5)


def test_rate() -> None:
    """Requests are spread evenly, and a stall is not made up for."""
    pace = make_pace(4)
    assert [10, 10.25, 10.5, 10.75] == [pace.book(10) for _ in range(4)]
    assert 0.5 == pace.seconds_to_wait(10.75, 10.25)
    assert [20, 20.25] == [pace.book(20), pace.book(20)]


def test_asked() -> None:
    """Everybody waits as long as the server asks, the longest of several; only what is new is told."""
    pace = make_pace()
    assert 7 == pace.pause(100, sent_at=99, asked_seconds=7)
    assert 7 == pace.seconds_to_wait(100, 100)
    assert 0 == pace.pause(100.5, sent_at=99, asked_seconds=7)
    assert 7 == pace.seconds_to_wait(100, 100.5)
    assert 0 == pace.pause(101, sent_at=99, asked_seconds=1)
    assert 20 == pace.pause(102, sent_at=99, asked_seconds=20)
    assert 20 == pace.seconds_to_wait(100, 102)
    assert 0 == pace.seconds_to_wait(100, 122)


def test_not_asked() -> None:
    """Else pauses grow, but only by requests that began after the last one; a success ends that."""
    pace = make_pace()
    now, pauses = 0.0, []
    for _ in range(7):
        pauses.append(pace.pause(now, sent_at=now, asked_seconds=None))
        assert 0 == pace.pause(now, sent_at=now - 1, asked_seconds=None)
        now += pauses[-1]
    assert [1, 2, 4, 8, 16, 30, 30] == pauses
    pace.resume(sent_at=now - 100)
    assert 30 == pace.pause(now, sent_at=now, asked_seconds=None)
    pace.resume(sent_at=now + 30)
    assert 1 == pace.pause(now + 30, sent_at=now + 30, asked_seconds=None)


@pytest.mark.parametrize("asked_seconds", [0, 0.0])
def test_asked_for_nothing(asked_seconds: float) -> None:
    """Retry-After: 0 means now."""
    assert 0 == make_pace().pause(5, sent_at=5, asked_seconds=asked_seconds)
