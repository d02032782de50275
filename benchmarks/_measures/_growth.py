"""Costs at growing sizes. Rule: a size is compared with another size of the same client."""

from __future__ import annotations

import asyncio
import gc
import math
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from benchmarks._compare import Contender, compare, on_one_core, summarize
from benchmarks._peers import OURS, SAFE
from benchmarks._server import CLIENT_SECRET, run_server
from simplestore_async import ClientCredentials, FileTokenCache, MemoryTokenCache, TokenProvider

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from benchmarks._compare import Scale
    from benchmarks._results import Result
    from benchmarks._server import Server

    Call = Callable[[], Coroutine[Any, Any, object]]

__all__ = ["measure_growth", "measure_pause", "measure_providers"]

_LEAST_CALLERS = 100
"""With fewer callers, the noise of the token request outweighs theirs."""


async def measure_growth(scale: Scale) -> list[Result]:
    """The CPU time of each cold caller by their number.

    The garbage collector visits living tasks again and again, the more of them the longer, the floor's as well.
    """
    sizes = [10**power for power in range(scale(5, 2) + 1)]
    async with run_server() as server:

        async def time_ours(size: int) -> float:
            async with OURS.open(server) as client:
                return await _time_callers(client.get_token, size)

        async def time_without_gc(size: int) -> float:
            gc.disable()
            try:
                return await time_ours(size)
            finally:
                gc.enable()

        async def time_future(size: int) -> float:
            loop = asyncio.get_running_loop()
            future = loop.create_future()
            loop.call_soon(loop.call_soon, future.set_result, None)  # once all of them wait
            return await _time_callers(partial(_wait_for, future), size)

        async def without_request(time_callers: Callable[[int], Awaitable[float]], size: int) -> float:
            return await time_callers(1) if size == 1 else await time_callers(size) - await time_callers(1)

        measured = {OURS.name: time_ours, "without gc": time_without_gc, "one future": time_future}
        contenders = [
            _grower(name, sizes, partial(without_request, time_callers), least=_LEAST_CALLERS)
            for name, time_callers in measured.items()
        ]
        name = f"growth to {sizes[-1]:,} callers, highest to lowest CPU time per caller"
        return [await _compare_growth(scale, "growth", sizes, contenders, name=name)]


async def _time_callers(call: Call, callers: int) -> float:
    """Return the CPU seconds of all callers."""
    gc.collect()
    began_at = time.process_time()
    await asyncio.gather(*[asyncio.create_task(call()) for _ in range(callers)])
    return time.process_time() - began_at


async def measure_providers(scale: Scale) -> list[Result]:
    """The CPU time of each provider's first token from one warm cache, by the number of providers."""
    sizes = [10**power for power in range(scale(4, 2) + 1)]
    results = []
    async with run_server() as server:
        async with TokenProvider(server.credentials) as provider:
            token = await provider.get_token()
        tenants = [
            ClientCredentials(client_id=f"tenant-{number}", client_secret=CLIENT_SECRET, token_url=server.token_url)
            for number in range(sizes[-1])
        ]

        async def time_providers(cache: Any, size: int) -> float:
            async with AsyncExitStack() as stack:
                began_at = time.process_time()
                for tenant in tenants[:size]:
                    provider = await stack.enter_async_context(TokenProvider(tenant, cache=cache))
                    await provider.get_token()
                return time.process_time() - began_at

        with tempfile.TemporaryDirectory() as directory:
            caches: dict[str, Any] = {"memory": MemoryTokenCache(), "file": FileTokenCache(directory)}
            for words, cache in caches.items():
                for tenant in tenants:
                    await cache.set(tenant.cache_key, token)
                before = await server.count_tokens()
                ours = _grower(OURS.name, sizes, partial(time_providers, cache))
                name = f"1 to {sizes[-1]:,} providers, one {words} cache, highest to lowest CPU time per provider"
                results.append(await _compare_growth(scale, "providers", sizes, [ours], name=name))
                results[-1].ours.counts["token requests"] = await server.count_tokens() - before
    return results


def _grower(
    name: str, sizes: Sequence[int], time_all: Callable[[int], Awaitable[float]], *, least: int = 1
) -> Contender:
    """Return a contender that samples the ratio of the highest to the lowest cost from *least* on, and each cost."""

    async def sample() -> tuple[float, ...]:
        costs = [
            statistics.median([await time_all(size) / size for _ in range(max(1, min(20, 2000 // size)))])
            for size in sizes
        ]
        counted = costs[sizes.index(least) :]
        return max(counted) / min(counted), *costs

    return Contender(name, sample, is_peer=False)


async def _compare_growth(
    scale: Scale, measure: str, sizes: Sequence[int], contenders: Sequence[Contender], *, name: str
) -> Result:
    async def even() -> tuple[float, ...]:
        return (1.0,)

    with on_one_core():
        await compare(even, contenders, scale)
    result = summarize(measure, contenders, name=name, unit="times", goal=1.2, floor_name="the same at all sizes")
    points = {
        one.name: [
            (float(size), statistics.median(sample[column] for _, sample in one.pairs))
            for column, size in enumerate(sizes, start=1)
        ]
        for one in contenders
    }
    return attrs.evolve(result, points=points)


async def measure_pause(scale: Scale) -> list[Result]:
    """The longest pause of the event loop while a renewal settles with many waiters."""
    waiters = scale(100_000, 100)

    async def pause(call: Call, release: Callable[[], Coroutine[Any, Any, None]]) -> tuple[float, ...]:
        tasks = [asyncio.create_task(call()) for _ in range(waiters)]
        await asyncio.sleep(0)  # all of them wait
        gc.collect()
        releasing = asyncio.create_task(release())
        longest, previous = 0.0, time.perf_counter()
        while not all(task.done() for task in tasks[:: waiters - 1]):
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, previous = max(longest, now - previous), now
        await asyncio.gather(releasing, *tasks)
        return (longest,)

    async def settle_future() -> tuple[float, ...]:
        future = asyncio.get_running_loop().create_future()

        async def release() -> None:
            future.set_result(None)

        return await pause(partial(_wait_for, future), release)

    async with run_server(latency_seconds=math.inf) as server:

        async def renew(open_client: Callable[[Server], Any]) -> tuple[float, ...]:
            async with open_client(server) as client:
                return await pause(client.get_token, server.release)

        contenders = [
            Contender(OURS.name, lambda: renew(OURS.open)),
            Contender(SAFE.name, lambda: renew(SAFE.open), is_peer=False),
        ]
        with on_one_core():
            await compare(settle_future, contenders, scale)
    name = f"a renewal with {waiters:,} waiters, the longest pause of the event loop"
    return [summarize("pause", contenders, name=name, unit="s", goal=1.5, floor_name="tasks that await one future")]


async def _wait_for(future: asyncio.Future[None]) -> None:
    await future
