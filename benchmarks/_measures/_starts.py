"""Programs that start. Rule: each is started as a user's program is, with nothing imported or opened before."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from benchmarks._compare import compare, enter, summarize
from benchmarks._peers import OURS
from benchmarks._server import run_server
from simplestore_async import FileTokenCache, TokenProvider

if TYPE_CHECKING:
    from benchmarks._compare import Contender, Sample, Scale
    from benchmarks._peers import Peer
    from benchmarks._results import Result
    from benchmarks._server import Server

__all__ = ["measure_file_cache", "measure_import", "measure_processes"]

_ROOT = Path(__file__).parent.parent.parent
_LATENCY_SECONDS = 0.05
_PAUSE_SECONDS = 0.002
_SLEEP = "import asyncio, sys, aiohttp; asyncio.run(asyncio.sleep(float(sys.argv[1])))"
_OUR_PROGRAM = """
import asyncio, sys
from simplestore_async import ClientCredentials, FileTokenCache, TokenProvider

async def main(token_url, directory):
    credentials = ClientCredentials(client_id="benchmark-client", client_secret="secret", token_url=token_url)
    async with TokenProvider(credentials, cache=FileTokenCache(directory)) as provider:
        await provider.get_token()

asyncio.run(main(*sys.argv[1:]))
"""


async def _run(*arguments: str, environment: dict[str, str] | None = None) -> None:
    """Run a Python program to its end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments), cwd=_ROOT, env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, words = await process.communicate()
    if process.returncode:
        raise RuntimeError(words.decode().strip().rpartition("\n")[2])


async def measure_import(scale: Scale) -> list[Result]:
    """The CPU time of a process that imports a client, against one that imports aiohttp."""
    with tempfile.TemporaryDirectory() as directory:
        # Compiled once, as after an installation.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"PYTHONPYCACHEPREFIX": directory}

        async def run(statement: str) -> tuple[float, ...]:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            await _run("-c", statement, environment=environment)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return ((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3,)

        def make(peer: Peer, _: Contender) -> Sample:
            statement = "from simplestore_async import open_session" if peer is OURS else f"import {peer.module}"
            return lambda: run(statement)

        contenders = enter(scale.peers, make)
        await compare(lambda: run("import aiohttp"), contenders, scale)
    name, floor_name = "import, CPU time of the process", "import aiohttp"
    return [summarize("import", contenders, name=name, unit="ms", goal=1.02, floor_name=floor_name)]


def _sharing(scale: Scale) -> list[Peer]:
    return [peer for peer in scale.peers if peer.open_shared]


async def measure_processes(scale: Scale) -> list[Result]:
    """Processes that start at once and need a token, with an empty directory that they share."""
    processes = scale(20, 3)

    async def run(*arguments: str) -> tuple[float, ...]:
        async def run_one() -> float:
            began_at = time.perf_counter()
            await _run(*arguments)
            return time.perf_counter() - began_at

        return (max(await asyncio.gather(*[run_one() for _ in range(processes)])),)

    with tempfile.TemporaryDirectory() as directory:
        numbers = itertools.count()
        async with run_server(latency_seconds=_LATENCY_SECONDS) as server:

            def make(peer: Peer, contender: Contender) -> Sample:
                async def get_tokens() -> tuple[float, ...]:
                    before = await server.count_tokens()
                    shared = str(_make_directory(directory, str(next(numbers))))
                    if peer is OURS:
                        sample = await run("-c", _OUR_PROGRAM, server.token_url, shared)
                    else:
                        program = "-m", "benchmarks._measures._child", "get_token"
                        sample = await run(*program, peer.name, json.dumps(attrs.asdict(server)), shared)
                    contender.count_most("token requests", await server.count_tokens() - before)
                    return sample

                return get_tokens

            contenders = enter(_sharing(scale), make)
            await compare(lambda: run("-c", _SLEEP, str(_LATENCY_SECONDS)), contenders, scale)
    name = f"{processes} processes at once, the slowest"
    floor_name = "import aiohttp, and wait as long as the endpoint"
    return [summarize("processes", contenders, name=name, unit="s", goal=1.15, floor_name=floor_name)]


async def measure_file_cache(scale: Scale) -> list[Result]:
    """The first token of a provider from a warm file cache."""
    tokens = scale(20, 2)
    warm = set[str]()
    with tempfile.TemporaryDirectory() as directory:
        async with run_server() as server:

            def make(peer: Peer, contender: Contender) -> Sample:
                own = _make_directory(directory, peer.name)

                async def get_tokens() -> tuple[float, ...]:
                    if peer.name not in warm:
                        warm.add(peer.name)
                        await _get_token(peer, server, own)
                    before = await server.count_tokens()
                    seconds = 0.0
                    for _ in range(tokens):
                        seconds += await _get_token(peer, server, own)
                        await asyncio.sleep(_PAUSE_SECONDS)  # the thread of each ends before the next
                    contender.count_most("token requests", await server.count_tokens() - before)
                    return (seconds / tokens * 1e6,)

                return get_tokens

            async def read_files() -> tuple[float, ...]:
                path = _find_token(directory)
                seconds = 0.0
                for _ in range(tokens):
                    with ThreadPoolExecutor(1) as executor:
                        began_at = time.perf_counter()
                        await asyncio.get_running_loop().run_in_executor(executor, _read_token, path)
                        seconds += time.perf_counter() - began_at
                return (seconds / tokens * 1e6,)

            contenders = enter(_sharing(scale), make)
            await _get_token(OURS, server, Path(directory, OURS.name))
            await compare(read_files, contenders, scale)
    name = "first token from a warm file cache"
    floor_name = "a thread that reads the file, with json.loads"
    return [summarize("file-cache", contenders, name=name, unit="µs", goal=2, floor_name=floor_name)]


def _make_directory(*parts: str) -> Path:
    path = Path(*parts)
    path.mkdir(mode=0o700)
    return path


def _find_token(directory: str) -> Path:
    (path,) = Path(directory, OURS.name).glob("token-*.json")
    return path


async def _get_token(peer: Peer, server: Server, directory: Path) -> float:
    """Return the seconds of a new client's first token."""
    began_at = time.perf_counter()
    if peer is OURS:  # without the adapter's session
        async with TokenProvider(server.credentials, cache=FileTokenCache(directory)) as provider:
            await provider.get_token()
            return time.perf_counter() - began_at
    assert peer.open_shared is not None  # noqa: S101 - others do not take part
    async with peer.open_shared(server, directory) as client:
        await client.get_token()
        return time.perf_counter() - began_at


def _read_token(path: Path) -> object:
    _, _, text = path.read_bytes().partition(b"\n")  # after a digest
    return json.loads(text)
