"""Results: their file, and tables of them. Rule: the first contender of a result is this package."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import attrs
import cattrs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["TIMES", "Figure", "Result", "Run", "describe_result", "format_quantity", "format_ratio", "table_of_runs"]

TIMES = "\u00d7"


@attrs.frozen(kw_only=True)
class Figure:
    """One contender's figures in one measure; without a ratio, *note* gives the reason.

    Attributes:
        name: the package's name.
        median: the median of its samples.
        ratio: the median of its rounds' ratios to the floor.
        spread: the first and third quartile of these ratios.
        rounds: the number of its rounds.
        counts: counts that should be small, such as token requests.
        note: the reason.
    """

    name: str
    median: float | None = None
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    rounds: int = 0
    counts: dict[str, int] = attrs.field(factory=dict)
    note: str = ""


@attrs.frozen(kw_only=True)
class Result:
    """One measure's result; *points* has, by name, the cost of each at each size."""

    measure: str
    name: str
    unit: str
    goal: float | None
    floor_name: str
    floor: float | None
    contenders: list[Figure]
    points: dict[str, list[tuple[float, float]]] = attrs.field(factory=dict)

    @property
    def ours(self) -> Figure:
        """This package."""
        return self.contenders[0]

    @property
    def others(self) -> list[Figure]:
        """All others, from the lowest ratio to the highest, those without one last."""
        return sorted(self.contenders[1:], key=lambda one: math.inf if one.ratio is None else one.ratio)

    @property
    def is_missed(self) -> bool:
        """Whether this package exceeds the goal."""
        return self.goal is not None and self.ours.ratio is not None and self.ours.ratio > self.goal

    @property
    def words_of_goal(self) -> str:
        """The goal, and whether it is missed, as an apposition; empty without a goal."""
        return "" if self.goal is None else f"; goal {self.goal:g}{TIMES}{', missed' * self.is_missed}"


@attrs.frozen(kw_only=True)
class Run:
    """The results of one run, and its surroundings: Python, system, versions."""

    surroundings: dict[str, Any]
    results: list[Result]

    @classmethod
    def read(cls, path: Path) -> Run:
        """Return the run in a file."""
        return cattrs.structure(json.loads(path.read_text(encoding="utf-8")), cls)

    def write(self, path: Path) -> None:
        """Write the run to a file."""
        path.write_text(json.dumps(cattrs.unstructure(self), indent=1) + "\n", encoding="utf-8")


def format_ratio(ratio: float) -> str:
    """Return a ratio with three or four digits."""
    return f"{ratio:.3f}{TIMES}" if ratio < 2 else f"{ratio:.2f}{TIMES}" if ratio < 10 else f"{ratio:,.0f}{TIMES}"


def format_quantity(value: float, unit: str) -> str:
    """Return a quantity with three digits; seconds get the unit that suits them."""
    if unit == "s":
        for factor, name in ((1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")):
            if value >= factor:
                value, unit = value / factor, name
                break
    return f"{f'{value:,.0f}' if value >= 100 else f'{value:.3g}'} {unit}".rstrip()


def describe_result(result: Result) -> str:
    """Return a result as lines of text: this package, then its peers from the lowest ratio to the highest."""
    floor = f" ({format_quantity(result.floor, result.unit)})" if result.floor is not None else ""
    lines = [f"{result.measure}: {result.name}{result.words_of_goal}", f"  floor: {result.floor_name}{floor}"]
    for figure in (result.ours, *result.others):
        note = f"; {figure.note}" if figure.note else ""
        counts = "".join(f"; {what}: {count:,}" for what, count in figure.counts.items())
        words = f"{'-':>9}"
        if figure.ratio is not None and figure.spread is not None and figure.median is not None:
            low, high = figure.spread
            quantity = format_quantity(figure.median, result.unit)
            words = f"{format_ratio(figure.ratio):>9} ({low:.3f} to {high:.3f}, {figure.rounds} rounds), {quantity}"
        lines.append(f"  {figure.name:<24}{words}{counts}{note}")
    return "\n".join(lines)


def table_of_runs(runs: Mapping[str, Run]) -> str:
    """Return this package's ratios in several runs, with quartiles, in Markdown; bold is above the goal."""
    by_run = {name: {(one.measure, one.name): one for one in run.results} for name, run in runs.items()}
    rows = {key: result for results in by_run.values() for key, result in results.items()}
    lines: list[Sequence[str]] = [["measure", "goal", *runs], ["---"] * (2 + len(runs))]
    for key, any_result in rows.items():
        cells = [_cell(results.get(key)) for results in by_run.values()]
        lines.append([any_result.name, f"{any_result.goal:g}" if any_result.goal else "", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(result: Result | None) -> str:
    if result is None or result.ours.ratio is None or result.ours.spread is None:
        return "-"
    ratio, (low, high) = format_ratio(result.ours.ratio), result.ours.spread
    return f"{f'**{ratio}**' if result.is_missed else ratio} ({low:.2f} to {high:.2f})"
