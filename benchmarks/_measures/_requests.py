"""Requests to an API with a token that is fresh. Rule: the floor is aiohttp with a static Authorization header."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import aiohttp
import attrs
from yarl import URL

from benchmarks._measure import Contender, compare, summarize
from benchmarks._peers import OURS
from benchmarks._server import Server, run_server

from ._scale import open_clients

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
    from contextlib import AbstractAsyncContextManager
    from typing import Any

    from benchmarks._measure import Result, Sample

    from ._scale import Scale

    Get = Callable[[str], Coroutine[Any, Any, object]]

__all__ = ["CONCURRENCIES", "YARDSTICKS", "measure_instructions", "measure_requests", "send_requests"]

_FLOOR = "floor"
_LEAST = "the least middleware"
_LEAST_NOTE = "a clock, a comparison, a header: what is left if a middleware can do nothing else"
_FLOOR_NAME = "aiohttp with a static header"
_NOT_ON_AIOHTTP = "its own way to send a request is not on aiohttp"
_ROOT = Path(__file__).parent.parent.parent
CONCURRENCIES = (1, 50)


@asynccontextmanager
async def _open_plain(server: Server) -> AsyncGenerator[Get]:
    """Open the floor: a session whose every request has the same header."""
    async with OURS.open(server) as client:
        token = cast("Any", await client.get_token())
    async with aiohttp.ClientSession(headers={"Authorization": str(token.authorization)}) as session:

        async def get(url: str) -> bytes:
            async with session.get(url) as response:
                return await response.read()

        yield get


@asynccontextmanager
async def _open_least(server: Server) -> AsyncGenerator[Get]:
    """Open what no middleware can do without, and no program could rely on: no renewal, no replay, no redaction."""
    async with OURS.open(server) as client:
        token = cast("Any", await client.get_token())
    authorization, due_at, now = str(token.authorization), time.monotonic() + 3600, time.monotonic
    origin = (url := URL(server.root)).scheme, url.raw_host, url.port

    async def get_token() -> str:
        if now() < due_at:
            return authorization
        raise RuntimeError("the token ended")

    async def middleware(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        if (request.url.scheme, request.url.raw_host, request.url.port) == origin:
            request.headers["Authorization"] = await get_token()
        response = await handler(request)
        if response.status == 401:
            raise RuntimeError("the token was rejected")
        return response

    async with aiohttp.ClientSession(middlewares=[middleware]) as session:

        async def get(url: str) -> bytes:
            async with session.get(url) as response:
                return await response.read()

        yield get


YARDSTICKS: dict[str, Callable[[Server], AbstractAsyncContextManager[Get]]] = {_FLOOR: _open_plain, _LEAST: _open_least}
"""What is measured beside the peers, by name."""


async def send_requests(get: Get, url: str, *, requests: int, concurrency: int) -> None:
    """Send so many requests, by so many tasks at a time."""

    async def send() -> None:
        for _ in range(requests // concurrency):
            await get(url)

    if concurrency == 1:
        await send()
    else:
        await asyncio.gather(*[asyncio.create_task(send()) for _ in range(concurrency)])


async def measure_requests(scale: Scale) -> list[Result]:
    """The CPU time of an API request, sent one after the other and 50 at a time."""
    results = []
    for concurrency in CONCURRENCIES:
        requests = concurrency * scale(2 if concurrency > 1 else 20, 1)
        async with (
            run_server() as server,
            _open_plain(server) as plain,
            _open_least(server) as least,
            open_clients(scale, server) as clients,
        ):

            def timing(get: Get, server: Server = server, requests: int = requests, many: int = concurrency) -> Sample:
                async def time_requests() -> tuple[float, ...]:
                    began_at = time.process_time()
                    await send_requests(get, server.base_url, requests=requests, concurrency=many)
                    return ((time.process_time() - began_at) / requests * 1e6,)

                return time_requests

            for contender, client in clients:
                if client and client.get:
                    contender.sample = timing(client.get)
                elif client:
                    contender.note = _NOT_ON_AIOHTTP
            contenders = [contender for contender, _ in clients]
            contenders.append(Contender(name=_LEAST, is_peer=False, note=_LEAST_NOTE, sample=timing(least)))
            await compare(timing(plain), contenders, rounds=scale(501 if concurrency == 1 else 201, 2))
            contenders[0].counts["answered 401"] = await server.count("unauthorized")
        results.append(_summarize(contenders, words="CPU time", unit="µs", concurrency=concurrency))
    return results


async def measure_instructions(scale: Scale) -> list[Result]:
    """The same in instructions, as callgrind counts them, which wobble less than time does."""
    if not (shutil.which("valgrind") and shutil.which("callgrind_control")):
        return []
    requests = scale(200, 50)
    async with run_server() as server:
        async with open_clients(scale, server) as clients:
            contenders = [contender for contender, _ in clients]
            for contender, client in clients:
                if client and client.get:
                    contender.sample = _counting(contender.name, server, requests)
                elif client:
                    contender.note = _NOT_ON_AIOHTTP
        contenders.append(
            Contender(name=_LEAST, is_peer=False, note=_LEAST_NOTE, sample=_counting(_LEAST, server, requests))
        )
        await compare(_counting(_FLOOR, server, requests), contenders, rounds=scale(2, 0))
    return [
        _summarize(contenders, words="instructions", unit="", concurrency=concurrency, column=column)
        for column, concurrency in enumerate(CONCURRENCIES)
    ]


def _summarize(contenders: Sequence[Contender], *, words: str, unit: str, concurrency: int, column: int = 0) -> Result:
    name = f"API request, {words}, {concurrency} at a time"
    return summarize(contenders, name=name, unit=unit, goal=1.02, floor_name=_FLOOR_NAME, column=column)


def _counting(name: str, server: Server, requests: int) -> Sample:
    """Return a sample that runs `_child.py` under callgrind, which counts while the requests are sent."""

    async def count() -> tuple[float, ...]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "out")
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
