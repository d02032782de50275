"""Charts by matplotlib. Rule: each stands alone as SVG, in light and dark, and describes itself in words."""

from __future__ import annotations

import io
import math
import re
import textwrap
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import matplotlib as mpl
from matplotlib.figure import Figure as Sheet

from ._tables import TIMES, format_quantity, format_ratio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from ._results import Figure, Result

__all__ = ["PALETTE", "draw_results", "save"]

# Each colour in light and in dark.
PALETTE = {
    "#fefefe": "#0d1117",  # ground
    "#1f2328": "#e6edf3",  # text
    "#9aa4ae": "#6e7681",  # peers
    "#dde3e8": "#2a313a",  # grid
    "#f1ddd3": "#4a3029",  # outages
    "#0a62c4": "#58a6ff",  # this package
    "#c2410c": "#ff8f57",  # a missed goal
    "#8250df": "#bc8cff",  # goals
}
GROUND, TEXT, PEER, GRID, SHADE, OURS, MISSED, GOAL = PALETTE
_SETTINGS = {
    "axes.edgecolor": GRID,
    "axes.facecolor": GROUND,
    "axes.labelcolor": TEXT,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titlecolor": TEXT,
    "figure.facecolor": GROUND,
    "font.size": 9,
    "grid.color": GRID,
    "svg.fonttype": "none",
    "svg.hashsalt": "simplestore",
    "text.color": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
}


def save(sheet: Sheet, path: Path, *, title: str, description: str) -> None:
    """Write a figure as SVG that follows the reader's light or dark theme, with a title and a description."""
    content = io.StringIO()
    with mpl.rc_context(_SETTINGS):
        sheet.savefig(content, format="svg", bbox_inches="tight", metadata={"Date": None})
    dark = "".join(f"--c{colour[1:]}:{other};" for colour, other in PALETTE.items())
    light = "".join(f"--c{colour[1:]}:{colour};" for colour in PALETTE)
    picture = re.sub("|".join(PALETTE), lambda found: f"var(--c{found[0][1:]})", content.getvalue())
    head = (
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"
        f"<style>:root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}</style>"
    )
    picture = re.sub(r"(<svg [^>]*>)", lambda found: f"{found[1]}\n {head}", picture, count=1)
    path.write_text("\n".join(line.rstrip() for line in picture.splitlines()) + "\n", encoding="utf-8", newline="\n")


def draw_results(surroundings: Mapping[str, Any], results: Sequence[Result], directory: Path) -> None:
    """Write a chart for each measure, and `overview.svg` of all."""
    versions = surroundings.get("versions") or {}
    where = f"{surroundings.get('implementation', 'Python')} {surroundings.get('python')}, " + ", ".join(
        f"{name} {versions[name]}" for name in ("simplestore-async", "aiohttp") if name in versions
    )
    by_measure: dict[str, list[Result]] = {}
    for result in results:
        by_measure.setdefault(result.measure, []).append(result)
    for name, group in by_measure.items():
        with mpl.rc_context(_SETTINGS):
            sheet = _draw_measure(group)
        save(sheet, directory / f"{name}.svg", title=f"{name}; {where}", description=" ".join(map(_describe, group)))
    with mpl.rc_context(_SETTINGS):
        sheet = _draw_overview(results, where)
    title = "simplestore-async and its peers, in multiples of the floor"
    save(sheet, directory / "overview.svg", title=title, description=" ".join(map(_describe, results)))


def _describe(result: Result) -> str:
    ratios = "; ".join(
        f"{one.name} {'not measured' if one.ratio is None else format_ratio(one.ratio)}" for one in result.contenders
    )
    goal = "" if result.goal is None else f" The goal is {result.goal:g}{TIMES}{', missed' * result.is_missed}."
    return f"{result.name}, in multiples of the floor ({result.floor_name}): {ratios}.{goal}"


def _draw_measure(results: Sequence[Result]) -> Sheet:
    """Draw bars for each result, and below them the curves of a growth."""
    panels = [(result, is_curve) for result in results for is_curve in (False, True) if result.points or not is_curve]
    heights = [3.2 if is_curve else 0.9 + 0.24 * len(_measured(result)) for result, is_curve in panels]
    sheet = Sheet(figsize=(9.5, sum(heights)), layout="constrained")
    axes = sheet.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for plot, (result, is_curve) in zip(axes, panels, strict=True):
        (_draw_curves if is_curve else _draw_bars)(plot, result)
    return sheet


