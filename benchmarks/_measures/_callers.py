"""Many callers that wait for one token. Rule: the floor's callers wait for plain futures, on the same loop."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
import tracemalloc
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import attrs

from benchmarks._measure import Contender, compare, describe, summarize
from benchmarks._server import run_server

from ._scale import enter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
    from contextlib import AbstractContextManager

    from benchmarks._measure import Result, Sample
    from benchmarks._peers import Peer
    from benchmarks._server import Server

    from ._scale import Scale

    Call = Callable[[], Coroutine[Any, Any, object]]

__all__ = ["measure_busy", "measure_cancel", "measure_cold", "measure_growth", "measure_memory"]

_LATENCY_SECONDS = 0.05
_WORK_SECONDS = 100e-6
_FUTURE_FLOOR = "tasks that await one future"


class _Busy:
    """Work in every turn of the event loop."""

    def __enter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._work()

    def __exit__(self, *_: object) -> None:
        self._handle.cancel()

    def _work(self) -> None:
        end = time.perf_counter() + _WORK_SECONDS
        while time.perf_counter() < end:
            pass
        self._handle = self._loop.call_soon(self._work)


def _future_after(seconds: float) -> Call:
    """Return a call that waits for one future, which is set so long after the first call: the floor."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    timer: asyncio.TimerHandle | None = None

    async def wait() -> None:
        # As no client can ask before its first caller runs.
        nonlocal timer
        if timer is None:
            timer = loop.call_later(seconds, future.set_result, None)
        await future

    return wait


_NOBODY_WAITS = "synchronous: the loop stands still before its callers can begin to wait"
_LEAST = "the least client"
_LEAST_NOTE = "one bare POST, which begins with the first caller, and one future: what no client can do without"


def _reply_to_one_request(server: Server) -> Call:
    """Return a call that waits for the reply to one token request, which the first call sends."""
    host, _, port = server.root.removeprefix("http://").partition(":")
    replied: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    task: asyncio.Task[None] | None = None

    async def ask() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"POST / HTTP/1.0\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n".encode())
        replied.set_result(await reader.read())
        writer.close()

    async def wait() -> None:
        nonlocal task
        if task is None:
            task = asyncio.create_task(ask())
        await replied

    return wait


async def _time_callers(call: Call, callers: int) -> tuple[float, float, list[BaseException]]:
    """Return the wall time of so many tasks, the 99th percentile of their own waits, and how some failed."""
    waits: list[float] = []

    async def wait() -> None:
        began_at = time.perf_counter()
        await call()
        waits.append(time.perf_counter() - began_at)

    began_at = time.perf_counter()
    outcomes = await asyncio.gather(*[asyncio.create_task(wait()) for _ in range(callers)], return_exceptions=True)
    seconds = time.perf_counter() - began_at
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if not waits:
        raise failures[0]
    waits.sort()
    return seconds, waits[int(0.99 * len(waits))], failures


async def measure_cold(scale: Scale) -> list[Result]:
    """Many tasks that start at once without a token, before an endpoint that takes 50 ms."""
    return await _compare_cold(scale, surroundings=nullcontext, words="cold callers", goals=(1.25, 1.3))


async def measure_busy(scale: Scale) -> list[Result]:
    """The same on a loop that has other work in each of its turns."""
    return await _compare_cold(scale, surroundings=_Busy, words="cold callers on a busy loop", goals=(1.3, 1.3))


