"""How to draw. Rule: a picture is one SVG file that stands alone, in light and dark, and says in words what it shows.

A `Drawing` is a sheet, a `Plot` a frame on it with two scales. What is drawn names a *kind*, never a colour: `PALETTE`
has each kind's for light and for dark. A difference that matters is shown by place or by words, too. No font is sent
along, so that words have the room of a wide one: `LETTER` pixels for each letter.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["LEADING", "LETTER", "PALETTE", "Drawing", "Plot", "Scale", "fold"]

LETTER = 7.2
LEADING = 17
BEAM = 14

PALETTE = {
    "ground": ("#ffffff", "#0d1117"),
    "ink": ("#1f2328", "#e6edf3"),
    "faint": ("#59636e", "#9198a1"),
    "grid": ("#dde3e8", "#2a313a"),
    "shade": ("#f1ddd3", "#4a3029"),
    "veil": ("#f0f3f6", "#1a212a"),
    "good": ("#0a62c4", "#58a6ff"),
    "bad": ("#c2410c", "#ff8f57"),
    "other": ("#8250df", "#bc8cff"),
}


def _rules(column: int) -> str:
    return "".join(
        f".{kind}{{fill:{colours[column]}}}.{kind}-line{{stroke:{colours[column]}}}"
        for kind, colours in PALETTE.items()
    )


_STYLE = (
    "text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}.title{font-size:17px;font-weight:600}"
    "path,line{fill:none;stroke-width:1.5}.hair{stroke-width:1}.dashed{stroke-dasharray:4 3}"
    f".dots{{stroke-width:2;stroke-linecap:round}}{_rules(0)}@media (prefers-color-scheme:dark){{{_rules(1)}}}"
)


def _number(value: float) -> str:
    return f"{round(value, 1):g}"


def fold(words: str, width: float) -> list[str]:
    """Return *words* as lines that fit into so many pixels."""
    return textwrap.wrap(words, max(1, int(width / LETTER)))


class Drawing:
    """A sheet of so many pixels, with a title and a subtitle; *description* is for those who do not see it."""

    def __init__(self, *, width: float, height: float, title: str, subtitle: str, description: str) -> None:
        self._elements: list[str] = []
        self._head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
            f'aria-labelledby="title description">\n<title id="title">{escape(title)}</title>\n'
            f'<desc id="description">{escape(description)}</desc>\n<style>{_STYLE}</style>'
        )
        self.add("rect", kind="ground", width=width, height=height, rx=6)
        self.text(24, 32, title, kind="ink title")
        self.text(24, 54, subtitle)

    def add(self, name: str, *, kind: str, text: str = "", **attributes: str | float) -> None:
        """Add an element."""
        values = {"class": kind, **attributes}
        written = "".join(
            f" {key.replace('_', '-')}={quoteattr(value if isinstance(value, str) else _number(value))}"
            for key, value in values.items()
        )
        self._elements.append(f"<{name}{written}>{escape(text)}</{name}>" if text else f"<{name}{written}/>")

    def text(self, x: float, y: float, words: str, *, kind: str = "faint", anchor: str = "start") -> None:
        """Write *words* from, to or around *x*, as *anchor* says: `start`, `end` or `middle`."""
        self.add("text", kind=kind, text=words, x=x, y=y, text_anchor=anchor)

    def paragraph(self, x: float, y: float, words: str, *, width: float, kind: str = "faint") -> float:
        """Write *words* in lines of so many pixels, and return the y of the line after them."""
        lines = fold(words, width)
        for number, line in enumerate(lines):
            self.text(x, y + LEADING * number, line, kind=kind)
        return y + LEADING * len(lines)

    def render(self) -> str:
        """Return the file's content."""
        return "\n".join([self._head, *self._elements, "</svg>\n"])


@attrs.frozen
class Scale:
    """From one value to another, with what is written beside some of them.

    On a logarithmic one each step of the same length is the same factor, and all values are above zero.
    """

    low: float
    high: float
    marks: Mapping[float, str]
    is_logarithmic: bool = False

    def place(self, value: float) -> float:
        """Return how far *value* lies from low, as a part of the whole."""
        if self.is_logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@attrs.frozen
