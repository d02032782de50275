"""What is measured. Rule: a floor is the least that any client would have to do, written down as plainly as can be."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import tempfile
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from simplestore_async import BearerAuthMiddleware, TokenProvider

from ._measure import Result, compare, summarize
from ._server import run_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

__all__ = ["MEASURES", "Scale"]


class Scale:
    """How much is done: everything for figures that are told, little to see that it works."""

    def __init__(self, *, is_quick: bool) -> None:
        self._is_quick = is_quick

    def __call__(self, full: int, quick: int) -> int:
        """Return *full*, or *quick* if that is enough."""
        return quick if self._is_quick else full


class _LeastProvider:
    """The floor of a cached `get_token()`: one clock, one comparison, one attribute."""

    def __init__(self) -> None:
        self._now = time.monotonic
        self._due_at = time.monotonic() + 3600
        self._token = object()

    async def get_token(self) -> object:
        if self._now() < self._due_at:
            return self._token
        raise AssertionError


async def measure_cached(scale: Scale) -> Result:
    """`await get_token()` while the token is fresh."""
    calls = scale(20_000, 100)

    async def time_calls(get_token: Callable[[], Awaitable[object]]) -> float:
        began_at = time.perf_counter()
        for _ in range(calls):
            await get_token()
        return (time.perf_counter() - began_at) / calls * 1e9

    least = _LeastProvider()
    async with run_server() as server, TokenProvider(server.credentials) as provider:
        await provider.get_token()
        pairs = await compare(
            lambda: time_calls(least.get_token), lambda: time_calls(provider.get_token), rounds=scale(101, 2)
        )
        counts = {"token requests": await server.count("token_requests")}
    return summarize(pairs, name="cached get_token()", unit="ns", goal=1.5, counts=counts)


async def _time_tasks(call: Callable[[], Coroutine[Any, Any, object]], count: int) -> float:
    began_at = time.perf_counter()
    await asyncio.gather(*[asyncio.create_task(call()) for _ in range(count)])
    return time.perf_counter() - began_at


async def measure_cold(scale: Scale) -> Result:
    """Many tasks that start at once without a token, before an endpoint that takes 50 ms."""
    callers, latency_seconds, rounds = scale(10_000, 100), 0.05, scale(21, 2)

    async def wait_for_one_future() -> float:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        timer: asyncio.TimerHandle | None = None

        async def wait() -> None:
            # As no client can ask before its first caller runs.
            nonlocal timer
            if timer is None:
                timer = loop.call_later(latency_seconds, future.set_result, None)
            await future

        return await _time_tasks(wait, callers)

    async with run_server(latency_seconds=latency_seconds) as server:

        async def wait_for_a_token() -> float:
            async with TokenProvider(server.credentials) as provider:
                return await _time_tasks(provider.get_token, callers)

        pairs = await compare(wait_for_one_future, wait_for_a_token, rounds=rounds)
        counts = {"providers": rounds + 1, "token requests": await server.count("token_requests")}
    return summarize(pairs, name=f"{callers} cold callers, wall time", unit="s", goal=1.6, counts=counts)


async def measure_middleware(scale: Scale) -> Result:
    """The CPU time of an API request, against one whose session has a static Authorization header."""
    requests = scale(20, 5)

    async def time_requests(session: aiohttp.ClientSession, url: str) -> float:
        began_at = time.process_time()
        for _ in range(requests):
            async with session.get(url) as response:
                await response.read()
        return (time.process_time() - began_at) / requests * 1e6

    async with run_server() as server, TokenProvider(server.credentials) as provider:
        token = await provider.get_token()
        bearer = BearerAuthMiddleware(provider, origins=URL(server.base_url).origin())
        async with (
            aiohttp.ClientSession(headers={"Authorization": str(token.authorization)}) as plain,
            aiohttp.ClientSession(middlewares=[bearer]) as authorised,
        ):
            pairs = await compare(
                lambda: time_requests(plain, server.base_url),
                lambda: time_requests(authorised, server.base_url),
                rounds=scale(1001, 2),
            )
        counts = {"answered 401": await server.count("unauthorized")}
    return summarize(pairs, name="API request, CPU time", unit="µs", goal=1.03, counts=counts)


async def measure_import(scale: Scale) -> Result:
    """The CPU time of a process that imports `open_session`, against one that imports aiohttp."""
    with tempfile.TemporaryDirectory() as folder:
        # Compiled once, as after an installation; not in a checkout, whose sources would count for more.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"PYTHONPYCACHEPREFIX": folder}

        async def time_import(statement: str) -> float:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", statement, env=environment)
            if await process.wait():
                raise RuntimeError(f"{statement} failed")
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3

        pairs = await compare(
            lambda: time_import("import aiohttp"),
            lambda: time_import("from simplestore_async import open_session"),
            rounds=scale(41, 1),
        )
    return summarize(pairs, name="from simplestore_async import open_session", unit="ms", goal=1.05)


async def measure_memory(scale: Scale) -> Result:
    """The memory of a caller that waits for a token, against a task that waits for a future of its own."""
    callers = scale(10_000, 100)

    async def weigh(call: Callable[[], Coroutine[Any, Any, object]]) -> float:
        gc.collect()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        tasks = [asyncio.create_task(call()) for _ in range(callers)]
        await asyncio.sleep(0)
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return (after - before) / callers

    async def wait_for_a_future() -> None:
        await asyncio.get_running_loop().create_future()

    async with run_server(latency_seconds=600) as server, TokenProvider(server.credentials) as provider:
        first = asyncio.create_task(provider.get_token())
        await asyncio.sleep(0.5)  # until the renewal waits for the endpoint
        pairs = await compare(lambda: weigh(wait_for_a_future), lambda: weigh(provider.get_token), rounds=scale(5, 1))
        first.cancel()
    return summarize(pairs, name="memory of a waiting caller", unit="bytes", goal=1.2)


MEASURES: dict[str, Callable[[Scale], Coroutine[Any, Any, Result]]] = {
    "cached": measure_cached,
    "cold": measure_cold,
    "middleware": measure_middleware,
    "import": measure_import,
    "memory": measure_memory,
}
