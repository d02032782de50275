"""The file of results. Rule: standard library only, so that any interpreter can run `check`."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["Figure", "Result", "ResultsError", "read_results", "write_results"]


class ResultsError(ValueError):
    """A file does not contain results."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One contender's figures in one measure; without a ratio, *note* gives the reason.

    Attributes:
        name: the package's name.
        is_peer: whether a program could use it; a yardstick is not a peer.
        median: the median of its samples.
        ratio: the median of its rounds' ratios to the floor.
        spread: the first and third quartile of these ratios.
        rounds: the number of its rounds.
        counts: counts that should be small, such as token requests.
        note: a reason or a restriction.
    """

    name: str
    is_peer: bool = True
    median: float | None = None
    ratio: float | None = None
    spread: Sequence[float] | None = None
    rounds: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    note: str = ""

    @property
    def error(self) -> float | None:
        """The standard error of the ratio, estimated from quartiles and rounds; None for a single round.

        Quartiles of a normal distribution are 1.349 standard deviations apart; the median of n samples has an error
        of 1.253 standard deviations over the root of n.
        """
        if self.spread is None or self.rounds < 2:
            return None
        low, high = self.spread
        return 1.253 / 1.349 * (high - low) / math.sqrt(self.rounds)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One measure's result; the first contender is this package.

    Attributes:
        measure: the name for the command line.
        name: what was measured.
        unit: the unit of the medians.
        goal: the highest ratio that this package should have.
        floor_name: the work that the ratios are relative to.
        floor: its median.
        contenders: this package, its peers, and yardsticks.
        points: for a growth, the cost by size, of each contender.
    """

    measure: str
    name: str
    unit: str
    goal: float | None
    floor_name: str
    floor: float | None
    contenders: Sequence[Figure]
    points: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """The identity of the same result in another run."""
        return self.measure, self.name

    @property
    def ours(self) -> Figure:
        """This package."""
        return self.contenders[0]

    @property
    def is_missed(self) -> bool:
        """Whether this package exceeds the goal."""
        return self.goal is not None and self.ours.ratio is not None and self.ours.ratio > self.goal


def write_results(path: Path, surroundings: Mapping[str, Any], results: Sequence[Result]) -> None:
    """Write a run's results."""
    content = {"surroundings": surroundings, "results": [asdict(result) for result in results]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_results(path: Path) -> tuple[dict[str, Any], list[Result]]:
    """Return surroundings and results; raise `ResultsError` for other content, `OSError` for an unreadable file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        results = [_result(one) for one in found["results"]]
        surroundings = dict(found["surroundings"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ResultsError(f"{path} has no results of the benchmarks ({type(error).__name__}: {error})") from error
    if len({result.key for result in results}) < len(results):
        raise ResultsError(f"{path}: two results have the same measure and name")
    return surroundings, results


def _result(found: Mapping[str, Any]) -> Result:
    contenders = [Figure(**one) for one in found["contenders"]]
    if not contenders:
        raise ValueError(f"{found['name']} has no contender")
    return Result(**{**found, "contenders": contenders})
