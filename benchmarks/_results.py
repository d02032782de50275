"""What a file of results says. Rule: needs nothing but Python's own library, so that any interpreter can run `check`.

The file is written by `python -m benchmarks --json`; what it lacks or has in another shape is a `ResultsError`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Contender", "Outcome", "Results", "ResultsError", "parse_results", "read_results"]


class ResultsError(ValueError):
    """A file is no file of results."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """What one package did in one measure; one that could not be measured has a note instead of figures.

    What is no peer is nothing that a program could use: it tells what a goal is made of.
    """

    name: str
    is_peer: bool
    median: float | None
    ratio: float | None
    spread: tuple[float, float] | None
    rounds: int
    counts: Mapping[str, int]
    note: str

    @property
    def error(self) -> float | None:
        """The standard error of the ratio, as its quartiles and rounds tell it; None if a single round told nothing.

        Quartiles of a normal distribution lie 1.349 standard deviations apart; a median of n samples errs by
        1.253 standard deviations over the root of n.
        """
        if self.spread is None or self.rounds < 2:
            return None
        low, high = self.spread
        return 1.253 / 1.349 * (high - low) / math.sqrt(self.rounds)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One measure, with its contenders; the first of them is this package.

    *points* are those of a growth: how many callers, and the seconds for each of them.
    """

    measure: str
    name: str
    unit: str
    goal: float | None
    floor_name: str
    floor_median: float | None
    contenders: tuple[Contender, ...]
    points: Mapping[str, tuple[tuple[float, float], ...]]

    @property
    def key(self) -> tuple[str, str]:
        """What the same measure has in another run."""
        return self.measure, self.name

    @property
    def ours(self) -> Contender:
        """This package."""
        return self.contenders[0]

    @property
    def others(self) -> tuple[Contender, ...]:
        """All but this package."""
        return self.contenders[1:]

    @property
    def peers(self) -> tuple[Contender, ...]:
        """The others that a program could use."""
        return tuple(one for one in self.others if one.is_peer)

    @property
    def is_missed(self) -> bool:
        """Whether there is a goal, and this package is beyond it."""
        return self.goal is not None and self.ours.ratio is not None and self.ours.ratio > self.goal


@dataclass(frozen=True, kw_only=True)
class Results:
    """A run: its outcomes, and where they were measured."""

    surroundings: Mapping[str, Any]
    outcomes: tuple[Outcome, ...]


def read_results(path: Path) -> Results:
    """Return what the file says; raise `ResultsError` if that is no result, `OSError` if there is none."""
    try:
        return parse_results(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ResultsError(f"{path}: {error}") from error


def parse_results(found: Any) -> Results:
    """Return what the content of such a file says; raise `ResultsError` if that is no result."""
    try:
        outcomes = tuple(_outcome(one) for one in found["results"])
        results = Results(surroundings=dict(found["surroundings"]), outcomes=outcomes)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ResultsError(f"no results of the benchmarks ({type(error).__name__}: {error})") from error
    if len({outcome.key for outcome in outcomes}) < len(outcomes):
        raise ResultsError("two results have the same measure and name")
    return results


def _outcome(found: Mapping[str, Any]) -> Outcome:
    floor = found.get("floor") or {"name": "", "median": None}
    points = {
        name: tuple((float(callers), float(seconds)) for callers, seconds in curve if callers > 0 and seconds > 0)
        for name, curve in (found.get("points") or {}).items()
    }
    contenders = tuple(_contender(one) for one in found["contenders"])
    if not contenders:
        raise ValueError(f"{found['name']} has no contender")
    return Outcome(
        measure=str(found["measure"]),
        name=str(found["name"]),
        unit=str(found["unit"]),
        goal=_number(found["goal"]),
        floor_name=str(floor["name"]),
        floor_median=_number(floor["median"]),
        contenders=contenders,
        points=points,
    )


def _contender(found: Mapping[str, Any]) -> Contender:
    spread = found["spread"]
    return Contender(
        name=str(found["name"]),
        is_peer=bool(found["is_peer"]),
        median=_number(found["median"]),
        ratio=_number(found["ratio"]),
        spread=None if spread is None else (float(spread[0]), float(spread[1])),
        rounds=int(found["rounds"]),
        counts={str(what): int(count) for what, count in found["counts"].items()},
        note=str(found["note"]),
    )


def _number(found: Any) -> float | None:
    return None if found is None else float(found)
