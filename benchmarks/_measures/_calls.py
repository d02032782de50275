"""Calls of `get_token()` with a fresh token and with one that is due."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from benchmarks._measure import Contender, compare, describe, summarize
from benchmarks._peers import OURS
from benchmarks._server import run_server

from ._scale import enter, open_clients

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks._measure import Sample
    from benchmarks._peers import Client, Peer
    from benchmarks._results import Result

    from ._scale import Scale

__all__ = ["measure_alternating", "measure_cached", "measure_due"]

_LATENCY_SECONDS = 0.1
# The waves last twice as long as a token request.
_WAVES, _CALLERS, _PAUSE_SECONDS = 40, 100, 0.005


class _Least:
    """The floor: one clock, one comparison, one attribute."""

    def __init__(self) -> None:
        self._now = time.monotonic
        self._due_at = time.monotonic() + 3600
        self._token = object()

    async def get_token(self) -> object:
        if self._now() < self._due_at:
            return self._token
        raise AssertionError


async def measure_cached(scale: Scale) -> list[Result]:
    """`await get_token()` with a fresh token."""
    calls = scale(5_000, 100)

    def timing(client: Client | _Least) -> Sample:
        get_token = client.get_token

        async def time_calls() -> tuple[float, ...]:
            began_at = time.perf_counter()
            for _ in range(calls):
                await get_token()
            return ((time.perf_counter() - began_at) / calls * 1e9,)

        return time_calls

    return await _compare("cached", scale, timing, name="cached await get_token()", rounds=scale(201, 2))


async def measure_alternating(scale: Scale) -> list[Result]:
    """`await get_token()` by many tasks, each of which yields to the others after every call."""
    tasks, calls = scale(10_000, 100), 3

    def timing(client: Client | _Least) -> Sample:
        async def call() -> None:
            for _ in range(calls):
                await client.get_token()
                await asyncio.sleep(0)

        async def time_tasks() -> tuple[float, ...]:
            began_at = time.perf_counter()
            await asyncio.gather(*[asyncio.create_task(call()) for _ in range(tasks)])
            return ((time.perf_counter() - began_at) / tasks / calls * 1e9,)

        return time_tasks

    name = f"cached await get_token(), {tasks:,} tasks alternating"
    return await _compare("alternating", scale, timing, name=name, rounds=scale(21, 2))


async def _compare(
    measure: str, scale: Scale, timing: Callable[[Client | _Least], Sample], *, name: str, rounds: int
) -> list[Result]:
    async with run_server() as server, open_clients((OURS, *scale.peers), server, timing=timing) as contenders:
        await compare(timing(_Least()), contenders, rounds=rounds)
    floor_name = "one clock, one comparison, one attribute"
    return [summarize(measure, contenders, name=name, unit="ns", goal=1.2, floor_name=floor_name)]


async def measure_due(scale: Scale) -> list[Result]:
    """The waits of callers during a renewal, relative to the same client's with a fresh token.

    No clock is set: each client has a server whose tokens live just long enough, and is idle until its own rule makes
    it renew.
    """
    lock = asyncio.Lock()  # clients are idle at the same time, and timed one by one

    async def take_turns(contender: Contender) -> None:
        for _ in range(scale(5, 1)):
            if contender.sample is None:
                return
            try:
                fresh, due = await contender.sample()
            except Exception as error:
                if contender.name == OURS.name:
                    raise
                contender.sample, contender.note = None, describe(error)
            else:
                contender.pairs.append(((fresh,), (due,)))

    contenders = enter(
        scale,
        lambda peer, contender: lambda: _renew(peer, contender, lock),
        refuse=lambda peer: "" if peer.due_after_seconds else "renews at a random instant within five minutes",
    )
    async with asyncio.TaskGroup() as group:
        for contender in contenders:
            group.create_task(take_turns(contender))
    name = "a token that is due, p99 of the callers' waits"
    floor_name = "the same client with a fresh token"
    return [summarize("due", contenders, name=name, unit="s", goal=1.25, floor_name=floor_name)]


async def _renew(peer: Peer, contender: Contender, lock: asyncio.Lock) -> tuple[float, ...]:
    """Return the 99th percentiles of the waits for a fresh token and for one that is due."""
    async with (
        run_server(latency_seconds=_LATENCY_SECONDS, lifetime_seconds=peer.lifetime_seconds) as server,
        peer.open(server) as client,
    ):
        async with lock:
            await client.get_token()
            due_at = time.monotonic() + peer.due_after_seconds
            fresh = await _call_in_waves(client)
        before = await server.count("token_requests")
        await asyncio.sleep(due_at - time.monotonic())
        async with lock:
            due = await _call_in_waves(client)
        contender.count_most("token requests", await server.count("token_requests") - before)
        contender.count_most("blocked callers", sum(wait > _LATENCY_SECONDS / 4 for wait in due))
    return sorted(fresh)[int(0.99 * len(fresh))], sorted(due)[int(0.99 * len(due))]


async def _call_in_waves(client: Client) -> list[float]:
    """Return each caller's wait since its wave started."""
    waits: list[float] = []

    async def wait(began_at: float) -> None:
        await client.get_token()
        waits.append(time.perf_counter() - began_at)

    async with asyncio.TaskGroup() as group:
        for _ in range(_WAVES):
            began_at = time.perf_counter()
            for _ in range(_CALLERS):
                group.create_task(wait(began_at))
            await asyncio.sleep(_PAUSE_SECONDS)
    return waits
