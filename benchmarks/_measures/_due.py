"""A token that is due for renewal. Rule: each client is its own floor, with a token that is fresh.

Nobody's clock is moved: each client has a server of its own, with tokens that live just long enough, and is left alone
until its own rule says that it renews.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from benchmarks._measure import Contender, describe, summarize
from benchmarks._server import run_server

from ._scale import enter

if TYPE_CHECKING:
    from benchmarks._measure import Result, Sample
    from benchmarks._peers import Client, Peer

    from ._scale import Scale

__all__ = ["measure_due"]

_LATENCY_SECONDS = 0.1
# Together these waves take as long as the endpoint, and then as long again.
_WAVES, _CALLERS, _PAUSE_SECONDS = 40, 100, 0.005


async def measure_due(scale: Scale) -> list[Result]:
    """How long callers wait while a token is renewed, against while it is fresh."""
    # Waits go on side by side; what is timed does not.
    lock = asyncio.Lock()

    def make(peer: Peer, contender: Contender) -> Sample:
        return lambda: _renew(peer, contender, lock)

    async def take_turns(contender: Contender, *, is_ours: bool) -> None:
        for _ in range(scale(5, 1)):
            if contender.sample is None:
                return
            try:
                fresh, due = await contender.sample()
            except Exception as error:
                if is_ours:
                    raise
                contender.leave(describe(error))
            else:
                contender.pairs.append(((fresh,), (due,)))

    contenders = enter(scale, make)
    async with asyncio.TaskGroup() as group:
        for number, contender in enumerate(contenders):
            group.create_task(take_turns(contender, is_ours=not number))
    name = "a token that is due, p99 of the callers' waits"
    return [summarize(contenders, name=name, unit="s", goal=1.25, floor_name="the same client's token while fresh")]


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
        await asyncio.sleep(due_at - time.monotonic())  # nobody's clock is moved
        async with lock:
            due = await _call_in_waves(client)
        contender.count_most("token requests", await server.count("token_requests") - before)
        contender.count_most("blocked callers", sum(wait > _LATENCY_SECONDS / 4 for wait in due))
    return _p99(fresh), _p99(due)


def _p99(waits: list[float]) -> float:
    return sorted(waits)[int(0.99 * len(waits))]


async def _call_in_waves(client: Client) -> list[float]:
    """Return how long each caller waited, from when its wave was started."""
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
