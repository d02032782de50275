"""Page of results: a table, then charts. Rule: a chart stands alone in light and dark, with its figures in words."""

from __future__ import annotations

import io
import re
import textwrap
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import matplotlib as mpl
from matplotlib.figure import Figure as Sheet

from ._results import describe_result, format_quantity, format_ratio, table_of_runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from ._results import Figure, Result, Run

__all__ = ["PALETTE", "save", "write_page"]

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


def write_page(runs: Mapping[str, Run], directory: Path) -> None:
    """Write `README.md` with a table of the runs and charts of the first, one for each of its measures."""
    words = ["# Results of the benchmarks", "", table_of_runs(runs), ""]
    for name, run in runs.items():
        facts = {**run.surroundings, **run.surroundings["versions"]}
        known = ("python", "event_loop", "processor", "cores", "load", "aiohttp", "simplestore-async")
        words.append(f"- **{name}**: " + ", ".join(f"{fact} {facts[fact]}" for fact in known if fact in facts))
    first, *_ = runs
    words += ["", f"The charts are of {first}. Each has its figures in words, too."]
    by_measure: dict[str, list[Result]] = {}
    for result in runs[first].results:
        by_measure.setdefault(result.measure, []).append(result)
    for measure, results in by_measure.items():
        with mpl.rc_context(_SETTINGS):
            sheet = _draw(results)
        description = "\n".join(map(describe_result, results))
        save(sheet, directory / f"{measure}.svg", title=f"{measure}, {first}", description=description)
        words += ["", f"![{measure}]({measure}.svg)"]
    (directory / "README.md").write_text("\n".join(words) + "\n", encoding="utf-8", newline="\n")


def _draw(results: Sequence[Result]) -> Sheet:
    """Draw bars for each result, and below them the curves of a growth."""
    panels = [(result, is_curve) for result in results for is_curve in (False, True) if result.points or not is_curve]
    heights = [3.2 if is_curve else 0.9 + 0.24 * len(result.contenders) for result, is_curve in panels]
    sheet = Sheet(figsize=(9.5, sum(heights)), layout="constrained")
    axes = sheet.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for plot, (result, is_curve) in zip(axes, panels, strict=True):
        (_draw_curves if is_curve else _draw_bars)(plot, result)
    return sheet


def _draw_bars(plot: Axes, result: Result) -> None:
    rows = [one for one in (result.ours, *result.others) if one.ratio is not None]
    ratios = [one.ratio or 1 for one in rows]
    ours = MISSED if result.is_missed else OURS
    colours = [ours if one is result.ours else PEER for one in rows]
    plot.set_xscale("log" if max(ratios, default=1) > 10 else "linear")
    plot.barh(range(len(rows)), [ratio - 1 for ratio in ratios], left=1, height=0.6, color=colours)
    for row, one in enumerate(rows):
        plot.plot(one.spread or (1, 1), [row, row], color=TEXT, linewidth=0.8)
        plot.text(1.01, row, _words(one, result.unit), transform=plot.get_yaxis_transform(), va="center")
    plot.axvline(1, color=TEXT, linewidth=0.8)
    if result.goal is not None:
        plot.axvline(result.goal, color=GOAL, linestyle="--", linewidth=1)
    plot.set_yticks(range(len(rows)), [one.name for one in rows])
    plot.invert_yaxis()
    plot.set_title("\n".join(textwrap.wrap(f"{result.name}; floor: {result.floor_name}{result.words_of_goal}", 120)))


def _words(figure: Figure, unit: str) -> str:
    counts = "".join(f", {what}: {count:,}" for what, count in figure.counts.items() if count)
    quantity = "" if unit == "times" else f" = {format_quantity(figure.median or 0, unit)}"
    return f"  {format_ratio(figure.ratio or 1)}{quantity}{counts}"


def _draw_curves(plot: Axes, result: Result) -> None:
    for name, curve in result.points.items():
        colour = OURS if name == result.ours.name else PEER
        plot.loglog(*zip(*curve, strict=True), marker=".", color=colour, linewidth=1)
        plot.annotate(name, curve[-1], xytext=(6, 0), textcoords="offset points", color=colour, va="center", fontsize=7)
    plot.set_title("seconds of CPU time for each, by number; both scales are logarithmic")
