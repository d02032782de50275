"""Batches from a file. Rule: command and floor are programs; the floor does nothing but send the same requests."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._measure import Contender, compare, summarize
from benchmarks._server import CLIENT_ID, CLIENT_SECRET, run_server
from simplestore_async import TokenProvider

if TYPE_CHECKING:
    from benchmarks._measure import Result, Sample
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
    requests = scale(5_000 if latency_seconds else 50_000, 100)
    with tempfile.TemporaryDirectory() as folder:
        path = _write(Path(folder, "requests.jsonl"), method, requests)
        numbers = itertools.count()
        async with run_server(api_latency_seconds=latency_seconds) as server:
            settings = await _settings_for(server)

            def looping(what: str) -> Sample:
                async def run() -> tuple[float, ...]:
                    results = f"{folder}/{next(numbers)}"
                    arguments = what, f"{server.root}/", str(path), results, str(_CONCURRENCY)
                    return (await _time(settings, str(_BARE_LOOP), *arguments) / requests * 1e6,)

                return run

            async def run_command() -> tuple[float, ...]:
                results = f"{folder}/{next(numbers)}"
                options = "--output", results, "--database", f"{results}.batch", "--concurrency", str(_CONCURRENCY)
                seconds = await _time(settings, "-m", "simplestore_async.cli", "batch", str(path), *options)
                return (seconds / requests * 1e6,)

            contenders = [
                Contender(name=scale.peers[0].name, note=_NOTES[method], sample=run_command),
                Contender(
                    name="a loop",
                    is_peer=False,
                    note="reads the file, sends, and writes the answers, without check or database",
                    sample=looping("whole"),
                ),
            ]
            # A turn takes seconds, and everybody has all of them.
            await compare(looping("least"), contenders, rounds=scale(5, 1), patience_seconds=300)
            contenders[0].counts["answered 401"] = await server.count("unauthorized")
    api = f"an API that takes {latency_seconds * 1000:.0f} ms" if latency_seconds else "an API that answers at once"
    name = f"simplestore batch, {method}, {_CONCURRENCY} at a time, to {api}"
    floor_name = "a bare loop of aiohttp with the same requests from memory, which keeps nothing"
    return summarize(contenders, name=name, unit="µs", goal=1.25, floor_name=floor_name)


def _write(path: Path, method: str, requests: int) -> Path:
    body = {"json": {"state": "shipped"}} if method == "POST" else {}
    lines = ({"id": number, "method": method, "path": f"api/{number}"} | body for number in range(requests))
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


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


async def _time(settings: dict[str, str], *arguments: str) -> float:
    """Return how many seconds a program takes, from its start to its end."""
    began_at = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments),
        env=os.environ | settings,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    if process.returncode:
        raise RuntimeError(said.decode())
    return time.perf_counter() - began_at
