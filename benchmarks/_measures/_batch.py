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

from benchmarks._measure import Contender, compare, summarize
from benchmarks._peers import OURS
from benchmarks._server import CLIENT_ID, CLIENT_SECRET, run_server
from simplestore_async import TokenProvider

if TYPE_CHECKING:
    from benchmarks._measure import Sample
    from benchmarks._results import Result
    from benchmarks._server import Server

    from ._scale import Scale

__all__ = ["measure_batch"]

_CONCURRENCY = 50
_LATENCY_SECONDS = 0.02
_NOTES = {
    "GET": "checks and reads the file, and writes results and database",
    "POST": "the same, and each request is on the disk before it is sent",
}
_BARE_LOOP = Path(__file__).with_name("_bare_loop.py")
_LOOP_NOTE = "reads the file and writes the responses, without checks or database"
_CURL_NOTE = "a process for each request, of a twentieth of them; keeps nothing"
_WRK_NOTE = "a load generator in C: the upper limit, which one server process sets here"


async def measure_batch(scale: Scale) -> list[Result]:
    """The wall time of a batch, of GET and POST, with an API that responds at once or after 20 ms."""
    return [
        await _measure(scale, method, latency_seconds=latency_seconds)
        for latency_seconds in (0.0, _LATENCY_SECONDS)
        for method in _NOTES
    ]


async def _measure(scale: Scale, method: str, *, latency_seconds: float) -> Result:
    requests = scale(5_000 if latency_seconds else 20_000, 100)
    with tempfile.TemporaryDirectory() as directory:
        path = _write(Path(directory, "requests.jsonl"), method, requests)
        numbers = itertools.count()
        async with run_server(api_latency_seconds=latency_seconds) as server:
            settings = await _settings_for(server)

            def loop(what: str) -> Sample:
                async def run() -> tuple[float, ...]:
                    arguments = what, f"{server.root}/", str(path), f"{directory}/{next(numbers)}", str(_CONCURRENCY)
                    seconds, _ = await _time(settings, sys.executable, str(_BARE_LOOP), *arguments)
                    return (seconds / requests * 1e6,)

                return run

            async def run_command() -> tuple[float, ...]:
                results = f"{directory}/{next(numbers)}"
                options = "--output", results, "--database", f"{results}.batch", "--concurrency", str(_CONCURRENCY)
                command = sys.executable, "-m", "simplestore_async.cli", "batch", str(path), *options
                seconds, _ = await _time(settings, *command)
                return (seconds / requests * 1e6,)

            contenders = [Contender(OURS.name, run_command, _NOTES[method])]
            contenders.append(Contender("a loop of aiohttp", loop("whole"), _LOOP_NOTE, is_peer=False))
            tools = {
                "xargs curl": ("xargs", _curl(server, settings, directory, method, requests // 20), _CURL_NOTE),
                "wrk": ("wrk", _wrk(server, settings, directory, method, scale(3, 1)), _WRK_NOTE),
            }
            for name, (program, sample, note) in tools.items():
                is_there = bool(shutil.which(program))
                note = note if is_there else f"{program} is not installed"  # noqa: PLW2901 - or the reason
                contenders.append(Contender(name, sample if is_there else None, note, is_peer=False))
            await compare(loop("least"), contenders, rounds=scale(7, 1), patience_seconds=600)
            contenders[0].counts["401 responses"] = await server.count("unauthorized")
    api = f"after {latency_seconds * 1000:.0f} ms" if latency_seconds else "at once"
    name = f"simplestore batch, {method}, {_CONCURRENCY} at a time, an API that responds {api}"
    floor_name = "a loop of aiohttp with the same requests from memory, which keeps nothing"
    return summarize("batch", contenders, name=name, unit="µs", goal=1.25, floor_name=floor_name)


def _write(path: Path, method: str, requests: int) -> Path:
    body = {"json": {"state": "shipped"}} if method == "POST" else {}
    lines = ({"id": number, "method": method, "path": f"api/{number}"} | body for number in range(requests))
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


def _curl(server: Server, settings: dict[str, str], directory: str, method: str, requests: int) -> Sample:
    """Return a sample of `xargs -P 50 curl`, with the header from a file."""
    headers, urls = Path(directory, "headers"), Path(directory, "urls")
    headers.write_text(f"Authorization: {settings['AUTHORIZATION']}\nContent-Type: application/json\n")
    urls.write_text("".join(f"{server.base_url}{number}\n" for number in range(requests)))
    body = ("--data", '{"state": "shipped"}') if method == "POST" else ()

    async def run() -> tuple[float, ...]:
        command = "xargs", "-a", str(urls), "-n", "1", "-P", str(_CONCURRENCY)
        seconds, _ = await _time(
            settings, *command, "curl", "--fail", "-s", "-o", "/dev/null", "-H", f"@{headers}", *body
        )
        return (seconds / requests * 1e6,)

    return run


def _wrk(server: Server, settings: dict[str, str], directory: str, method: str, seconds: int) -> Sample:
    """Return a sample of wrk, which sends the same request again and again."""
    script = Path(directory, "wrk.lua")
    body = 'wrk.body = \'{"state": "shipped"}\'\nwrk.headers["Content-Type"] = "application/json"\n'
    script.write_text(f'wrk.method = "{method}"\n{body if method == "POST" else ""}')

    async def run() -> tuple[float, ...]:
        command = "wrk", "-t", "1", "-c", str(_CONCURRENCY), "-d", f"{seconds}s", "-s", str(script)
        _, printed = await _time(
            settings, *command, "-H", f"Authorization: {settings['AUTHORIZATION']}", server.base_url
        )
        found = re.search(r"Requests/sec:\s+([\d.]+)", printed)
        if found is None or "Non-2xx" in printed:
            raise RuntimeError(printed)
        return (1e6 / float(found[1]),)

    return run


async def _settings_for(server: Server) -> dict[str, str]:
    """Return the environment of the programs."""
    async with TokenProvider(server.credentials) as provider:
        token = await provider.get_token()
    return {
        "AUTHORIZATION": str(token.authorization),
        "SIMPLESTORE_CLIENT_ID": CLIENT_ID,
        "SIMPLESTORE_CLIENT_SECRET": CLIENT_SECRET,
        "SIMPLESTORE_TOKEN_URL": server.token_url,
        "SIMPLESTORE_BASE_URL": server.root,
    }


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
