"""What is drawn. Rule: a picture shows what the tests assert; one simulation, among the tests, plays for both."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ._drawing import Drawing, Plot, Scale

# The tests are no package.
sys.path.append(str(Path(__file__).parent.parent))

from tests.support.production import HOUR, LIFE
from tests.support.production_day import DAY, DOWN, play_day
from tests.support.production_fleet import BIN, play_fleet

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.production_day import Day
    from tests.support.production_fleet import Fleet

__all__ = ["PICTURES"]

DAY_SEED = 11
FLEET_SEED = 0


def draw_day() -> tuple[Day, str]:
    """Draw the life that is left of the token, with the endpoint's outages, the token requests and the clock steps."""
    day = play_day(DAY_SEED)
    failed = [post for post in day.posts if not post.is_token]
    drawing = Drawing(
        width=960,
        height=430,
        title="A day in production",
        subtitle=f"{len(day.calls):,} API calls, {len(day.failed_calls)} failed, while the token endpoint was down for "
        f"{DOWN:.0%} of the day. {len(day.tokens)} tokens of an hour, {day.ratio:.2f} times the least possible.",
        description=f"What is left of the token's life falls from an hour, and rises again {len(day.tokens) - 1} "
        f"times. It never reaches zero: {day.least_life / 60:.1f} minutes were the least.",
    )
    hours = Scale(0, DAY, {hour * HOUR: f"{hour:02}:00" for hour in range(0, 25, 3)})
    life = Scale(0, LIFE, {minutes * 60.0: f"{minutes} min" for minutes in range(0, 61, 15)})
    plot = Plot(drawing, left=76, top=112, width=860, height=200, x=hours, y=life)
    lanes = 64.0
    for outage in day.outages:
        plot.span(outage.began_at, outage.ended_at, kind="shade", drop=lanes)
    plot.axes(drop=lanes)
    for number, step in enumerate(day.steps):
        plot.upright(step.at, kind="other-line hair dashed")
        drawing.text(plot.x_of(step.at), 106 - 15 * (number % 2), _signed(step.seconds), kind="other", anchor="middle")
    teeth = []
    for token, successor in zip(day.tokens, [*day.tokens[1:], None], strict=True):
        until = successor.ended_at if successor else DAY
        teeth += [(at, token.began_at + LIFE - at) for at in (token.ended_at, until)]
    plot.line(teeth, kind="good-line")
    lowest, least = min(teeth, key=lambda tooth: tooth[1])
    drawing.text(plot.x_of(lowest) + 6, plot.y_of(least), f"{least:.0f} s", kind="good")
    requests = Scale(0, 1, {})
    for top, words, posts, kind in ((320, "token", day.tokens, "good"), (350, "failure", failed, "bad")):
        lane = Plot(drawing, left=plot.left, top=top, width=plot.width, height=20, x=hours, y=requests)
        lane.bars(((post.began_at, 1.0) for post in posts), kind=f"{kind}-line")
        drawing.text(plot.left - 8, top + 15, words, kind=kind, anchor="end")
    drawing.text(
        24,
        418,
        "Line: what is left of the token's life. Shaded: the endpoint is down. Dashed: the wall clock is stepped. "
        "Below: token requests.",
    )
    return day, drawing.render()


def _signed(seconds: float) -> str:
    return f"{seconds / HOUR:+g} h" if abs(seconds) >= HOUR else f"{seconds / 60:+g} min"


def draw_fleet() -> tuple[Fleet, str]:
    """Draw the token requests in each ten seconds, with their mean and three times that."""
    fleet = play_fleet(FLEET_SEED, workers=10_000, hours=4)
    drawing = Drawing(
        width=960,
        height=400,
        title="A fleet that started together",
        subtitle=f"Token requests of {fleet.workers:,} workers in each 10 s, without a shared cache. After the first "
        f"hour the peak is {fleet.ratio:.2f} times the mean.",
        description=f"{fleet.workers} requests come at once. From then on they spread: after the first hour there are "
        f"{fleet.mean:.1f} in ten seconds on average, and {max(fleet.settled)} at the most.",
    )
    hours = Scale(0, fleet.seconds, {hour * HOUR: f"{hour} h" for hour in range(int(fleet.seconds / HOUR) + 1)})
    counts = Scale(0, 140, {count: f"{count}" for count in range(0, 141, 20)})
    plot = Plot(drawing, left=56, top=84, width=800, height=270, x=hours, y=counts)
    plot.span(0, HOUR, kind="veil")
    plot.axes()
    plot.dots(
        ((BIN * number, count) for number, count in enumerate(fleet.bins) if count <= counts.high), kind="good-line"
    )
    drawing.text(plot.left + 8, plot.top + 20, f"↑ {fleet.bins[0]:,}")
    drawing.text(plot.left + 8, plot.top + 38, "at the start")
    peak = max(fleet.settled)
    drawing.text(
        plot.x_of(HOUR + BIN * fleet.settled.index(peak)) + 6, plot.y_of(peak) + 4, f"{peak} at the peak", kind="good"
    )
    for factor, words, kind in ((1, "mean", "other"), (3, "3 x mean", "bad")):
        plot.level(factor * fleet.mean, kind=f"{kind}-line dashed")
        drawing.text(plot.left + plot.width + 8, plot.y_of(factor * fleet.mean) + 4, words, kind=kind)
    return fleet, drawing.render()


PICTURES: dict[str, Callable[[], tuple[object, str]]] = {"day": draw_day, "fleet": draw_fleet}
