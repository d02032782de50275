"""Costs at growing sizes. Rule: a size is compared with another size of the same client."""

from __future__ import annotations

import asyncio
import gc
import math
import statistics
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import attrs

from benchmarks._measure import Contender, compare, on_one_core, summarize
from benchmarks._peers import OURS, SAFE
from benchmarks._server import run_server
from simplestore_async import ClientCredentials, FileTokenCache, MemoryTokenCache, TokenProvider

from ._scale import enter
from ._waiting import wait_for_one_future

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    from benchmarks._measure import Sample
    from benchmarks._peers import Peer
    from benchmarks._results import Result

    from ._scale import Scale
    from ._waiting import Call

__all__ = ["measure_growth", "measure_pause", "measure_providers"]

_ENOUGH_SECONDS = 5
_LEAST_PROVIDERS = 200
_PAUSE_SECONDS = 4.0


async def measure_growth(scale: Scale) -> list[Result]:
    """The CPU time of each cold caller by their number, with and without Python's garbage collector.

    The collector visits living tasks again and again, the more of them the longer, the floor's as well.
    """
    alone = attrs.evolve(scale, peers=())
    return [await _measure_growth(scale), await _measure_growth(alone, words=", no garbage collector", has_gc=False)]


async def _measure_growth(scale: Scale, *, words: str = "", has_gc: bool = True) -> Result:
    sizes = [10**power for power in range(scale(5, 2) + 1)]

    async def grow(open_call: Callable[[], Any]) -> tuple[float, ...]:
        """Return the CPU seconds of all callers for each size; nan for sizes that would take too long."""
        found: list[float] = []
        for size in sizes:
            if found and not found[-1] < _ENOUGH_SECONDS:
                found.append(math.nan)
                continue
            times: list[float] = []
            while len(times) < min(20, max(1, sizes[-1] // size // 10)) and sum(times) < _ENOUGH_SECONDS:
                async with open_call() as call:
                    gc.collect()
                    with nullcontext() if has_gc else _no_gc():
                        began_at = time.process_time()
                        await asyncio.gather(*[asyncio.create_task(call()) for _ in range(size)])
                        times.append(time.process_time() - began_at)
            found.append(statistics.median(times))
        return tuple(found)

    @asynccontextmanager
    async def open_future() -> AsyncGenerator[Call]:
        yield wait_for_one_future(0)

    async with run_server() as server:

        def make(peer: Peer, _: Contender) -> Sample:
            @asynccontextmanager
            async def open_call() -> AsyncGenerator[Call]:
                async with peer.open(server) as client:
                    yield client.get_token

            return lambda: grow(open_call)

        contenders = enter(scale, make)
        with on_one_core():
            await compare(lambda: grow(open_future), contenders, rounds=scale(5, 1))
    floor = Contender("floor", pairs=[((), sample) for sample, _ in contenders[0].pairs])
    points = {one.name: _curve(sizes, one) for one in (floor, *contenders) if one.pairs}
    own = statistics.median(_unevenness(sizes, sample) for _, sample in floor.pairs)
    for contender in contenders:
        contender.pairs = [((1.0,), (_unevenness(sizes, sample),)) for _, sample in contender.pairs]
    contenders[0].note = f"tasks that await one future: {own:.2f}"
    name = f"growth to {sizes[-1]:,} callers{words}, highest to lowest CPU time per caller"
    result = summarize("growth", contenders, name=name, unit="times", goal=1.2, floor_name="the same at all sizes")
    return replace(result, points=points)


@contextmanager
def _no_gc() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _curve(sizes: Sequence[int], contender: Contender) -> list[tuple[float, float]]:
    columns = zip(*(sample for _, sample in contender.pairs), strict=True)
    medians = zip(sizes, map(statistics.median, columns), strict=True)
    return [(size, median / size) for size, median in medians if not math.isnan(median)]


def _unevenness(sizes: Sequence[int], sample: Sequence[float]) -> float:
    """Return the ratio of the highest to the lowest cost per caller.

    The cost of a single caller, which is the token request, is subtracted; sizes below 100 are left out, because the
    noise of that request outweighs their callers.
    """
    costs = [
        (seconds - sample[0]) / (size - 1)
        for size, seconds in zip(sizes, sample, strict=True)
        if size >= 100 and not math.isnan(seconds)
    ]
    return max(costs) / min(costs)


async def measure_providers(scale: Scale) -> list[Result]:
    """The CPU time of each provider's first token from one warm cache, by the number of providers."""
    sizes = [10**power for power in range(scale(4, 2) + 1)]
    results = []
    async with run_server() as server:
        async with TokenProvider(server.credentials) as provider:
            token = await provider.get_token()
        tenants = [
            ClientCredentials(client_id=f"tenant-{number}", client_secret="secret", token_url=server.token_url)  # noqa: S106
            for number in range(sizes[-1])
        ]
        with tempfile.TemporaryDirectory() as directory:
            caches: dict[str, Any] = {"memory": MemoryTokenCache(), "file": FileTokenCache(directory)}
            for words, cache in caches.items():
                for tenant in tenants:
                    await cache.set(tenant.cache_key, token)

                async def open_providers(size: int, cache: Any = cache) -> float:
                    async with AsyncExitStack() as stack:
                        began_at = time.process_time()
                        for tenant in tenants[:size]:
                            provider = await stack.enter_async_context(TokenProvider(tenant, cache=cache))
                            await provider.get_token()
                        return time.process_time() - began_at

                async def grow(open_providers: Any = open_providers) -> tuple[float, ...]:
                    costs = []
                    for size in sizes:
                        times = [await open_providers(size) / size for _ in range(max(1, _LEAST_PROVIDERS // size))]
                        costs.append(statistics.median(times))
                    return (max(costs) / min(costs), *(cost * size for cost, size in zip(costs, sizes, strict=True)))

                async def even() -> tuple[float, ...]:
                    return (1.0,) * (1 + len(sizes))

                ours = Contender(OURS.name, grow)
                await compare(even, [ours], rounds=scale(5, 1))
                name = f"1 to {sizes[-1]:,} providers, one {words} cache, highest to lowest CPU time per provider"
                result = summarize(
                    "providers", [ours], name=name, unit="times", goal=1.2, floor_name="the same at all sizes"
                )
                ours.pairs = [((), sample[1:]) for _, sample in ours.pairs]
                results.append(replace(result, points={ours.name: _curve(sizes, ours)}))
        requests = await server.count("token_requests") - 1
        results[0].ours.counts["token requests"] = requests  # type: ignore[index] # a dict
    return results


async def measure_pause(scale: Scale) -> list[Result]:
    """The longest pause of the event loop while a renewal settles with many waiters."""
    waiters = scale(100_000, 100)
    latency = _PAUSE_SECONDS if waiters > 1000 else 1.0

    async def pause(call: Call) -> tuple[float, ...]:
        tasks = [asyncio.create_task(call()) for _ in range(waiters)]
        await asyncio.sleep(latency / 2)  # until all of them wait
        if any(task.done() for task in tasks):
            raise RuntimeError("the renewal ended before all callers waited")
        gc.collect()
        longest, previous = 0.0, time.perf_counter()
        while not all(task.done() for task in tasks[:: waiters - 1]):
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, previous = max(longest, now - previous), now
        await asyncio.gather(*tasks)
        return (longest,)

    async with run_server(latency_seconds=latency) as server:

        async def renew(peer: Peer) -> tuple[float, ...]:
            async with peer.open(server) as client:
                return await pause(client.get_token)

        contenders = [
            Contender(OURS.name, lambda: renew(OURS)),
            Contender(SAFE.name, lambda: renew(SAFE), is_peer=False),
        ]
        with on_one_core():
            await compare(
                lambda: pause(wait_for_one_future(latency)), contenders, rounds=scale(11, 1), patience_seconds=600
            )
    name = f"a renewal with {waiters:,} waiters, the longest pause of the event loop"
    floor_name = "tasks that await one future"
    return [summarize("pause", contenders, name=name, unit="s", goal=1.5, floor_name=floor_name)]
