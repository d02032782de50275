"""Simulations of production, and their pictures. Rule: a picture's description states what the tests assert."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

# The tests are not installed.
sys.path.append(str(Path(__file__).parent.parent))

from tests.support.production import HOUR, LIFE
from tests.support.production_day import DAY, DOWN, play_day
from tests.support.production_fleet import BIN, play_fleet

if TYPE_CHECKING:
    from tests.support.production_day import Day
    from tests.support.production_fleet import Fleet

__all__ = ["describe_day", "describe_fleet", "draw_day", "draw_fleet"]

DAY_SEED = 17
FLEET_SEED = 0


def describe_day(day: Day) -> str:
    """Return a day's figures."""
    return (
        f"{len(day.calls):,} API calls, {len(day.failed_calls)} failed, with the token endpoint down for {DOWN:.0%} "
        f"of the day. {len(day.tokens)} tokens of an hour, {day.ratio:.2f} times the minimum; the shortest remaining "
        f"life was {day.least_life / 60:.1f} minutes."
    )


def describe_fleet(fleet: Fleet) -> str:
    """Return a fleet's figures."""
    return (
        f"Token requests of {fleet.workers:,} workers in each 10 s, without a shared cache: {fleet.bins[0]:,} at the "
        f"start; after the first hour {fleet.mean:.1f} on average and {max(fleet.settled)} at most, "
        f"{fleet.ratio:.2f} times the mean."
    )


def draw_day(path: Path) -> str:
    """Draw the token's remaining life, outages, clock steps and token requests; return the figures."""
    from matplotlib.figure import Figure

    from ._charts import GOAL, MISSED, OURS, SHADE, save

    day = play_day(DAY_SEED)
    sheet = Figure(figsize=(9.5, 4), layout="constrained")
    life, requests = sheet.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    for outage in day.outages:
        for plot in (life, requests):
            plot.axvspan(outage.began_at / HOUR, outage.ended_at / HOUR, color=SHADE)
    for step in day.steps:
        life.axvline(step.at / HOUR, color=GOAL, linestyle="--", linewidth=1)
    ends = [*(token.ended_at for token in day.tokens[1:]), DAY]
    for token, end in zip(day.tokens, ends, strict=True):
        times = (token.ended_at, end)
        left = [(token.began_at + LIFE - at) / 60 for at in times]
        life.plot([at / HOUR for at in times], left, color=OURS)
    for row, (colour, is_token) in enumerate(((MISSED, False), (OURS, True))):
        starts = [post.began_at / HOUR for post in day.posts if post.is_token is is_token]
        requests.plot(starts, [row] * len(starts), "|", color=colour, markersize=12)
    life.set_ylabel("minutes left")
    requests.set_yticks([0, 1], ["failures", "tokens"])
    requests.set_ylim(-0.7, 1.7)
    requests.set_xlabel("hours; shaded: endpoint down; dashed: wall clock stepped")
    save(sheet, path, title="A day in production", description=describe_day(day))
    return describe_day(day)


def draw_fleet(path: Path) -> str:
    """Draw the token requests in each ten seconds, with their mean and three times that; return the figures."""
    from matplotlib.figure import Figure

    from ._charts import GOAL, MISSED, OURS, save

    fleet = play_fleet(FLEET_SEED, workers=10_000, hours=4)
    sheet = Figure(figsize=(9.5, 4), layout="constrained")
    plot = sheet.subplots()
    plot.plot([BIN * number / HOUR for number in range(len(fleet.bins))], fleet.bins, ".", color=OURS, markersize=3)
    for factor, words, colour in ((1, "mean", GOAL), (3, "3 times the mean", MISSED)):
        plot.axhline(factor * fleet.mean, color=colour, linestyle="--", linewidth=1, label=words)
    plot.set_ylim(0, 140)
    plot.set_xlabel("hours")
    plot.set_ylabel(f"token requests in 10 s ({fleet.bins[0]:,} at the start)")
    plot.legend()
    save(sheet, path, title="A fleet that started together", description=describe_fleet(fleet))
    return describe_fleet(fleet)
