"""Production in virtual time: a day with outages, and a fleet that starts together."""

from __future__ import annotations

import sys
from bisect import bisect_left
from itertools import groupby, pairwise
from math import inf
from pathlib import Path

import pytest

from benchmarks._production import DAY_SEED, FLEET_SEED, describe_day, describe_fleet
from tests.support.production import HOUR, LIFE
from tests.support.production_day import DAY, Day, Post, play_day
from tests.support.production_fleet import play_fleet

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FIRST_DUE = 0.45 * LIFE, 0.84 * LIFE
"""When a process's first token is due, in seconds after its request."""
LATER_DUE = LIFE - 720 * 1.2, LIFE - 720 * 0.8
"""When later tokens are due."""


@pytest.mark.parametrize("seed", [DAY_SEED, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3))])
def test_day(seed: int) -> None:
    """No call fails, tokens are at most 1.35 times the minimum, and every token request follows the policy.

    The picture in the benchmarks has the figures of one such day.
    """
    day = play_day(seed)
    sys.stdout.write(f"{describe_day(day)}\n")
    assert_weather_is_bad(day)
    assert len(day.calls) > 40_000
    assert [] == day.failed_calls
    assert day.ratio <= 1.35
    assert_requests_follow_the_policy(day)
    if seed == DAY_SEED:
        assert f"<desc>{describe_day(day)}</desc>" in (BENCHMARKS / "day.svg").read_text("utf-8")


def assert_weather_is_bad(day: Day) -> None:
    """Outages of up to eight minutes, a minute apart and none at the start, cover a tenth of the day."""
    assert pytest.approx(DAY / 10) == sum(outage.ended_at - outage.began_at for outage in day.outages)
    assert max(outage.ended_at - outage.began_at for outage in day.outages) <= 480 + 1e-6
    ends = [0.0, *(outage.ended_at for outage in day.outages)]
    assert min(outage.began_at - end for outage, end in zip(day.outages, ends, strict=False)) >= 60 - 1e-6
    assert day.outages[-1].ended_at <= DAY + 1e-6
    for outage in day.outages:
        assert not [post for post in day.tokens if outage.began_at <= post.ended_at < outage.ended_at]


def assert_requests_follow_the_policy(day: Day) -> None:
    """Each renewal starts with the first call that may start it, and makes no more attempts than allowed.

    Derived from the log and the policy's numbers only, not from the package.
    """
    called_at = [*sorted(call.began_at for call in day.calls), inf]

    def next_call(at: float) -> float:
        return called_at[bisect_left(called_at, at)]

    earliest, latest, failures = 0.0, 0.0, 0
    token: Post | None = None
    for _, group in groupby(day.posts, key=lambda post: post.renewal):
        posts = list(group)
        first, last = posts[0], posts[-1]
        assert next_call(earliest) <= first.began_at <= next_call(latest)
        assert_attempts_are_allowed(posts, waited_from=token.began_at + LIFE - 30 if token else 0.0)
        if last.is_token:
            least, most = LATER_DUE if token else FIRST_DUE
            earliest, latest, failures = last.began_at + least, last.began_at + most, 0
            token = last
        else:
            pause = max(min(2**failures, 30), min(last.retry_after, 300))
            earliest = latest = last.ended_at + pause
            failures += 1
    assert inf == next_call(latest)


def assert_attempts_are_allowed(posts: list[Post], *, waited_from: float) -> None:
    """A renewal makes one attempt, or three if callers wait, with pauses: 10 s each, 30 s in all."""
    assert len(posts) <= (3 if posts[0].ended_at >= waited_from else 1)
    for number, (failed, retry) in enumerate(pairwise(posts)):
        pause = retry.began_at - failed.ended_at
        assert max(2**number / 2, failed.retry_after) - 1e-6 <= pause <= max(2**number, failed.retry_after) + 1e-6
    assert max(post.ended_at - post.began_at for post in posts) <= 10 + 1e-6
    assert posts[-1].ended_at - posts[0].began_at <= 30 + 1e-6


@pytest.mark.slow
def test_fleet() -> None:
    """10 000 workers renew together only once, and after the first hour a 10 s peak is less than 3 times the mean.

    The picture in the benchmarks has these figures.
    """
    fleet = play_fleet(FLEET_SEED, workers=10_000, hours=4)
    sys.stdout.write(f"{describe_fleet(fleet)}\n")
    assert (10_000, 4 * HOUR) == (fleet.workers, fleet.seconds)
    assert [10_000, 0] == fleet.bins[:2]
    # Each worker renews every token, and not before it is due.
    assert 4 * HOUR / LATER_DUE[1] <= len(fleet.posts) / fleet.workers <= 1 + 4 * HOUR / LATER_DUE[0]
    assert max(fleet.settled) < 3 * fleet.mean
    assert f"<desc>{describe_fleet(fleet)}</desc>" in (BENCHMARKS / "fleet.svg").read_text("utf-8")
