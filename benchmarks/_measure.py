"""How to measure. Rule: floor and contender take turns, and only their ratio is told: absolute times are the machine's.

A measure is a pair of functions that each return one sample. The ratio is the median of the rounds' ratios, because two
samples of one round had the same noise; its spread is told too (half of the rounds lie within it).
"""

from __future__ import annotations

import gc
import statistics
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Result", "compare", "summarize"]


@attrs.frozen(kw_only=True)
class Result:
    """One measure's outcome.

    Attributes:
        name: what was measured.
        unit: the unit of the two medians.
        floor: the floor's median.
        contender: the package's median.
        ratio: how many times the floor, in the median of the rounds.
        spread: the first and third quartile of that.
        goal: what the ratio should not exceed.
        counts: what was counted beside it, such as token requests.
    """

    name: str
    unit: str
    floor: float
    contender: float
    ratio: float
    spread: tuple[float, float]
    goal: float
    counts: dict[str, int] = attrs.field(factory=dict)

    @property
    def is_reached(self) -> bool:
        """Whether the goal is."""
        return self.ratio <= self.goal


async def compare(
    floor: Callable[[], Awaitable[float]], contender: Callable[[], Awaitable[float]], *, rounds: int
) -> list[tuple[float, float]]:
    """Return a pair of samples for each round; who goes first changes, and a first round of each is thrown away."""
    pairs: list[tuple[float, float]] = []
    for number in range(rounds + 1):
        gc.collect(1)
        if number % 2:
            first = await floor()
            pairs.append((first, await contender()))
        else:
            second = await contender()
            pairs.append((await floor(), second))
    return pairs[1:]


def summarize(
    pairs: list[tuple[float, float]], *, name: str, unit: str, goal: float, counts: dict[str, int] | None = None
) -> Result:
    """Return what the rounds' samples say."""
    ratios = [contender / floor for floor, contender in pairs]
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (ratios * 3)
    return Result(
        name=name,
        unit=unit,
        floor=statistics.median(floor for floor, _ in pairs),
        contender=statistics.median(contender for _, contender in pairs),
        ratio=statistics.median(ratios),
        spread=(low, high),
        goal=goal,
        counts=counts or {},
    )
