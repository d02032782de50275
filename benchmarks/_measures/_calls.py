"""Calls of `get_token()` with a fresh token and with one that is due."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from benchmarks._compare import compare, enter, open_clients, summarize
from benchmarks._peers import OURS
from benchmarks._server import run_server

if TYPE_CHECKING:
    from benchmarks._compare import Contender, Sample, Scale
    from benchmarks._peers import Client, Peer
    from benchmarks._results import Result

__all__ = ["measure_cached", "measure_due"]

_LATENCY_SECONDS = 0.4
# The waves last twice as long as a token request.
_WAVES, _CALLERS, _PAUSE_SECONDS = 80, 100, 0.01


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
    calls = scale(2_000, 100)

    def timing(client: Client | _Least) -> Sample:
        get_token = client.get_token

        async def time_calls() -> tuple[float, ...]:
            began_at = time.perf_counter()
            for _ in range(calls):
                await get_token()
            return ((time.perf_counter() - began_at) / calls * 1e9,)

        return time_calls

    async with run_server() as server, open_clients((OURS, *scale.peers), server, timing) as contenders:
        await compare(timing(_Least()), contenders, scale)
    name, floor_name = "cached await get_token()", "one clock, one comparison, one attribute"
    return [summarize("cached", contenders, name=name, unit="ns", goal=1.2, floor_name=floor_name)]


async def measure_due(scale: Scale) -> list[Result]:
    """The waits of callers during a renewal, relative to the same client's with a fresh token; once for each client.

    No clock is set: each client has a server whose tokens live just long enough, and is idle until its own rule makes
    it renew.
    """
    contenders = enter(
        (peer for peer in scale.peers if peer.due), lambda peer, contender: lambda: _renew(peer, contender)
    )
    for contender in contenders:
        if sample := await contender.take(must_succeed=contender is contenders[0]):
            contender.pairs = [(sample[:1], sample[1:])]
    name = "a token that is due, p95 of the callers' waits"
    floor_name = "the same client with a fresh token"
    return [summarize("due", contenders, name=name, unit="s", goal=1.25, floor_name=floor_name)]


async def _renew(peer: Peer, contender: Contender) -> tuple[float, ...]:
    """Return the 95th percentiles of the waits for a fresh token and for one that is due.

    Of 80 waves the machine itself delays one or two by milliseconds; the 99th percentile would be theirs.
    """
    assert peer.due is not None  # noqa: S101 - others do not take part
    lifetime_seconds, due_after_seconds = peer.due
    async with (
        run_server(latency_seconds=_LATENCY_SECONDS, lifetime_seconds=lifetime_seconds) as server,
        peer.open(server) as client,
    ):
        await client.get_token()
        due_at = time.monotonic() + due_after_seconds
        fresh = await _call_in_waves(client)
        before = await server.count_tokens()
        await asyncio.sleep(due_at - time.monotonic())
        due = await _call_in_waves(client)
        contender.counts["token requests"] = await server.count_tokens() - before
        contender.counts["blocked callers"] = sum(wait > _LATENCY_SECONDS / 4 for wait in due)
    return sorted(fresh)[int(0.95 * len(fresh))], sorted(due)[int(0.95 * len(due))]


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
