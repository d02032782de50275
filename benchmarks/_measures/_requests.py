"""API requests with a fresh token. Rule: the floor is the same HTTP client with a static Authorization header."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import aiohttp
import attrs
from yarl import URL

from benchmarks._measure import Contender, compare, on_one_core, summarize
from benchmarks._peers import OURS, OURS_ON_HTTPX, get_by, get_by_httpx
from benchmarks._server import Server, run_server

from ._scale import open_clients

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from benchmarks._measure import Sample
    from benchmarks._peers import Client, Get
    from benchmarks._results import Result

    from ._scale import Scale

__all__ = ["CONCURRENCIES", "YARDSTICKS", "measure_httpx", "measure_instructions", "measure_requests", "send_requests"]

_FLOOR = "floor"
_LEAST = "the least middleware"
_LEAST_NOTE = "a clock, a comparison, a header, without renewal or replay: no middleware is as cheap"
_FLOOR_NAME = "aiohttp with a static header"
_NO_GET = "no requests of its own"
_ROOT = Path(__file__).parent.parent.parent
CONCURRENCIES = (1, 50)


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


YARDSTICKS: dict[str, Callable[[Server], AbstractAsyncContextManager[Get]]] = {_FLOOR: _open_plain, _LEAST: _open_least}
"""Floor and yardsticks, by name."""


async def send_requests(get: Get, url: str, *, requests: int, concurrency: int) -> None:
    """Send *requests* by *concurrency* tasks."""

    async def send() -> None:
        for _ in range(requests // concurrency):
            await get(url)

    if concurrency == 1:
        await send()
    else:
        await asyncio.gather(*[asyncio.create_task(send()) for _ in range(concurrency)])


def _timing(get: Get, *, server: Server, requests: int, concurrency: int) -> Sample:
    """Return a sample of CPU and wall time, in µs for each request."""

    async def time_requests() -> tuple[float, ...]:
        cpu_at, wall_at = time.process_time(), time.perf_counter()
        await send_requests(get, server.base_url, requests=requests, concurrency=concurrency)
        return tuple(
            (now - began_at) / requests * 1e6
            for now, began_at in ((time.process_time(), cpu_at), (time.perf_counter(), wall_at))
        )

    return time_requests


async def measure_requests(scale: Scale) -> list[Result]:
    """The CPU and wall time of an API request on aiohttp, one after the other and 50 at a time."""
    peers = (OURS, *(peer for peer in scale.peers if peer.stack == "aiohttp"))
    results = []
    for concurrency in CONCURRENCIES:
        requests = concurrency * scale(2 if concurrency > 1 else 20, 1)
        async with run_server() as server, _open_plain(server) as plain, _open_least(server) as least:
            time_get = partial(_timing, server=server, requests=requests, concurrency=concurrency)

            def timing(client: Client, time_get: Callable[[Get], Sample] = time_get) -> Sample | None:
                return time_get(client.get) if client.get else None

            async with open_clients(peers, server, timing=timing, reason=_NO_GET) as contenders:
                contenders.append(Contender(_LEAST, time_get(least), _LEAST_NOTE, is_peer=False))
                with on_one_core():
                    await compare(time_get(plain), contenders, rounds=scale(501 if concurrency == 1 else 201, 2))
            contenders[0].counts["401 responses"] = await server.count("unauthorized")
        results += [
            _summarize("requests", contenders, words=words, unit="µs", concurrency=concurrency, column=column)
            for column, words in enumerate(("CPU time", "wall time"))
        ]
    return results


async def measure_httpx(scale: Scale) -> list[Result]:
    """The CPU time of an API request on httpx2 or httpx, one after the other."""
    if OURS_ON_HTTPX.cannot:
        return []
    peers = (OURS_ON_HTTPX, *(peer for peer in scale.peers if peer.stack == "httpx"))
    requests = scale(20, 1)
    async with run_server() as server, _open_plain_httpx(server) as plain:

        def timing(client: Client) -> Sample | None:
            return _timing(client.get, server=server, requests=requests, concurrency=1) if client.get else None

        async with open_clients(peers, server, timing=timing, reason=_NO_GET) as contenders:
            floor = _timing(plain, server=server, requests=requests, concurrency=1)
            with on_one_core():
                await compare(floor, contenders, rounds=scale(201, 2))
        contenders[0].counts["401 responses"] = await server.count("unauthorized")
    name, floor_name = "API request on httpx2, CPU time, 1 at a time", "httpx2 with a static header"
    return [summarize("httpx", contenders, name=name, unit="µs", goal=1.03, floor_name=floor_name)]


async def measure_instructions(scale: Scale) -> list[Result]:
    """The instructions of an API request on aiohttp by callgrind, which vary less than times."""
    if not (shutil.which("valgrind") and shutil.which("callgrind_control")):
        return []
    requests = scale(200, 50)
    peers = (OURS, *(peer for peer in scale.peers if peer.stack == "aiohttp"))
    async with run_server() as server:

        def timing(client: Client) -> Sample | None:
            return _counting("", server, requests) if client.get else None

        async with open_clients(peers, server, timing=timing, reason=_NO_GET) as contenders:
            for contender in contenders:
                contender.sample = contender.sample and _counting(contender.name, server, requests)
        contenders.append(Contender(_LEAST, _counting(_LEAST, server, requests), _LEAST_NOTE, is_peer=False))
        await compare(_counting(_FLOOR, server, requests), contenders, rounds=scale(2, 0), patience_seconds=300)
    return [
        _summarize("instructions", contenders, words="instructions", unit="", concurrency=concurrency, column=column)
        for column, concurrency in enumerate(CONCURRENCIES)
    ]


def _summarize(  # noqa: PLR0913 - as summarize()
    measure: str, contenders: Sequence[Contender], *, words: str, unit: str, concurrency: int, column: int
) -> Result:
    name = f"API request, {words}, {concurrency} at a time"
    return summarize(measure, contenders, name=name, unit=unit, goal=1.03, floor_name=_FLOOR_NAME, column=column)


def _counting(name: str, server: Server, requests: int) -> Sample:
    """Return a sample that runs `_child.py` under callgrind, which counts while the requests are sent."""

    async def count() -> tuple[float, ...]:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "out")
            process = await asyncio.create_subprocess_exec(
                *("valgrind", "--tool=callgrind", "--instr-atstart=no", "-q", f"--callgrind-out-file={path}"),
                *(sys.executable, "-m", "benchmarks._measures._child", name, json.dumps(attrs.asdict(server))),
                cwd=_ROOT,
                env=os.environ | {"PYTHONHASHSEED": "0"},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            reader, writer = cast("tuple[asyncio.StreamReader, asyncio.StreamWriter]", (process.stdout, process.stdin))
            counts = []
            try:
                for number in range(1, len(CONCURRENCIES) + 1):
                    await reader.readexactly(1)
                    await _control(process.pid, "--instr=on")
                    writer.write(f"{requests}\n".encode())
                    await reader.readexactly(1)
                    await _control(process.pid, "--instr=off")
                    await _control(process.pid, "--dump")
                    counts.append(_read_total(Path(f"{path}.{number}")) / requests)
                    writer.write(b"\n")
            finally:
                writer.close()
                await process.wait()
            return tuple(counts)

    return count


async def _control(pid: int, option: str) -> None:
    process = await asyncio.create_subprocess_exec(
        "callgrind_control", option, str(pid), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    if await process.wait():
        raise RuntimeError(f"callgrind_control {option} failed")


def _read_total(path: Path) -> int:
    totals = [line for line in path.read_text().splitlines() if line.startswith("totals:")]
    return int(totals[0].split()[1])
