"""Many callers that wait for one token. Rule: the floor's callers wait on the same loop, in the same tasks."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from benchmarks._measure import Contender, compare, describe, on_one_core, summarize
from benchmarks._peers import SAFE
from benchmarks._server import run_server

from ._scale import enter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
    from contextlib import AbstractContextManager

    from benchmarks._measure import Sample
    from benchmarks._peers import Peer
    from benchmarks._results import Result
    from benchmarks._server import Server

    from ._scale import Scale

    Call = Callable[[], Coroutine[Any, Any, object]]

__all__ = ["measure_busy", "measure_cancel", "measure_cold", "measure_memory", "wait_for_one_future"]

_LATENCY_SECONDS = 0.05
_WORK_SECONDS = 100e-6
_TIMERS = ("wall time", "wall time from the first caller", "p99")
_SAFE_NOTE = (
    "a hand-written single flight by aiohttp with a future for each waiter, without retries, caches or redaction"
)
_FUTURE = "one future"
_FUTURE_NOTE = "tasks that await one future, set as late as the endpoint responds: no client is as cheap"


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
        if handle is not None:
            handle.cancel()


def wait_for_one_future(seconds: float) -> Call:
    """Return a call that awaits one future, set *seconds* after the first call."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    timer: asyncio.TimerHandle | None = None

    async def wait() -> None:
        nonlocal timer
        if timer is None:
            timer = loop.call_later(seconds, future.set_result, None)
        await future

    return wait


async def _time_callers(call: Call, callers: int) -> tuple[tuple[float, float, float], list[BaseException]]:
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


async def measure_cold(scale: Scale) -> list[Result]:
    """Many tasks that start at once without a token, with an endpoint that responds after 50 ms."""
    return await _compare_cold("cold", scale, surroundings=nullcontext, words="cold callers")


async def measure_busy(scale: Scale) -> list[Result]:
    """The same on a loop with other work in each turn."""
    return await _compare_cold("busy", scale, surroundings=_busy, words="cold callers on a busy loop")


async def _compare_cold(
    measure: str, scale: Scale, *, surroundings: Callable[[], AbstractContextManager[None]], words: str
) -> list[Result]:
    callers = scale(10_000, 100)

    async def time_one_future() -> tuple[float, ...]:
        with surroundings():
            return (await _time_callers(wait_for_one_future(_LATENCY_SECONDS), callers))[0]

    async def time_peer(peer: Peer, server: Server, contender: Contender) -> tuple[float, ...]:
        before = await server.count("token_requests")
        async with peer.open(server) as client:
            with surroundings():
                times, failures = await _time_callers(client.get_token, callers)
        contender.count_most("token requests", await server.count("token_requests") - before)
        contender.count_most("failed callers", len(failures))
        if failures:
            contender.note = f"callers failed: {describe(failures[0])}"
        return times

    safe = Contender(SAFE.name)
    async with run_server(latency_seconds=_LATENCY_SECONDS) as server:
        contenders = enter(scale, lambda peer, contender: lambda: time_peer(peer, server, contender))
        contenders.append(Contender(_FUTURE, time_one_future, _FUTURE_NOTE, is_peer=False))
        with on_one_core():
            await compare(lambda: time_peer(SAFE, server, safe), contenders, rounds=scale(31, 2))
    blocking = {peer.name for peer in scale.peers if not peer.is_async}
    waiting = [contender for contender in contenders if contender.name not in blocking]
    return [
        summarize(
            measure,
            waiting if timer == "p99" else contenders,  # with a blocked event loop no caller waits
            name=f"{callers:,} {words}, {timer}",
            unit="s",
            goal=1.05,
            floor_name=f"{SAFE.name}: {_SAFE_NOTE}",
            column=column,
        )
        for column, timer in enumerate(_TIMERS)
    ]


async def _wait_for_a_future() -> None:
    await asyncio.get_running_loop().create_future()