class Plot:
    """A frame on a drawing; x and y of what is drawn in it are values on its scales."""

    drawing: Drawing
    left: float
    top: float
    width: float
    height: float
    x: Scale
    y: Scale

    def x_of(self, value: float) -> float:
        """Return the pixel of a value."""
        return self.left + self.width * self.x.place(value)

    def y_of(self, value: float) -> float:
        """Return the pixel of a value."""
        return self.top + self.height * (1 - self.y.place(value))

    def axes(self, *, drop: float = 0) -> None:
        """Draw the grid, with the x scale *drop* pixels below the frame."""
        for value, words in self.y.marks.items():
            self.level(value, kind="grid-line hair")
            self.drawing.text(self.left - 8, self.y_of(value) + 4, words, anchor="end")
        for value, words in self.x.marks.items():
            self.drawing.text(self.x_of(value), self.top + self.height + drop + 20, words, anchor="middle")

    def level(self, value: float, *, kind: str) -> None:
        """Draw a line across, at a value of y."""
        y = self.y_of(value)
        self.drawing.add("line", kind=kind, x1=self.left, x2=self.left + self.width, y1=y, y2=y)

    def upright(self, value: float, *, kind: str) -> None:
        """Draw a line from bottom to top, at a value of x."""
        x = self.x_of(value)
        self.drawing.add("line", kind=kind, x1=x, x2=x, y1=self.top, y2=self.top + self.height)

    def span(self, first: float, last: float, *, kind: str, drop: float = 0) -> None:
        """Shade what lies between two values of x, and *drop* pixels more below the frame."""
        x = self.x_of(first)
        self.drawing.add("rect", kind=kind, x=x, y=self.top, width=self.x_of(last) - x, height=self.height + drop)

    def line(self, points: Iterable[tuple[float, float]], *, kind: str) -> None:
        """Join points."""
        self._path((f"{self._pixel(x, y)}" for x, y in points), "M{}", "L{}", kind)

    def dots(self, points: Iterable[tuple[float, float]], *, kind: str) -> None:
        """Draw a dot at each point."""
        self._path((f"{self._pixel(x, y)}" for x, y in points), "M{}h0", "M{}h0", f"{kind} dots")

    def bars(self, points: Iterable[tuple[float, float]], *, kind: str) -> None:
        """Draw a line from the bottom up to each point."""
        self._path((f"{self._pixel(x, self.y.low)}V{_number(self.y_of(y))}" for x, y in points), "M{}", "M{}", kind)

    def beam(self, first: float, last: float, y: float, *, kind: str, is_faint: bool) -> None:
        """Draw a bar between two values of x, around a value of y."""
        left, right = sorted((self.x_of(first), self.x_of(last)))
        # A bar of no length is seen, too.
        width, top = max(right - left, 1.0), self.y_of(y) - BEAM / 2
        opacity = "0.5" if is_faint else "1"
        self.drawing.add("rect", kind=kind, x=left, y=top, width=width, height=BEAM, fill_opacity=opacity)

    def whisker(self, first: float, last: float, y: float, *, kind: str) -> None:
        """Draw a line between two values of x, as far as they are on the scale, with both its ends, at a value of y."""
        left, right = (_number(self.x_of(min(max(value, self.x.low), self.x.high))) for value in (first, last))
        middle = self.y_of(y)
        low, high = _number(middle - 4), _number(middle + 4)
        self.drawing.add(
            "path", kind=kind, d=f"M{left} {low}V{high}M{right} {low}V{high}M{left} {_number(middle)}H{right}"
        )

    def _pixel(self, x: float, y: float) -> str:
        return f"{_number(self.x_of(x))} {_number(self.y_of(y))}"

    def _path(self, steps: Iterable[str], first: str, then: str, kind: str) -> None:
        written = [(then if number else first).format(step) for number, step in enumerate(steps)]
        if written:
            self.drawing.add("path", kind=kind, d="".join(written))
