"""How growth is drawn. Rule: what each caller costs, over how many there are; a flat curve is the good one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import attrs

from ._drawing import LEADING, Drawing, Plot
from ._scales import logarithmic_scale
from ._wording import write_quantity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._drawing import Scale
    from ._results import Outcome

__all__ = ["Curves"]

WIDTH, HEIGHT = 600, 300


class Curves:
    """A panel with a curve for each contender and the floor, both scales logarithmic."""

    height: ClassVar = HEIGHT + 84

    def __init__(self, outcome: Outcome) -> None:
        self._ours = outcome.ours.name
        self._curves = {name: curve for name, curve in outcome.points.items() if curve}

    def draw(self, drawing: Drawing, *, left: float, top: float) -> None:
        """Draw it on a sheet, below *top*."""
        words = "Time for each caller, over how many call at once; both scales are logarithmic."
        drawing.text(left, top + 12, words)
        x, y = self._scales()
        plot = Plot(drawing, left=left + 60, top=top + 34, width=WIDTH, height=HEIGHT, x=x, y=y)
        plot.axes()
        # The last lies above the others.
        for name, curve in sorted(self._curves.items(), key=lambda item: item[0] == self._ours):
            plot.line(curve, kind=self._kind(name, "-line hair", " dashed"))
            plot.dots(curve, kind=self._kind(name, "-line", ""))
        self._draw_names(plot, {name: curve[-1] for name, curve in self._curves.items()})

    def _scales(self) -> tuple[Scale, Scale]:
        callers = [x for curve in self._curves.values() for x, _ in curve]
        seconds = [y for curve in self._curves.values() for _, y in curve]
        x = logarithmic_scale(min(callers), max(*callers, 10 * min(callers)), lambda value: f"{value:,.0f}")
        x = attrs.evolve(x, marks={value: words for value, words in x.marks.items() if math.log10(value).is_integer()})
        y = logarithmic_scale(
            min(seconds) / 1.2, max(seconds) * 1.2, lambda value: write_quantity(value, "s", is_round=True)
        )
        return x, y

    def _kind(self, name: str, line: str, dashed: str) -> str:
        if name == self._ours:
            return f"good{line.removesuffix(' hair')}"
        return f"ink{line.removesuffix(' hair')}{dashed}" if name == "floor" else f"faint{line}"

    def _draw_names(self, plot: Plot, ends: Mapping[str, tuple[float, float]]) -> None:
        """Write each name where its curve ends, or as near as the others leave room."""
        places = sorted((plot.y_of(y), plot.x_of(x), name) for name, (x, y) in ends.items())
        written: list[float] = []
        for y, _, _ in places:
            written.append(max(y, written[-1] + LEADING) if written else y)
        excess = max(0.0, written[-1] - plot.top - plot.height)
        left = plot.left + plot.width + 36
        for (y, x, name), place in zip(places, written, strict=True):
            plot.drawing.add("line", kind="grid-line hair", x1=x + 4, y1=y, x2=left - 4, y2=place - excess)
            plot.drawing.text(left, place - excess + 4.5, name, kind=self._kind(name, "", ""))
