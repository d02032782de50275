"""Results as text: a table for each measure, and runs side by side."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._results import Figure, Result

__all__ = ["TIMES", "format_quantity", "format_ratio", "print_table", "table_of_runs"]

TIMES = "\u00d7"


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


def print_table(result: Result) -> None:
    """Print a result: this package, then its peers from the lowest ratio to the highest."""
    floor = f" ({format_quantity(result.floor, result.unit)})" if result.floor is not None else ""
    goal = "" if result.goal is None else f"; goal {result.goal:g}{' MISSED' if result.is_missed else ''}"
    click.echo(f"{result.measure}: {result.name}{goal}\n  floor: {result.floor_name}{floor}")
    ours, *others = result.contenders
    for figure in (ours, *sorted(others, key=lambda one: math.inf if one.ratio is None else one.ratio)):
        click.echo(f"  {figure.name:<24}{_describe(figure, result.unit)}")


def _describe(figure: Figure, unit: str) -> str:
    note = f"; {figure.note}" if figure.note else ""
    if figure.ratio is None or figure.spread is None or figure.median is None:
        return f"{'-':>9}{note}"
    low, high = figure.spread
    counts = "".join(f"; {what}: {count:,}" for what, count in figure.counts.items())
    quantity = format_quantity(figure.median, unit)
    return f"{format_ratio(figure.ratio):>9} ({low:.3f} to {high:.3f}), {quantity}{counts}{note}"


def table_of_runs(runs: Mapping[str, Sequence[Result]]) -> str:
    """Return this package's ratios in several runs as a table in Markdown; bold is above the goal."""
    rows = {result.key: result for results in runs.values() for result in results}
    by_run = {name: {result.key: result for result in results} for name, results in runs.items()}
    lines = [["measure", "goal", *runs], ["---"] * (2 + len(runs))]
    for key, any_result in rows.items():
        cells = [_cell(results.get(key)) for results in by_run.values()]
        lines.append([any_result.name, f"{any_result.goal:g}" if any_result.goal else "", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(result: Result | None) -> str:
    if result is None or result.ours.ratio is None:
        return "-"
    ratio = format_ratio(result.ours.ratio)
    return f"**{ratio}**" if result.is_missed else ratio
