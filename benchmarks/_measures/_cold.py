"""Many callers that wait for one token. Rule: the floor's callers wait on the same loop, in the same tasks."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import attrs

from benchmarks._compare import Contender, compare, enter, on_one_core, summarize
from benchmarks._peers import SAFE
from benchmarks._server import run_server

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from contextlib import AbstractContextManager

    from benchmarks._compare import Sample, Scale
    from benchmarks._peers import Peer
    from benchmarks._results import Result
    from benchmarks._server import Server

__all__ = ["measure_busy", "measure_cold"]

_LATENCY_SECONDS = 0.05
_WORK_SECONDS = 100e-6
_FEW = 100
_TIMERS = ("wall time", "wall time from the first caller", "p99")


async def measure_cold(scale: Scale) -> list[Result]:
    """Many tasks that start at once without a token, with an endpoint that responds after 50 ms."""
    return await _compare_cold("cold", scale, surroundings=nullcontext, words="cold callers")


async def measure_busy(scale: Scale) -> list[Result]:
    """The same on a loop with other work in each turn, without peers."""
    alone = attrs.evolve(scale, peers=())
    return await _compare_cold("busy", alone, surroundings=_busy, words="cold callers on a busy loop")


async def _compare_cold(
    measure: str, scale: Scale, *, surroundings: Callable[[], AbstractContextManager[None]], words: str
) -> list[Result]:
    callers = scale(10_000, 100)

    async def time_one_future() -> tuple[float, ...]:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_soon(loop.call_later, _LATENCY_SECONDS, future.set_result, None)  # as the first caller starts

        async def wait() -> None:
            await future

        with surroundings():
            return (await _time_callers(wait, callers))[0]

    async def time_peer(peer: Peer, server: Server, contender: Contender) -> tuple[float, ...]:
        before = await server.count_tokens()
        async with peer.open(server) as client:
            with surroundings():
                times, failures = await _time_callers(client.get_token, callers)
        contender.count_most("token requests", await server.count_tokens() - before)
        contender.count_most("failed callers", len(failures))
        if failures:
            contender.note = f"callers failed: {failures[0]!r}"[:160]
        return times

    async with run_server(latency_seconds=_LATENCY_SECONDS) as server:

        def make(peer: Peer, contender: Contender) -> Sample:
            async def sample() -> tuple[float, ...]:
                if not contender.counts:
                    requests, failures = await _cancel_one(peer, server)
                    contender.counts["failed by one cancel"] = failures
                    if requests > _FEW / 10:
                        contender.leave(f"sits out: {requests} token requests for {_FEW} callers")
                        return ()
                return await time_peer(peer, server, contender)

            return sample

        contenders = enter(scale.peers, make)
        contenders.append(Contender("one future", time_one_future, is_peer=False))
        with on_one_core():
            await compare(lambda: time_peer(SAFE, server, Contender(SAFE.name)), contenders, scale)
    blocking = {peer.name for peer in scale.peers if not peer.is_async}
    waiting = [contender for contender in contenders if contender.name not in blocking]
    return [
        summarize(
            measure,
            waiting if timer == "p99" else contenders,  # with a blocked event loop no caller waits
            name=f"{callers:,} {words}, {timer}",
            unit="s",
            goal=1.05,
            floor_name=SAFE.name,
            column=column,
        )
        for column, timer in enumerate(_TIMERS)
    ]


@contextmanager
def _busy() -> Iterator[None]:
    """Add 100 µs of work to each turn of the event loop."""
    loop = asyncio.get_running_loop()
    handle: asyncio.Handle | None = None

    def work() -> None:
        nonlocal handle
        end = time.perf_counter() + _WORK_SECONDS
        while time.perf_counter() < end:
            pass
        handle = loop.call_soon(work)

    handle = loop.call_soon(work)
    try:
        yield
    finally:
        handle.cancel()


async def _time_callers(
    call: Callable[[], Coroutine[Any, Any, object]], callers: int
) -> tuple[tuple[float, float, float], list[BaseException]]:
    """Return times by each of `_TIMERS`, and the errors of callers."""
    starts: list[float] = []
    waits: list[float] = []

    async def wait() -> None:
        began_at = time.perf_counter()
        starts.append(began_at)
        await call()
        waits.append(time.perf_counter() - began_at)

    began_at = time.perf_counter()
    outcomes = await asyncio.gather(*[asyncio.create_task(wait()) for _ in range(callers)], return_exceptions=True)
    ended_at = time.perf_counter()
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if not waits:
        raise failures[0]
    return (ended_at - began_at, ended_at - starts[0], sorted(waits)[int(0.99 * len(waits))]), failures


async def _cancel_one(peer: Peer, server: Server) -> tuple[int, int]:
    """Cancel the first of some callers; return the token requests, and how many other callers failed."""
    before = await server.count_tokens()
    async with peer.open(server) as client:
        first, *others = [asyncio.create_task(client.get_token()) for _ in range(_FEW)]
        await asyncio.sleep(_LATENCY_SECONDS / 2)
        first.cancel()
        _, *outcomes = await asyncio.gather(first, *others, return_exceptions=True)
    failures = sum(isinstance(outcome, BaseException) for outcome in outcomes)
    return await server.count_tokens() - before, failures
