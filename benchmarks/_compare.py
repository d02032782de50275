"""Interleaved rounds. Rule: floor and contenders take turns, and only ratios are reported.

In each round every contender gives one sample, in changing order. A contender's ratio is the median of its rounds'
ratios, because the samples of one round had the same noise. (pyperf measures one benchmark after the other, each in
processes of its own, and does not await coroutines: the noise of a busy machine would become a difference.)
"""

from __future__ import annotations

import asyncio
import cProfile
import gc
import itertools
import math
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import attrs

from ._peers import OURS, Peer
from ._results import Figure, Result

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ._peers import Client
    from ._server import Server

__all__ = ["Contender", "Sample", "Scale", "compare", "enter", "on_one_core", "open_clients", "summarize"]

Sample = Callable[[], Awaitable[tuple[float, ...]]]
"""One turn; returns a number for each result of the measure, or nothing if the contender leaves."""

_TURN_SECONDS = 20


@attrs.frozen
class Scale:
    """The peers, whether figures matter or the run only shows that the measures work, and a profiler of our turns."""

    peers: tuple[Peer, ...] = ()
    is_quick: bool = False
    profiler: cProfile.Profile | None = None

    def __call__(self, full: int, quick: int) -> int:
        """Return *full*, or *quick* for a run without meaningful figures."""
        return quick if self.is_quick else full


@attrs.define(eq=False)
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

    def leave(self, reason: str) -> None:
        """Take no more turns."""
        self.sample, self.note = None, reason

    async def take(self, *, must_succeed: bool) -> tuple[float, ...]:
        """Return a sample; or leave with the reason and return nothing, unless it must succeed."""
        assert self.sample is not None  # noqa: S101 - only those with a sample take turns
        began_at, timer = time.perf_counter(), asyncio.timeout(None if must_succeed else _TURN_SECONDS)
        try:
            async with timer:
                return await self.sample()
        except Exception as error:
            if must_succeed:
                raise
            self.leave(f"not finished within {_TURN_SECONDS} s" if timer.expired() else repr(error)[:160])
            return ()
        finally:
            self.seconds += time.perf_counter() - began_at

    def summarize(self, column: int) -> Figure:
        """Return the figures in one column of the samples."""
        if not self.pairs:
            note = self.note or "not measured"
            return Figure(name=self.name, counts=self.counts, note=note)
        ratios = [sample[column] / floor[column] for floor, sample in self.pairs]
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        return Figure(
            name=self.name,
            median=statistics.median(sample[column] for _, sample in self.pairs),
            ratio=statistics.median(ratios),
            spread=(low, high),
            rounds=len(ratios),
            counts=self.counts,
            note=self.note,
        )


def enter(peers: Iterable[Peer], make: Callable[[Peer, Contender], Sample]) -> list[Contender]:
    """Return a contender for this package and each peer, with a sample by *make*."""
    contenders = []
    for peer in (OURS, *peers):
        contender = Contender(peer.name)
        contender.sample = make(peer, contender)
        contenders.append(contender)
    return contenders


@asynccontextmanager
async def open_clients(
    peers: tuple[Peer, ...], server: Server, timing: Callable[[Client], Sample]
) -> AsyncGenerator[list[Contender]]:
    """Open a client of each peer, get its first token, and count its token requests; *timing* makes its sample."""
    contenders = []
    async with AsyncExitStack() as stack:
        for peer in peers:
            contender = Contender(peer.name)
            contenders.append(contender)
            before = await server.count_tokens()
            try:
                client = await stack.enter_async_context(peer.open(server))
                await client.get_token()
            except Exception as error:
                if peer is peers[0]:
                    raise
                contender.leave(repr(error))
                continue
            contender.counts["token requests"] = await server.count_tokens() - before
            contender.sample = timing(client)
        yield contenders


async def compare(floor: Sample, contenders: Sequence[Contender], scale: Scale, *, seconds: int = 15) -> None:
    """Collect rounds of samples for *seconds* and the turns of peers, at least one; a first round is discarded.

    The first contender takes part in every round, and its error is the measure's. Any other leaves with a note if it
    fails; a peer rests once its turns took a twentieth of the time.
    """
    least, (ours, *others) = Contender("floor", floor), contenders
    seconds, ends_at = scale(seconds, 0), math.inf
    gc.freeze()  # a full collection takes no time for imported packages
    for number in itertools.count():
        turns = [least, *(one for one in contenders if one.sample)]
        start = number // 2 % len(turns)
        samples = {}
        for turn in (turns[start:] + turns[:start])[:: -1 if number % 2 else 1]:
            gc.collect(1)
            with scale.profiler if scale.profiler and turn is ours else nullcontext():
                samples[turn.name] = await turn.take(must_succeed=turn not in others)
        if number == 0:
            ends_at = time.perf_counter() + seconds
            for one in others:
                one.seconds = 0
            continue
        for one in contenders:
            if sample := samples.get(one.name):
                one.pairs.append((samples[least.name], sample))
        for one in others:
            if one.is_peer and one.seconds > seconds / 20:
                one.sample = None
        if time.perf_counter() >= ends_at + sum(one.seconds for one in others if one.is_peer):
            return


def summarize(  # noqa: PLR0913 - the fields of a result
    measure: str,
    contenders: Sequence[Contender],
    *,
    name: str,
    unit: str,
    goal: float,
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