def _measured(result: Result) -> list[Figure]:
    others = (one for one in result.contenders[1:] if one.ratio is not None)
    return [*result.contenders[:1], *sorted(others, key=lambda one: one.ratio or math.inf)]


def _colour(result: Result, one: Figure) -> str:
    return PEER if one is not result.ours else MISSED if result.is_missed else OURS


def _draw_bars(plot: Axes, result: Result) -> None:
    rows = [one for one in _measured(result) if one.ratio is not None]
    ratios = [one.ratio or 1 for one in rows]
    plot.set_xscale("log" if max(ratios, default=1) > 10 else "linear")
    plot.barh(
        range(len(rows)),
        [ratio - 1 for ratio in ratios],
        left=1,
        height=0.6,
        color=[_colour(result, one) for one in rows],
    )
    for row, one in enumerate(rows):
        low, high = one.spread or (1, 1)
        plot.plot([max(low, 1e-3), max(high, 1e-3)], [row, row], color=TEXT, linewidth=0.8)
        counts = "".join(f", {what}: {count:,}" for what, count in one.counts.items() if count)
        quantity = "" if result.unit == "times" else f" = {format_quantity(one.median or 0, result.unit)}"
        words = f"  {format_ratio(one.ratio or 1)}{quantity}{counts}"
        plot.text(1.01, row, words, transform=plot.get_yaxis_transform(), va="center")
    plot.axvline(1, color=TEXT, linewidth=0.8)
    if result.goal is not None:
        plot.axvline(result.goal, color=GOAL, linestyle="--", linewidth=1)
    goal = "" if result.goal is None else f"; goal {result.goal:g}{TIMES}{', missed' * result.is_missed}"
    plot.set_yticks(range(len(rows)), [one.name for one in rows])
    plot.invert_yaxis()
    plot.set_title("\n".join(textwrap.wrap(f"{result.name}; floor: {result.floor_name}{goal}", 120)))


def _draw_curves(plot: Axes, result: Result) -> None:
    for name, curve in result.points.items():
        colour = OURS if name == result.ours.name else TEXT if name == "floor" else PEER
        plot.loglog(*zip(*curve, strict=True), marker=".", color=colour, linewidth=1, label=name)
        plot.annotate(
            name,
            (curve[-1][0], curve[-1][1]),
            xytext=(6, 0),
            textcoords="offset points",
            color=colour,
            va="center",
            fontsize=7,
        )
    plot.set_title("seconds of CPU time for each, by number; both scales are logarithmic")


def _draw_overview(results: Sequence[Result], where: str) -> Sheet:
    sheet = Sheet(figsize=(9.5, 0.8 + 0.34 * len(results)), layout="constrained")
    plot = sheet.subplots()
    plot.set_xscale("log")
    for row, result in enumerate(results):
        others = [one for one in result.contenders[1:] if one.is_peer and one.ratio is not None]
        plot.scatter([one.ratio or 1 for one in others], [row] * len(others), color=PEER, s=10, zorder=2)
        if result.goal is not None:
            plot.plot([result.goal] * 2, [row - 0.35, row + 0.35], color=GOAL, linestyle="--", zorder=3)
        words = "not measured"
        if result.ours.ratio is not None:
            plot.scatter([result.ours.ratio], [row], color=_colour(result, result.ours), s=42, zorder=4)
            words = format_ratio(result.ours.ratio)
            words += "" if result.goal is None else f" (goal {result.goal:g}{TIMES}{', missed' * result.is_missed})"
        best = min(others, key=lambda one: one.ratio or math.inf, default=None)
        words += f"; best peer {best.name} {format_ratio(best.ratio)}" if best and best.ratio else ""
        plot.text(1.01, row, f"  {words}", transform=plot.get_yaxis_transform(), va="center")
    plot.axvline(1, color=TEXT, linewidth=0.8)
    plot.grid(visible=True, axis="x")
    plot.set_yticks(range(len(results)), ["\n".join(textwrap.wrap(result.name, 52)) for result in results])
    plot.invert_yaxis()
    plot.set_title(f"Multiples of the floor. Large: simplestore-async; small: peers; dashed: goals. {where}")
    return sheet
