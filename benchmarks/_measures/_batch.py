"""A batch from a file. Rule: the floor sends the same requests, from memory, and keeps nothing of the answers."""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from benchmarks._measure import Contender, compare, summarize
from benchmarks._server import run_server
from simplestore_async import TokenProvider, open_session
from simplestore_async.batch import BatchPolicy, Journal, RequestFile, run_batch

if TYPE_CHECKING:
    from benchmarks._measure import Result
    from benchmarks._server import Server

    from ._scale import Scale

__all__ = ["measure_batch"]

_CONCURRENCY = 50
_LATENCY_SECONDS = 0.02
_NOTES = {
    "GET": "reads the file twice, and writes results and journal",
    "POST": "the same, and each request is on the disk before it is sent",
}


async def measure_batch(scale: Scale) -> list[Result]:
    """The wall time of a batch, of requests that only read and of such as change something.

    An API that answers at once leaves nothing to wait for, and all that a batch does besides sending is added; one that
    takes 20 ms is what programs meet.
    """
    return [
        await _measure(scale, method, latency_seconds=latency_seconds)
        for latency_seconds in (0.0, _LATENCY_SECONDS)
        for method in _NOTES
    ]


async def _measure(scale: Scale, method: str, *, latency_seconds: float) -> Result:
    requests = scale(2_000, 100)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "requests.jsonl")
        body = {"json": {"state": "shipped"}} if method == "POST" else {}
        lines: list[dict[str, object]] = [
            {"id": number, "method": method, "path": f"api/{number}"} | body for number in range(requests)
        ]
        _write(path, lines)
        numbers = itertools.count()
        async with run_server(api_latency_seconds=latency_seconds) as server:
            authorization = await _get_authorization(server)
            contender = Contender(name=scale.peers[0].name, note=_NOTES[method])

            async def send_bare() -> tuple[float, ...]:
                return (await _time_bare(server, authorization, method, requests) / requests * 1e6,)

            async def send_batch() -> tuple[float, ...]:
                seconds, failed = await _time_batch(server, path, f"{folder}/{next(numbers)}")
                contender.count_most("not succeeded", failed)
                return (seconds / requests * 1e6,)

            contender.sample = send_batch
            await compare(send_bare, [contender], rounds=scale(11, 1))
    api = f"an API that takes {latency_seconds * 1000:.0f} ms" if latency_seconds else "an API that answers at once"
    name = f"a batch of {method}, {_CONCURRENCY} at a time, to {api}"
    floor_name = "a bare loop of aiohttp with the same requests"
    return summarize([contender], name=name, unit="µs", goal=1.25, floor_name=floor_name)


def _write(path: Path, lines: list[dict[str, object]]) -> None:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


async def _get_authorization(server: Server) -> str:
    async with TokenProvider(server.credentials) as provider:
        return str((await provider.get_token()).authorization)


async def _time_bare(server: Server, authorization: str, method: str, requests: int) -> float:
    """Return how many seconds tasks take that do nothing but send, and read what is answered."""
    body = {"state": "shipped"} if method == "POST" else None
    numbers = iter(range(requests))
    connector = aiohttp.TCPConnector(limit=_CONCURRENCY)
    async with aiohttp.ClientSession(headers={"Authorization": authorization}, connector=connector) as session:

        async def send() -> None:
            for number in numbers:
                async with session.request(method, f"{server.base_url}{number}", json=body) as response:
                    await response.read()

        began_at = time.perf_counter()
        await asyncio.gather(*[asyncio.create_task(send()) for _ in range(_CONCURRENCY)])
        return time.perf_counter() - began_at


async def _time_batch(server: Server, path: Path, stem: str) -> tuple[float, int]:
    """Return how many seconds it takes from the file to the last result on disk, and how many did not succeed."""
    began_at = time.perf_counter()
    requests = RequestFile.check(path, base_url=server.root)
    with Journal(f"{stem}.journal", requests=requests, results=f"{stem}.results") as journal:
        connector = aiohttp.TCPConnector(limit=_CONCURRENCY)
        async with open_session(server.credentials, base_url=server.root, connector=connector) as session:
            policy = BatchPolicy(concurrency=_CONCURRENCY)
            summary = await run_batch(requests, session=session, journal=journal, policy=policy)
    return time.perf_counter() - began_at, requests.line_count - summary.counts["succeeded"]
