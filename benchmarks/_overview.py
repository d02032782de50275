"""How all measures are drawn together. Rule: a row for each, this package large, its peers small, the goal between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._drawing import LEADING, Drawing, Plot, Scale, fold
from ._scales import ratio_scale
from ._wording import TIMES, begin_upper, describe_outcome, write_ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._results import Outcome

__all__ = ["draw_overview"]

WIDTH = 960
MARGIN = 24
TOP = 104
DOTS, DOTS_WIDTH = 296, 308
OURS, BEST = 628, 776


def draw_overview(outcomes: Sequence[Outcome], where: str) -> str:
    """Draw every outcome in a row."""
    rows = [(outcome, fold(begin_upper(outcome.name), DOTS - MARGIN - 24)) for outcome in outcomes]
    heights = [LEADING * max(2, len(lines)) + 10 for _, lines in rows]
    body = sum(heights)
    drawing = Drawing(
        width=WIDTH,
        height=TOP + body + 40,
        title="simplestore-async and its peers, as times the floor",
        subtitle=where,
        description=" ".join(describe_outcome(outcome) for outcome in outcomes),
    )
    words = "Large: simplestore-async. Small: its peers. Dashed: the goal. Upright: the floor, the least work possible."
    drawing.text(MARGIN, 75, words)
    drawing.text(OURS, TOP - 6, "this package")
    drawing.text(BEST, TOP - 6, "best of the others")
    scale = ratio_scale(outcomes)
    plot = Plot(drawing, left=DOTS, top=TOP, width=DOTS_WIDTH, height=body, x=scale, y=Scale(body, 0, {}))
    for value in scale.marks:
        plot.upright(value, kind="grid-line hair")
    plot.axes()
    plot.upright(1, kind="ink-line hair")
    reached = 0.0
    for (outcome, lines), height in zip(rows, heights, strict=True):
        middle = reached + height / 2
        _draw_title(drawing, lines, plot.y_of(middle))
        _draw_dots(plot, outcome, middle, reach=height / 2 - 4)
        _draw_figures(drawing, outcome, plot.y_of(middle))
        reached += height
    return drawing.render()


def _draw_title(drawing: Drawing, lines: Sequence[str], y: float) -> None:
    first = y + 4.5 - LEADING * (len(lines) - 1) / 2
    for number, line in enumerate(lines):
        drawing.text(MARGIN, first + LEADING * number, line, kind="ink")


def _draw_dots(plot: Plot, outcome: Outcome, middle: float, *, reach: float) -> None:
    y = plot.y_of(middle)
    for one in outcome.peers:
        if one.ratio is not None:
            plot.drawing.add("circle", kind="faint", cx=plot.x_of(one.ratio), cy=y, r=3, fill_opacity="0.6")
    if outcome.goal is not None:
        x = plot.x_of(outcome.goal)
        plot.drawing.add("line", kind="other-line dashed", x1=x, x2=x, y1=y - reach, y2=y + reach)
    if outcome.ours.ratio is not None:
        plot.drawing.add("circle", kind=_kind(outcome), cx=plot.x_of(outcome.ours.ratio), cy=y, r=5.5)


def _kind(outcome: Outcome) -> str:
    return "bad" if outcome.is_missed else "good"


def _draw_figures(drawing: Drawing, outcome: Outcome, y: float) -> None:
    upper, lower = y - 4, y + LEADING - 4
    if outcome.ours.ratio is None:
        drawing.text(OURS, upper, "not measured")
    else:
        drawing.text(OURS, upper, write_ratio(outcome.ours.ratio, goal=outcome.goal), kind=_kind(outcome))
        if outcome.goal is not None:
            verdict = "missed" if outcome.is_missed else "reached"
            drawing.text(OURS, lower, f"goal {outcome.goal:g}{TIMES} {verdict}")
    measured = [(one.ratio, one.name) for one in outcome.peers if one.ratio is not None]
    if measured:
        ratio, name = min(measured)
        drawing.text(BEST, upper, write_ratio(ratio, goal=outcome.goal), kind="ink")
        drawing.text(BEST, lower, name)
