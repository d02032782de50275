"""Whole processes. Rule: each is started as a user's program is, and has nothing imported before."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from benchmarks._measure import compare, summarize
from benchmarks._server import run_server

from ._scale import enter

if TYPE_CHECKING:
    from benchmarks._measure import Contender, Result, Sample
    from benchmarks._peers import Peer

    from ._scale import Scale

__all__ = ["measure_import", "measure_processes"]

_ROOT = Path(__file__).parent.parent.parent
_LATENCY_SECONDS = 0.05
_HAS_PROC = Path("/proc/self/status").exists()
_WEIGH = "\nprint(next((line.split()[1] for line in open('/proc/self/status') if line.startswith('VmRSS')), 0))"
_SLEEP = "import asyncio, sys, aiohttp; asyncio.run(asyncio.sleep(float(sys.argv[1])))"
_OUR_PROGRAM = """
import asyncio, sys
from simplestore_async import ClientCredentials, FileTokenCache, TokenProvider

async def main(token_url, folder):
    credentials = ClientCredentials(client_id="benchmark-client", client_secret="secret", token_url=token_url)
    async with TokenProvider(credentials, cache=FileTokenCache(folder)) as provider:
        await provider.get_token()

asyncio.run(main(*sys.argv[1:]))
"""
_THEIR_PROGRAM = """
import asyncio, json, sys
from benchmarks._measures._child import get_token
from benchmarks._server import Server

asyncio.run(get_token(sys.argv[1], Server(**json.loads(sys.argv[2])), sys.argv[3]))
"""


async def measure_import(scale: Scale) -> list[Result]:
    """The CPU time and the memory of a process that imports a client, against one that imports aiohttp."""
    ours = scale.peers[0]
    with tempfile.TemporaryDirectory() as folder:
        # Compiled once, as after an installation; not in a checkout, whose sources would count for more.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"PYTHONPYCACHEPREFIX": folder}

        async def run(statement: str) -> tuple[float, ...]:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", statement + (_WEIGH if _HAS_PROC else "\nprint(1)")),
                env=environment,
                stdout=asyncio.subprocess.PIPE,
            )
            said, _ = await process.communicate()
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            if process.returncode:
                raise RuntimeError(f"{statement} failed")
            return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3, float(said) / 1024

        def make(peer: Peer, _contender: Contender) -> Sample:
            statement = "from simplestore_async import open_session" if peer is ours else f"import {peer.module}"
            return lambda: run(statement)

        contenders = enter(scale, make)
        await compare(lambda: run("import aiohttp"), contenders, rounds=scale(41, 1))
    results = [("import, CPU time", "ms"), ("import, memory after it", "MiB")][: 2 if _HAS_PROC else 1]
    return [
        summarize(contenders, name=name, unit=unit, goal=1.03, floor_name="import aiohttp", column=column)
        for column, (name, unit) in enumerate(results)
    ]


async def measure_processes(scale: Scale) -> list[Result]:
    """Processes that start at once and need a token; they share an empty folder, if their client can."""
    processes = scale(20, 3)
    ours = scale.peers[0]

    async def run_one(code: str, *arguments: str) -> float:
        began_at = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, *arguments, cwd=_ROOT, stderr=asyncio.subprocess.PIPE
        )
        _, words = await process.communicate()
        if process.returncode:
            raise RuntimeError(words.decode().strip().rpartition("\n")[2])
        return time.perf_counter() - began_at

    async def run(code: str, *arguments: str) -> tuple[float, ...]:
        return (max(await asyncio.gather(*[run_one(code, *arguments) for _ in range(processes)])),)

    with tempfile.TemporaryDirectory() as folder:
        folders = (Path(folder, str(number)) for number in itertools.count())
        async with run_server(latency_seconds=_LATENCY_SECONDS) as server:

            def make(peer: Peer, contender: Contender) -> Sample:
                async def get_tokens() -> tuple[float, ...]:
                    before = await server.count("token_requests")
                    new = next(folders)
                    new.mkdir(mode=0o700)
                    if peer is ours:
                        sample = await run(_OUR_PROGRAM, server.token_url, str(new))
                    else:
                        sample = await run(_THEIR_PROGRAM, peer.name, json.dumps(attrs.asdict(server)), str(new))
                    contender.count_most("token requests", await server.count("token_requests") - before)
                    return sample

                return get_tokens

            contenders = enter(scale, make)
            await compare(lambda: run(_SLEEP, str(_LATENCY_SECONDS)), contenders, rounds=scale(11, 1))
    name = f"{processes} processes at once, the slowest"
    floor_name = "import aiohttp, and wait as long as the endpoint"
    return [summarize(contenders, name=name, unit="s", goal=1.3, floor_name=floor_name)]
