"""A token that is fresh. Rule: the floor reads one clock, compares once, and returns one attribute."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from benchmarks._measure import compare, summarize
from benchmarks._server import run_server

from ._scale import open_clients

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from benchmarks._measure import Result, Sample

    from ._scale import Scale

__all__ = ["measure_alternating", "measure_cached"]

_FLOOR = "one clock, one comparison, one attribute"


class _LeastProvider:
    """The floor of a cached `get_token()`."""

    def __init__(self) -> None:
        self._now = time.monotonic
        self._due_at = time.monotonic() + 3600
        self._token = object()

    async def get_token(self) -> object:
        if self._now() < self._due_at:
            return self._token
        raise AssertionError


async def measure_cached(scale: Scale) -> list[Result]:
    """`await get_token()` while the token is fresh, on whichever loop this runs."""
    calls = scale(5_000, 100)

    def timing(get_token: Callable[[], Awaitable[object]]) -> Sample:
        async def time_calls() -> tuple[float, ...]:
            began_at = time.perf_counter()
            for _ in range(calls):
                await get_token()
            return ((time.perf_counter() - began_at) / calls * 1e9,)

        return time_calls

    name = "cached await get_token()"
    if "uvloop" in type(asyncio.get_running_loop()).__module__:
        name += " on uvloop"
    return [await _compare_cached(scale, timing, name=name, rounds=scale(201, 2))]


async def measure_alternating(scale: Scale) -> list[Result]:
    """The same by many tasks, each of which lets the others run after every call."""
    tasks, calls = scale(10_000, 100), 3

    def timing(get_token: Callable[[], Coroutine[Any, Any, object]]) -> Sample:
        async def call() -> None:
            for _ in range(calls):
                await get_token()
                await asyncio.sleep(0)

        async def time_tasks() -> tuple[float, ...]:
            began_at = time.perf_counter()
            await asyncio.gather(*[asyncio.create_task(call()) for _ in range(tasks)])
            return ((time.perf_counter() - began_at) / tasks / calls * 1e9,)

        return time_tasks

    name = f"cached await get_token(), {tasks:,} tasks alternating"
    return [await _compare_cached(scale, timing, name=name, rounds=scale(21, 2))]


async def _compare_cached(
    scale: Scale, timing: Callable[[Callable[[], Coroutine[Any, Any, object]]], Sample], *, name: str, rounds: int
) -> Result:
    async with run_server() as server, open_clients(scale, server) as clients:
        for contender, client in clients:
            if client:
                contender.sample = timing(client.get_token)
        contenders = [contender for contender, _ in clients]
        await compare(timing(_LeastProvider().get_token), contenders, rounds=rounds)
    return summarize(contenders, name=name, unit="ns", goal=1.3, floor_name=_FLOOR)
