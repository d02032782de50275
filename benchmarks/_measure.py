"""Interleaved measuring. Rule: floor and contenders take turns, and only ratios are reported.

In each round every contender gives one sample, in changing order. A contender's ratio is the median of its rounds'
ratios, because the samples of one round had the same noise. (pyperf measures one benchmark after the other, each in
processes of its own, and does not await coroutines: the noise of a busy machine would become a difference.)
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs

from ._results import Figure, Result

__all__ = ["Contender", "Sample", "compare", "describe", "on_one_core", "summarize"]

Sample = Callable[[], Awaitable[tuple[float, ...]]]
"""One turn; returns a number for each result of the measure."""

_TURN_SECONDS = 45


@attrs.define
class Contender:
    """A client or yardstick with its samples; *pairs* has the floor's and its own sample of each round."""

    name: str
    sample: Sample | None = None
    note: str = ""
    is_peer: bool = attrs.field(default=True, kw_only=True)
    counts: dict[str, int] = attrs.field(factory=dict, kw_only=True)
    pairs: list[tuple[tuple[float, ...], tuple[float, ...]]] = attrs.field(factory=list, kw_only=True)
    seconds: float = attrs.field(default=0.0, kw_only=True)

    def count_most(self, what: str, count: int) -> None:
        """Keep the greatest count of all turns."""
        self.counts[what] = max(count, self.counts.get(what, 0))

    def summarize(self, column: int) -> Figure:
        """Return the figures in one column of the samples."""
        facts: dict[str, Any] = {"name": self.name, "is_peer": self.is_peer, "counts": self.counts}
        if not self.pairs:
            return Figure(**facts, note=self.note or "not measured")
        ratios = [sample[column] / floor[column] for floor, sample in self.pairs]
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        return Figure(
            **facts,
            median=statistics.median(sample[column] for _, sample in self.pairs),
            ratio=statistics.median(ratios),
            spread=(low, high),
            rounds=len(ratios),
            note=self.note,
        )


async def compare(floor: Sample, contenders: Sequence[Contender], *, rounds: int, patience_seconds: float = 5) -> None:
    """Collect *rounds* of samples; a first round is discarded.

    The first contender takes part in every round, and its error is the measure's. Any other leaves with a note if it
    fails, and rests once its turns took *patience_seconds*.
    """
    first = contenders[0]
    for number in range(rounds + 1):
        turns: list[Contender | None] = [None, *(one for one in contenders if one.sample)]
        start = number // 2 % len(turns)
        least: tuple[float, ...] = ()
        samples: list[tuple[Contender, tuple[float, ...]]] = []
        for turn in (turns[start:] + turns[:start])[:: -1 if number % 2 else 1]:
            gc.collect(1)
            if turn is None:
                least = await floor()
            elif sample := await _take(turn, is_first=turn is first):
                samples.append((turn, sample))
        for contender, sample in samples:
            contender.pairs.append((least, sample))
            if contender is not first and contender.seconds > patience_seconds:
                contender.sample = None
    for contender in contenders:
        if len(contender.pairs) > 1:
            del contender.pairs[0]


async def _take(contender: Contender, *, is_first: bool) -> tuple[float, ...]:
    """Return a sample, or nothing if the contender fails and leaves."""
    assert contender.sample is not None  # noqa: S101 - only those with a sample take turns
    began_at = time.perf_counter()
    try:
        async with asyncio.timeout(_TURN_SECONDS):
            return await contender.sample()
    except Exception as error:
        if is_first:
            raise
        is_late = isinstance(error, TimeoutError) and time.perf_counter() - began_at > _TURN_SECONDS
        contender.sample = None
        contender.note = f"not finished within {_TURN_SECONDS} s" if is_late else describe(error)
        return ()
    finally:
        contender.seconds += time.perf_counter() - began_at


def describe(error: BaseException) -> str:
    """Return an error as one line, for a note."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}".removesuffix(": ")


def summarize(  # noqa: PLR0913 - the fields of a result
    measure: str,
    contenders: Sequence[Contender],
    *,
    name: str,
    unit: str,
    goal: float | None,
    floor_name: str,
    column: int = 0,
) -> Result:
    """Return the result in one column of the samples."""
    floor = statistics.median(floor[column] for floor, _ in contenders[0].pairs)
    figures = [contender.summarize(column) for contender in contenders]
    return Result(
        measure=measure, name=name, unit=unit, goal=goal, floor_name=floor_name, floor=floor, contenders=figures
    )


@contextmanager
def on_one_core() -> Iterator[None]:
    """Keep this thread on one core, where the system permits it; processes started earlier keep theirs."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
