"""How figures are written. Rule: as many digits as mean something, and a picture's words say what its bars show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._results import Outcome

__all__ = [
    "TIMES",
    "begin_upper",
    "describe_count",
    "describe_outcome",
    "describe_surroundings",
    "write_quantity",
    "write_ratio",
]

TIMES = "\u00d7"


def begin_upper(words: str) -> str:
    """Return *words* as the begin of a sentence."""
    return words[:1].upper() + words[1:]


def write_ratio(ratio: float, *, goal: float | None = None) -> str:
    """Return a ratio with the decimals that its goal makes interesting."""
    if ratio >= 10:
        return f"{_digits(ratio)}{TIMES}"
    return f"{ratio:.{3 if goal is not None and goal < 1.1 and ratio < 2 else 2}f}{TIMES}"


def write_quantity(value: float, unit: str, *, is_round: bool = False) -> str:
    """Return a quantity with three digits, or fewer if it *is_round*; seconds have the unit that suits them."""
    if unit == "s":
        units = ((1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
        factor, unit = next(((factor, name) for factor, name in units if abs(value) >= factor), units[-1])
        value /= factor
    return f"{f'{value:g}' if is_round else _digits(value)} {unit}".rstrip()


def _digits(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def describe_count(what: str, count: int) -> str:
    """Return a count in words, of what is named in the plural."""
    return f"{count:,} {what.removesuffix('s') if count == 1 else what}"


def describe_outcome(outcome: Outcome) -> str:
    """Say what the bars show, for those who do not see them."""
    figures = "; ".join(
        f"{one.name} {'not measured' if one.ratio is None else write_ratio(one.ratio, goal=outcome.goal)}"
        for one in outcome.contenders
    )
    goal = "" if outcome.goal is None else f" The goal is {outcome.goal:g}{TIMES}."
    return f"{begin_upper(outcome.name)}, as times the floor: {figures}.{goal}"


def describe_surroundings(found: Mapping[str, Any]) -> str:
    """Return in a line where it was measured."""
    versions = found.get("versions") or {}
    facts = [
        f"{found.get('implementation', '')} {found.get('python', '')}".strip(),
        *(f"{name} {versions[name]}" for name in ("simplestore-async", "aiohttp") if name in versions),
        str(found.get("system", "")),
        f"{found['cores']} cores" if found.get("cores") else "",
    ]
    return ", ".join(fact for fact in facts if fact)