@asynccontextmanager
async def _waiting(
    call: Call, count: int, *, begin: Callable[[], None] = lambda: None
) -> AsyncGenerator[list[asyncio.Task[object]]]:
    """Start a caller, then *begin*, then *count* waiters; cancel all at the end."""
    loop = asyncio.get_running_loop()
    asked_at = loop.time()
    tasks: list[asyncio.Task[object]] = []
    first = asyncio.create_task(call())
    await asyncio.sleep(0.2)  # until the token request is in flight
    is_blocked = loop.time() - asked_at > 1
    try:
        begin()
        if not (first.done() or is_blocked):
            tasks = [asyncio.create_task(call()) for _ in range(count)]
            await asyncio.sleep(0.1)  # until all of them wait
        if is_blocked or any(task.done() for task in (first, *tasks)):
            raise RuntimeError("its callers do not wait: it blocks the event loop, or gives up")
        yield tasks
    finally:
        for task in (first, *tasks):
            task.cancel()
        await asyncio.gather(first, *tasks, return_exceptions=True)


def _refuse_synchronous(peer: Peer) -> str:
    return "" if peer.is_async else "synchronous: its callers block the event loop"


async def measure_cancel(scale: Scale) -> list[Result]:
    """Cancel many waiters; count the others that fail when the first of ten is cancelled."""
    waiters = scale(10_000, 100)

    async def cancel(call: Call) -> tuple[float, ...]:
        async with _waiting(call, waiters) as tasks:
            gc.collect()
            began_at = time.perf_counter()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            return (time.perf_counter() - began_at,)

    async with run_server(latency_seconds=scale(20, 5)) as patient, run_server(latency_seconds=0.4) as server:

        def make(peer: Peer, contender: Contender) -> Sample:
            async def cancel_waiters() -> tuple[float, ...]:
                if not contender.counts:
                    contender.count_most("others failed by one cancel", await _cancel_one(peer, server))
                async with peer.open(patient) as client:
                    return await cancel(client.get_token)

            return cancel_waiters

        contenders = enter(scale, make, refuse=_refuse_synchronous)
        safe = Contender(SAFE.name, note=_SAFE_NOTE, is_peer=False)
        safe.sample = make(SAFE, safe)
        await compare(lambda: cancel(_wait_for_a_future), [*contenders, safe], rounds=scale(21, 2))
    name = f"cancel {waiters:,} waiters"
    floor_name = "tasks that await a future each"
    return [summarize("cancel", [*contenders, safe], name=name, unit="s", goal=1.3, floor_name=floor_name)]


async def _cancel_one(peer: Peer, server: Server) -> int:
    async with peer.open(server) as client:
        tasks = [asyncio.create_task(client.get_token()) for _ in range(10)]
        await asyncio.sleep(0.2)  # until all of them wait
        tasks[0].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    return sum(isinstance(outcome, BaseException) for outcome in outcomes[1:])


async def measure_memory(scale: Scale) -> list[Result]:
    """The memory of a waiting caller, with its task."""
    waiters = scale(10_000, 100)

    async def weigh(call: Call) -> tuple[float, ...]:
        before = 0

        def begin() -> None:
            nonlocal before
            gc.collect()
            tracemalloc.start()
            before, _ = tracemalloc.get_traced_memory()

        try:
            async with _waiting(call, waiters, begin=begin):
                after, _ = tracemalloc.get_traced_memory()
                tracemalloc.stop()
                return ((after - before) / waiters,)
        finally:
            tracemalloc.stop()

    async with run_server(latency_seconds=scale(60, 5)) as server:

        async def weigh_waiters(peer: Peer) -> tuple[float, ...]:
            async with peer.open(server) as client:
                return await weigh(client.get_token)

        contenders = enter(scale, lambda peer, _: lambda: weigh_waiters(peer), refuse=_refuse_synchronous)
        await compare(lambda: weigh(_wait_for_a_future), contenders, rounds=scale(5, 1))
    name, floor_name = "memory of a waiting caller", "a task and a future"
    return [summarize("memory", contenders, name=name, unit="bytes", goal=1.1, floor_name=floor_name)]
