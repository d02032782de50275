"""How to measure. Rule: floor and contenders take turns, and only ratios are told: absolute times are the machine's.

In each round everybody gives one sample, in an order that changes. A contender's ratio is the median of its rounds'
ratios, because the samples of one round had the same noise; the quartiles of these ratios are told too.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import attrs

__all__ = ["Contender", "Figure", "Result", "Sample", "compare", "describe", "summarize"]

Sample = Callable[[], Awaitable[tuple[float, ...]]]
"""One turn; it returns a number for each result of the measure."""

_TURN_SECONDS = 120


@attrs.define(kw_only=True)
class Contender:
    """One that is measured, and what its turns gave.

    Attributes:
        name: the package's name.
        is_peer: whether a program could use it; else it tells what a goal is made of.
        sample: its turn; None if it cannot be measured.
        counts: what its turns count, such as token requests.
        note: why it was not measured, or what to know when reading its figure.
        pairs: for each of its rounds the floor's sample and its own.
        seconds: how long its turns took, all together.
    """

    name: str
    is_peer: bool = True
    sample: Sample | None = None
    counts: dict[str, int] = attrs.field(factory=dict)
    note: str = ""
    pairs: list[tuple[tuple[float, ...], tuple[float, ...]]] = attrs.field(factory=list)
    seconds: float = 0.0

    def count_most(self, what: str, count: int) -> None:
        """Keep the greatest count of all turns."""
        self.counts[what] = max(count, self.counts.get(what, 0))

    def leave(self, note: str) -> None:
        """Take no more turns."""
        self.sample, self.note = None, note


@attrs.frozen(kw_only=True)
class Figure:
    """What one contender did in one measure.

    Attributes:
        name: the package's name.
        is_peer: whether a program could use it.
        median: the median of its samples; None if it could not be measured.
        ratio: how many times the floor, in the median of the rounds.
        spread: the first and third quartile of that.
        rounds: how many rounds it took part in.
        counts: what was counted beside it, such as token requests.
        note: why it was not measured, or what to know when reading it.
    """

    name: str
    is_peer: bool
    median: float | None = None
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    rounds: int = 0
    counts: Mapping[str, int] = attrs.field(factory=dict)
    note: str = ""


@attrs.frozen(kw_only=True)
class Result:
    """One measure's outcome.

    Attributes:
        name: what was measured.
        unit: the unit of the medians.
        goal: what the first contender's ratio should not exceed, if there is a goal.
        floor_name: what the floor does.
        floor: its median, if it was measured.
        contenders: what each of them did; this package is the first.
        points: of a growth, the callers and the seconds for each of them.
    """

    name: str
    unit: str
    goal: float | None
    floor_name: str
    floor: float | None
    contenders: tuple[Figure, ...]
    points: Mapping[str, Sequence[tuple[int, float]]] = attrs.field(factory=dict)

    def as_json(self, measure: str) -> dict[str, Any]:
        """Return it as the file of results has it."""
        found = attrs.asdict(self)
        floor = {"name": found.pop("floor_name"), "median": found.pop("floor")}
        return {"measure": measure, **found, "floor": floor}


async def compare(
    floor: Sample | None, contenders: Sequence[Contender], *, rounds: int, patience_seconds: float = 8
) -> None:
    """Let everybody take turns, and keep the samples with the contenders; a first round is thrown away.

    The first contender takes part in every round, and its error is the measure's. Another one that fails leaves with
    a note, and one that has used up its patience rests from then on. Without *floor* a sample is a pair: a contender's
    own floor, and what it is compared with.
    """
    first = contenders[0]
    for number in range(rounds + 1):
        present = [contender for contender in contenders if contender.sample]
        turns: list[Contender | None] = [*present] if floor is None else [None, *present]
        start = number // 2 % len(turns)
        order = (turns[start:] + turns[:start])[:: -1 if number % 2 else 1]
        least: tuple[float, ...] = ()
        samples: list[tuple[Contender, tuple[float, ...]]] = []
        for turn in order:
            gc.collect(1)
            if turn is None:
                least = await floor() if floor else ()
            elif sample := await _take(turn, is_first=turn is first):
                samples.append((turn, sample))
        for contender, sample in samples:
            contender.pairs.append((least, sample) if floor else (sample[:1], sample[1:]))
            if contender is not first and contender.seconds > patience_seconds:
                contender.sample = None
    for contender in contenders:
        if len(contender.pairs) > 1:
            del contender.pairs[0]


async def _take(contender: Contender, *, is_first: bool) -> tuple[float, ...]:
    """Return a sample, or nothing if the contender cannot give one and leaves."""
    assert contender.sample is not None  # noqa: S101 - it is present
    began_at = time.perf_counter()
    try:
        async with asyncio.timeout(_TURN_SECONDS):
            return await contender.sample()
    except TimeoutError:
        if is_first:
            raise
        contender.leave(f"not done within {_TURN_SECONDS} s")
    except Exception as error:
        if is_first:
            raise
        contender.leave(describe(error))
    finally:
        contender.seconds += time.perf_counter() - began_at
    return ()


def describe(error: BaseException) -> str:
    """Return an error in one line, for a note."""
    words = " ".join(str(error).split())[:160]
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def summarize(  # noqa: PLR0913 - a result's own fields
    contenders: Sequence[Contender],
    *,
    name: str,
    unit: str,
    goal: float | None,
    floor_name: str,
    column: int = 0,
) -> Result:
    """Return what the rounds' samples say in one of their columns."""
    floors = [floor[column] for floor, _ in contenders[0].pairs]
    return Result(
        name=name,
        unit=unit,
        goal=goal,
        floor_name=floor_name,
        floor=statistics.median(floors),
        contenders=tuple(_figure(contender, column) for contender in contenders),
    )


def _figure(contender: Contender, column: int) -> Figure:
    name, is_peer, counts, note = contender.name, contender.is_peer, contender.counts, contender.note
    if not contender.pairs:
        return Figure(name=name, is_peer=is_peer, counts=counts, note=note or "not measured")
    ratios = [sample[column] / floor[column] for floor, sample in contender.pairs]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else (ratios * 3)
    return Figure(
        name=name,
        is_peer=is_peer,
        median=statistics.median(sample[column] for _, sample in contender.pairs),
        ratio=statistics.median(ratios),
        spread=(low, high),
        rounds=len(ratios),
        counts=counts,
        note=note,
    )
