"""API requests with a fresh token. Rule: the floor is the same HTTP client with a static Authorization header."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import attrs
from yarl import URL

from benchmarks._compare import Contender, compare, on_one_core, open_clients, summarize
from benchmarks._peers import OURS, OURS_ON_HTTPX, get_by, get_by_httpx
from benchmarks._server import Server, run_server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager

    from benchmarks._compare import Sample, Scale
    from benchmarks._peers import Get, Peer
    from benchmarks._results import Result

__all__ = ["OPENERS", "measure_httpx", "measure_instructions", "measure_requests", "send_requests"]

_LEAST = "the least middleware"
_ROOT = Path(__file__).parent.parent.parent
_CONCURRENCIES = (1, 50)
_GOAL = 1.03


async def _get_authorization(server: Server) -> str:
    async with OURS.open(server) as client:
        return str(getattr(await client.get_token(), "authorization"))  # noqa: B009 - of our own token


@asynccontextmanager
async def _open_plain(server: Server) -> AsyncGenerator[Get]:
    """Open the floor: a session with the same header in every request."""
    headers = {"Authorization": await _get_authorization(server)}
    async with aiohttp.ClientSession(headers=headers) as session:
        yield get_by(session)


@asynccontextmanager
async def _open_least(server: Server) -> AsyncGenerator[Get]:
    """Open a session with the least middleware."""
    authorization, due_at, now = await _get_authorization(server), time.monotonic() + 3600, time.monotonic
    origin = (url := URL(server.root)).scheme, url.raw_host, url.port

    async def get_token() -> str:
        if now() < due_at:
            return authorization
        raise RuntimeError("the token has expired")

    async def middleware(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        if (request.url.scheme, request.url.raw_host, request.url.port) == origin:
            request.headers["Authorization"] = await get_token()
        response = await handler(request)
        if response.status == 401:
            raise RuntimeError("the token was rejected")
        return response

    async with aiohttp.ClientSession(middlewares=[middleware]) as session:
        yield get_by(session)


@asynccontextmanager
async def _open_plain_httpx(server: Server) -> AsyncGenerator[Get]:
    """Open the floor on httpx2."""
    import httpx2

    async with httpx2.AsyncClient(headers={"Authorization": await _get_authorization(server)}) as client:
        yield get_by_httpx(client)


@asynccontextmanager
async def _open_ours(server: Server) -> AsyncGenerator[Get]:
    async with OURS.open(server) as client:
        assert client.get is not None  # noqa: S101 - it has one
        yield client.get


OPENERS: dict[str, Callable[[Server], AbstractAsyncContextManager[Get]]] = {
    "floor": _open_plain,
    OURS.name: _open_ours,
    _LEAST: _open_least,
}
"""Floor, this package and the yardstick, by name."""


async def send_requests(get: Get, url: str, *, requests: int, concurrency: int) -> None:
    """Send *requests* by *concurrency* tasks."""

    async def send() -> None:
        for _ in range(requests // concurrency):
            await get(url)

    await asyncio.gather(*[asyncio.create_task(send()) for _ in range(concurrency)])


async def measure_requests(scale: Scale) -> list[Result]:
    """The CPU and wall time of an API request on aiohttp, one after the other and 50 at a time."""
    peers = (OURS, *(peer for peer in scale.peers if peer.stack == "aiohttp"))
    results: list[Result] = []
    for concurrency in _CONCURRENCIES:
        results += await _measure("requests", scale, peers, _open_plain, concurrency)
    return results


async def measure_httpx(scale: Scale) -> list[Result]:
    """The same on httpx2, one after the other."""
    peers = (OURS_ON_HTTPX, *(peer for peer in scale.peers if peer.stack == "httpx"))
    return await _measure("httpx", scale, peers, _open_plain_httpx, 1)


async def _measure(
    measure: str,
    scale: Scale,
    peers: tuple[Peer, ...],
    open_floor: Callable[[Server], AbstractAsyncContextManager[Get]],
    concurrency: int,
) -> list[Result]:
    requests = concurrency * scale(2 if concurrency > 1 else 20, 1)

    def timing(get: Get | None) -> Sample:
        assert get is not None  # noqa: S101 - peers with a stack have one

        async def time_requests() -> tuple[float, ...]:
            cpu_at, wall_at = time.process_time(), time.perf_counter()
            await send_requests(get, server.base_url, requests=requests, concurrency=concurrency)
            cpu, wall = time.process_time() - cpu_at, time.perf_counter() - wall_at
            return cpu / requests * 1e6, wall / requests * 1e6

        return time_requests

    async with (
        run_server() as server,
        open_floor(server) as floor,
        _open_least(server) as least,
        open_clients(peers, server, lambda client: timing(client.get)) as contenders,
    ):
        if measure == "requests":
            contenders.append(Contender(_LEAST, timing(least), is_peer=False))
        with on_one_core():
            await compare(timing(floor), contenders, scale)
    stack = "httpx2" if measure == "httpx" else "aiohttp"
    return [
        summarize(
            *(measure, contenders),
            name=f"API request on {stack}, {words}, {concurrency} at a time",
            unit="µs",
            goal=_GOAL,
            floor_name=f"{stack} with a static header",
            column=column,
        )
        for column, words in enumerate(("CPU time", "wall time"))
    ]


async def measure_instructions(scale: Scale) -> list[Result]:
    """The instructions of an API request on aiohttp by callgrind, which vary less than times; without peers."""
    if not shutil.which("valgrind"):
        return []
    more = scale(200, 50)

    async def count(name: str) -> tuple[float, ...]:
        """Count the instructions of a program that sends *more* requests, less those of one that does not."""
        few, many = await asyncio.gather(*[_run_callgrind(name, server, 100 + extra) for extra in (0, more)])
        return ((many - few) / more,)

    async with run_server() as server:
        floor, ours, least = [await count(name) for name in OPENERS]
    contenders = [
        Contender(OURS.name, pairs=[(floor, ours)]),
        Contender(_LEAST, is_peer=False, pairs=[(floor, least)]),
    ]
    name, floor_name = "API request on aiohttp, instructions, 1 at a time", "aiohttp with a static header"
    return [summarize("instructions", contenders, name=name, unit="", goal=_GOAL, floor_name=floor_name)]


async def _run_callgrind(name: str, server: Server, requests: int) -> int:
    with tempfile.TemporaryDirectory() as directory:
        process = await asyncio.create_subprocess_exec(
            *("valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/out"),
            *(sys.executable, "-m", "benchmarks._measures._child", "send", name, json.dumps(attrs.asdict(server))),
            str(requests),
            cwd=_ROOT,
            env=os.environ | {"PYTHONHASHSEED": "0"},
            stderr=asyncio.subprocess.PIPE,
        )
        _, words = await process.communicate()
        found = re.search(r"Collected : (\d+)", words.decode())
        if process.returncode or not found:
            raise RuntimeError(words.decode())
        return int(found[1])