async def _compare_cold(
    scale: Scale, *, surroundings: Callable[[], AbstractContextManager[None]], words: str, goals: tuple[float, float]
) -> list[Result]:
    callers = scale(10_000, 100)

    async def wait_for_one_future() -> tuple[float, ...]:
        with surroundings():
            return (await _time_callers(_future_after(_LATENCY_SECONDS), callers))[:2]

    async with run_server(latency_seconds=_LATENCY_SECONDS) as server:

        def make(peer: Peer, contender: Contender) -> Sample:
            async def wait_for_a_token() -> tuple[float, ...]:
                before = await server.count("token_requests")
                async with peer.open(server) as client:
                    with surroundings():
                        seconds, wait, failures = await _time_callers(client.get_token, callers)
                contender.count_most("token requests", await server.count("token_requests") - before)
                contender.count_most("failed callers", len(failures))
                if failures:
                    contender.note = f"callers failed: {describe(failures[0])}"
                return seconds, wait

            return wait_for_a_token

        async def wait_for_one_reply() -> tuple[float, ...]:
            with surroundings():
                return (await _time_callers(_reply_to_one_request(server), callers))[:2]

        contenders = enter(scale, make)
        contenders.append(Contender(name=_LEAST, is_peer=False, note=_LEAST_NOTE, sample=wait_for_one_reply))
        await compare(wait_for_one_future, contenders, rounds=scale(21, 2))
    synchronous = {peer.name for peer in scale.peers if not peer.is_async}
    waiting = [
        attrs.evolve(contender, pairs=[], note=_NOBODY_WAITS) if contender.name in synchronous else contender
        for contender in contenders
    ]
    return [
        summarize(
            those,
            name=f"{callers:,} {words}, {what}",
            unit="s",
            goal=goals[column],
            floor_name=_FUTURE_FLOOR,
            column=column,
        )
        for column, (what, those) in enumerate((("wall time", contenders), ("p99", waiting)))
    ]


async def _wait_for_a_future() -> None:
    await asyncio.get_running_loop().create_future()


@asynccontextmanager
async def _waiting(
    call: Call, count: int, *, begin: Callable[[], None] = lambda: None
) -> AsyncGenerator[list[asyncio.Task[object]]]:
    """Have so many tasks that wait, beside a first one that caused what they wait for; *begin* is called in between."""
    loop = asyncio.get_running_loop()
    asked_at = loop.time()
    first = asyncio.create_task(call())
    await asyncio.sleep(0.2)  # until the token request is on its way
    is_blocked = loop.time() - asked_at > 1
    tasks: list[asyncio.Task[object]] = []
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
    return "" if peer.is_async else "synchronous: nobody can wait beside others"


async def measure_cancel(scale: Scale) -> list[Result]:
    """Cancel many waiters; count how many others fail when the first of ten is cancelled."""
    waiters = scale(10_000, 100)

    async def cancel(call: Call) -> tuple[float, ...]:
        async with _waiting(call, waiters) as tasks:
            gc.collect()
            began_at = time.perf_counter()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            return (time.perf_counter() - began_at,)

    async with (
        run_server(latency_seconds=scale(20, 5)) as patient,
        run_server(latency_seconds=0.4) as server,
    ):

        def make(peer: Peer, contender: Contender) -> Sample:
            async def cancel_waiters() -> tuple[float, ...]:
                if not contender.counts:
                    contender.count_most("others failed by one cancel", await _cancel_one(peer, server))
                async with peer.open(patient) as client:
                    return await cancel(client.get_token)

            return cancel_waiters

        contenders = enter(scale, make, refuse=_refuse_synchronous)
        await compare(lambda: cancel(_wait_for_a_future), contenders, rounds=scale(21, 2))
    name = f"cancel {waiters:,} waiters"
    return [summarize(contenders, name=name, unit="s", goal=1.3, floor_name="tasks that await a future each")]


async def _cancel_one(peer: Peer, server: Server) -> int:
    async with peer.open(server) as client:
        tasks = [asyncio.create_task(client.get_token()) for _ in range(10)]
        await asyncio.sleep(0.2)  # until all of them wait
        tasks[0].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    return sum(isinstance(outcome, BaseException) for outcome in outcomes[1:])


async def measure_memory(scale: Scale) -> list[Result]:
    """The memory of a caller that waits for a token, with its task."""
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

        def make(peer: Peer, _contender: Contender) -> Sample:
            async def weigh_waiters() -> tuple[float, ...]:
                async with peer.open(server) as client:
                    return await weigh(client.get_token)

            return weigh_waiters

        contenders = enter(scale, make, refuse=_refuse_synchronous)
        await compare(lambda: weigh(_wait_for_a_future), contenders, rounds=scale(5, 1))
    name = "memory of a waiting caller"
    return [summarize(contenders, name=name, unit="bytes", goal=1.1, floor_name="a task and a future")]


