"""`simplestore batch` and its alternatives. Rule: each is a program; the floor sends the same requests, and no more."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._compare import Contender, compare, on_one_core, summarize
from benchmarks._peers import OURS
from benchmarks._server import CLIENT_ID, CLIENT_SECRET, run_server
from simplestore_async import TokenProvider

if TYPE_CHECKING:
    from benchmarks._compare import Scale
    from benchmarks._results import Result
    from benchmarks._server import Server

__all__ = ["measure_batch"]

_CONCURRENCY = 50
_LATENCY_SECONDS = 0.02
_BODY = '{"state": "shipped"}'
_METHODS = ("GET", "POST")
_CURL_SHARE = 50
"""Curl sends one of so many requests: it takes a process for each."""
_BARE_LOOP = Path(__file__).with_name("_bare_loop.py")


async def measure_batch(scale: Scale) -> list[Result]:
    """The wall time of a batch, of GET and POST, with an API that responds at once or after 20 ms."""
    return [
        await _measure(scale, method, latency_seconds=latency_seconds)
        for latency_seconds in (0.0, _LATENCY_SECONDS)
        for method in _METHODS
    ]


async def _measure(scale: Scale, method: str, *, latency_seconds: float) -> Result:
    requests = scale(20_000, 100)
    wrk_seconds = scale(2, 1)
    numbers = itertools.count()
    with tempfile.TemporaryDirectory() as directory:
        lines, urls, headers = (Path(directory, name) for name in ("lines.jsonl", "urls", "headers"))
        async with run_server(api_latency_seconds=latency_seconds) as server:
            async with TokenProvider(server.credentials) as provider:
                token = str((await provider.get_token()).authorization)
            settings = {
                "AUTHORIZATION": token,
                "SIMPLESTORE_CLIENT_ID": CLIENT_ID,
                "SIMPLESTORE_CLIENT_SECRET": CLIENT_SECRET,
                "SIMPLESTORE_TOKEN_URL": server.token_url,
                "SIMPLESTORE_BASE_URL": server.root,
                "PYTHONDONTWRITEBYTECODE": "",  # as installed: with bytecode
            }
            _write_inputs(lines, urls, headers, method=method, requests=requests, server=server, token=token)

            async def run_loop() -> tuple[float, ...]:
                body = (_BODY,) if method == "POST" else ()
                arguments = server.base_url, str(requests), str(_CONCURRENCY), method, *body
                seconds, _ = await _time(settings, sys.executable, str(_BARE_LOOP), *arguments)
                return (seconds / requests * 1e6,)

            async def run_command() -> tuple[float, ...]:
                results = f"{directory}/{next(numbers)}"
                options = "--output", results, "--database", f"{results}.batch", "--concurrency", str(_CONCURRENCY)
                command = sys.executable, "-m", "simplestore_async.cli", "batch", str(lines), *options
                seconds, _ = await _time(settings, *command)
                return (seconds / requests * 1e6,)

            async def run_curl() -> tuple[float, ...]:
                body = ("--data", _BODY) if method == "POST" else ()
                curl = "curl", "--fail", "-s", "-o", "/dev/null", "-H", f"@{headers}", *body
                command = "xargs", "-a", str(urls), "-n", "1", "-P", str(_CONCURRENCY), *curl
                seconds, _ = await _time(settings, *command)
                return (seconds / (requests // _CURL_SHARE) * 1e6,)

            async def run_wrk() -> tuple[float, ...]:
                connections = "-t", "1", "-c", str(_CONCURRENCY), "-d", f"{wrk_seconds}s"
                header = f"Authorization: {token}"
                _, printed = await _time(settings, "wrk", *connections, "-H", header, server.base_url)
                found = re.search(r"Requests/sec:\s+([\d.]+)", printed)
                if found is None or "Non-2xx" in printed:
                    raise RuntimeError(printed)
                return (1e6 / float(found[1]),)

            contenders = [Contender(OURS.name, run_command)]
            tools = {"xargs curl": run_curl} | ({"wrk": run_wrk} if method == "GET" else {})
            for name, sample in tools.items():
                contenders.append(Contender(name, sample, is_peer=False))
                if not all(map(shutil.which, name.split())):
                    contenders[-1].leave("not installed")
            with on_one_core():  # the programs have it, too: their threads would compete with the server's process
                await compare(run_loop, contenders, scale, seconds=60)
    api = f"after {latency_seconds * 1000:.0f} ms" if latency_seconds else "at once"
    name = f"simplestore batch, {method}, {_CONCURRENCY} at a time, an API that responds {api}"
    floor_name = "a loop of aiohttp with the same requests from memory, which keeps nothing"
    goal = 1.05 if latency_seconds else 1.25
    return summarize("batch", contenders, name=name, unit="µs", goal=goal, floor_name=floor_name)


def _write_inputs(  # noqa: PLR0913 - of one call
    lines: Path, urls: Path, headers: Path, *, method: str, requests: int, server: Server, token: str
) -> None:
    """Write the files of the command and of curl."""
    body = {"json": json.loads(_BODY)} if method == "POST" else {}
    rows = ({"id": number, "method": method, "path": f"api/{number}"} | body for number in range(requests))
    lines.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    urls.write_text("".join(f"{server.base_url}{number}\n" for number in range(requests // _CURL_SHARE)))
    headers.write_text(f"Authorization: {token}\nContent-Type: application/json\n")


async def _time(settings: dict[str, str], *command: str) -> tuple[float, str]:
    """Return the seconds from a program's start to its end, and its output."""
    began_at = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *command, env=os.environ | settings, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    printed, problem = await process.communicate()
    if process.returncode:
        raise RuntimeError(problem.decode() or f"{command[0]} failed")
    return time.perf_counter() - began_at, printed.decode()
