"""How results are drawn. Rule: a bar is what a contender costs above the floor, and beside it stand the figures.

There is a picture for each measure, named after it, and `overview.svg` for all of them. Every bar begins at the floor,
on a linear scale or on a logarithmic one, as the longest of them needs; between the ends of the whisker on it lie half
of the rounds. Below stands what is to be said of some, and why others could not be measured.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs

from ._curves import Curves
from ._drawing import LEADING, Drawing, Plot, Scale, fold
from ._overview import draw_overview
from ._results import Contender, Outcome
from ._scales import ratio_scale
from ._wording import (
    TIMES,
    begin_upper,
    describe_count,
    describe_outcome,
    describe_surroundings,
    write_quantity,
    write_ratio,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._results import Results

__all__ = ["draw_results"]

WIDTH = 960
MARGIN = 24
HEAD = 72
BARS, BARS_WIDTH = 204, 396
RATIOS, MEDIANS, COUNTS = 614, 768, 784


def draw_results(results: Results) -> dict[str, str]:
    """Return the pictures, as the content of SVG files by their names."""
    where = describe_surroundings(results.surroundings)
    by_measure: dict[str, list[Outcome]] = {}
    for outcome in results.outcomes:
        by_measure.setdefault(outcome.measure, []).append(outcome)
    pictures = {f"{name}.svg": _draw_measure(outcomes, where) for name, outcomes in by_measure.items()}
    return {**pictures, "overview.svg": draw_overview(results.outcomes, where)}


def _draw_measure(outcomes: Sequence[Outcome], where: str) -> str:
    is_single = len(outcomes) == 1
    panels: list[_Bars | Curves | _Notes] = []
    for outcome in outcomes:
        panels.append(_Bars(outcome, title="" if is_single else begin_upper(outcome.name)))
        if any(outcome.points.values()):
            panels.append(Curves(outcome))
    panels.append(_Notes(outcomes))
    drawing = Drawing(
        width=WIDTH,
        height=HEAD + sum(panel.height for panel in panels),
        title=begin_upper(outcomes[0].name if is_single else outcomes[0].measure.replace("-", " ")),
        subtitle=where,
        description=" ".join(describe_outcome(outcome) for outcome in outcomes),
    )
    top = float(HEAD)
    for panel in panels:
        panel.draw(drawing, left=MARGIN, top=top)
        top += panel.height
    return drawing.render()


class _Notes:
    """A panel with what is to be said of contenders, and why some were not measured; once for all of *outcomes*."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        # In the order of the first time that each is said.
        notes = {
            (one.name, one.note or "not measured"): None
            for outcome in outcomes
            for one in outcome.contenders
            if one.note or one.ratio is None
        }
        self._notes = [(name, fold(note, WIDTH - MARGIN - BARS)) for name, note in notes]
        self.height = sum(LEADING * len(lines) + 4 for _, lines in self._notes) + (12 if self._notes else 0)

    def draw(self, drawing: Drawing, *, left: float, top: float) -> None:  # noqa: ARG002 - as the other panels
        y = top + 12
        for name, lines in self._notes:
            drawing.text(BARS - 12, y, name, anchor="end")
            for number, line in enumerate(lines):
                drawing.text(BARS, y + LEADING * number, line)
            y += LEADING * len(lines) + 4


@attrs.frozen
class _Row:
    """A contender's row, with the lines of what was counted; nothing is written of what never happened."""

    contender: Contender
    counts: tuple[str, ...]

    @classmethod
    def of(cls, contender: Contender) -> _Row:
        counts = [describe_count(what, count) for what, count in contender.counts.items() if count]
        return cls(contender, tuple(line for words in counts for line in fold(words, WIDTH - MARGIN - COUNTS)))

    @property
    def height(self) -> int:
        return LEADING * max(1, len(self.counts)) + 10


class _Bars:
    """A panel with a row for each contender that was measured: this package, then the others from the least on."""

    def __init__(self, outcome: Outcome, *, title: str) -> None:
        self._outcome, self._title, self._words = outcome, title, _describe_floor(outcome)
        ranked = sorted(outcome.others, key=lambda one: math.inf if one.ratio is None else one.ratio)
        self._rows = [_Row.of(one) for one in (outcome.ours, *ranked) if one.ratio is not None]
        self._head = LEADING * (len(fold(self._words, WIDTH - 2 * MARGIN)) + bool(title)) + 30
        self._body = sum(row.height for row in self._rows)
        self.height = self._head + self._body + 40

    def draw(self, drawing: Drawing, *, left: float, top: float) -> None:
        y = top + 12
        if self._title:
            drawing.add("text", kind="ink", text=self._title, x=left, y=y, style="font-weight:600")
            y += LEADING
        drawing.paragraph(left, y, self._words, width=WIDTH - 2 * MARGIN)
        if self._rows:
            self._draw_rows(drawing, top + self._head)

    def _draw_rows(self, drawing: Drawing, top: float) -> None:
        goal, scale = self._outcome.goal, ratio_scale([self._outcome])
        rows = Scale(self._body, 0, {})
        plot = Plot(drawing, left=BARS, top=top, width=BARS_WIDTH, height=self._body, x=scale, y=rows)
        for value in scale.marks:
            plot.upright(value, kind="grid-line hair")
        plot.axes(drop=-2)
        plot.upright(1, kind="ink-line hair")
        drawing.text(plot.x_of(1) - 4, top - 6, "floor", anchor="end")
        reached = 0.0
        for row in self._rows:
            self._draw_row(plot, row, reached + 5 + LEADING / 2)
            reached += row.height
        if goal is not None:
            plot.upright(goal, kind="other-line dashed")
            drawing.text(plot.x_of(goal) + 4, top - 6, f"goal {goal:g}{TIMES}", kind="other")

    def _draw_row(self, plot: Plot, row: _Row, middle: float) -> None:
        drawing, one, outcome = plot.drawing, row.contender, self._outcome
        is_ours = one is outcome.ours
        base = plot.y_of(middle) + 4.5
        drawing.text(BARS - 12, base, one.name, kind="ink" if is_ours else "faint", anchor="end")
        if one.ratio is not None:
            kind = "faint" if not is_ours else "bad" if outcome.is_missed else "good"
            plot.beam(1, one.ratio, middle, kind=kind, is_faint=not is_ours)
            drawing.text(RATIOS, base, write_ratio(one.ratio, goal=outcome.goal), kind="ink")
        if one.spread is not None and one.rounds > 1:
            plot.whisker(*one.spread, middle, kind="ink-line hair")
        if one.median is not None and outcome.unit != TIMES:
            drawing.text(MEDIANS, base, write_quantity(one.median, outcome.unit), anchor="end")
        for number, line in enumerate(row.counts):
            drawing.text(COUNTS, base + LEADING * number, line)


def _describe_floor(outcome: Outcome) -> str:
    parts = []
    if outcome.floor_name:
        median = None if outcome.unit == TIMES else outcome.floor_median
        parts.append(
            f"Floor: {outcome.floor_name}{'' if median is None else f' ({write_quantity(median, outcome.unit)})'}"
        )
    if outcome.goal is not None:
        verdict = "" if outcome.ours.ratio is None else ", missed" if outcome.is_missed else ", reached"
        parts.append(f"Goal: {outcome.goal:g}{TIMES}{verdict}")
    if outcome.ours.rounds > 1:
        parts.append(f"Median of {outcome.ours.rounds} rounds")
    return "".join(f"{part}. " for part in parts)