async def measure_growth(scale: Scale) -> list[Result]:
    """The CPU time of each cold caller, for more and more of them; how far it is from being the same.

    Python's garbage collector looks at living tasks again and again, the more the longer, and the floor's are no
    exception: without it, this package's own growth is seen.
    """
    alone = attrs.evolve(scale, peers=scale.peers[:1])
    return [await _measure_growth(scale), await _measure_growth(alone, words=", no garbage collector", has_gc=False)]


async def _measure_growth(scale: Scale, *, words: str = "", has_gc: bool = True) -> Result:
    sizes = [10**power for power in range(scale(5, 2) + 1)]
    enough_seconds = scale(5, 1)

    async def grow(open_call: Callable[[], Any]) -> tuple[float, ...]:
        """Return the CPU seconds of all callers for each size; nan for those that would take too long."""
        found: list[float] = []
        for size in sizes:
            if found and not found[-1] < enough_seconds:
                found.append(float("nan"))
                continue
            # The fewer, the more often.
            times = []
            for _ in range(min(20, max(1, sizes[-1] // size // 10))):
                async with open_call() as call:
                    gc.collect()
                    with nullcontext() if has_gc else _no_gc():
                        began_at = time.process_time()
                        await asyncio.gather(*[asyncio.create_task(call()) for _ in range(size)])
                        times.append(time.process_time() - began_at)
                if times[-1] > enough_seconds:
                    break
            found.append(statistics.median(times))
        return tuple(found)

    @asynccontextmanager
    async def open_future() -> AsyncGenerator[Call]:
        yield _future_after(0)

    async with run_server() as server:

        def make(peer: Peer, _contender: Contender) -> Sample:
            @asynccontextmanager
            async def open_call() -> AsyncGenerator[Call]:
                async with peer.open(server) as client:
                    yield client.get_token

            return lambda: grow(open_call)

        contenders = enter(scale, make)
        await compare(lambda: grow(open_future), contenders, rounds=scale(5, 1))
    floors = [floor for floor, _ in contenders[0].pairs]
    points = {"floor": _curve(sizes, floors)}
    for contender in contenders:
        samples = [sample for _, sample in contender.pairs]
        points |= {contender.name: _curve(sizes, samples)} if samples else {}
        contender.pairs = [((1.0,), (_unevenness(sizes, sample),)) for sample in samples]
    points = {name: curve for name, curve in points.items() if curve}
    own = statistics.median(_unevenness(sizes, floor) for floor in floors)
    contenders[0].note = f"tasks that await one future: {own:.2f}"
    name = f"growth to {sizes[-1]:,} callers{words}, most to least CPU time for each"
    result = summarize(contenders, name=name, unit="times", goal=1.2, floor_name="linear")
    return attrs.evolve(result, points=points)


@contextmanager
def _no_gc() -> Generator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _curve(sizes: list[int], samples: list[tuple[float, ...]]) -> list[tuple[int, float]]:
    columns = zip(sizes, zip(*samples, strict=True), strict=True)
    medians = ((size, statistics.median(column)) for size, column in columns)
    return [(size, median / size) for size, median in medians if median == median]  # noqa: PLR0124 - nan is not


def _unevenness(sizes: list[int], sample: tuple[float, ...]) -> float:
    """Return how the dearest size's cost per caller compares with the cheapest one's.

    What a single caller costs, which is the token request, is no part of it, nor are sizes that it outweighs.
    """
    alone = sample[0]
    costs = [
        (seconds - alone) / (size - 1)
        for size, seconds in zip(sizes, sample, strict=True)
        if size >= 100 and seconds == seconds  # noqa: PLR0124 - nan is not
    ]
    return max(costs) / min(costs)
