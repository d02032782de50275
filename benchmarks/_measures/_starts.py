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

from benchmarks._measure import Contender, compare, summarize
from benchmarks._peers import OURS
from benchmarks._server import run_server
from simplestore_async import FileTokenCache, TokenProvider

from ._scale import enter

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from benchmarks._measure import Sample
    from benchmarks._peers import Peer
    from benchmarks._results import Result
    from benchmarks._server import Server

    from ._scale import Scale

__all__ = ["measure_file_cache", "measure_import", "measure_processes"]

_ROOT = Path(__file__).parent.parent.parent
_LATENCY_SECONDS = 0.05
_HAS_PROC = Path("/proc/self/status").exists()
_WEIGH = "\nprint(next((line.split()[1] for line in open('/proc/self/status') if line.startswith('VmRSS')), 0))"
_SLEEP = "import asyncio, sys, aiohttp; asyncio.run(asyncio.sleep(float(sys.argv[1])))"
_PAUSE_SECONDS = 0.002
_ALONE_NOTE = "the checks of directory, file and token, without a provider"
_OUR_PROGRAM = """
import asyncio, sys
from simplestore_async import ClientCredentials, FileTokenCache, TokenProvider

async def main(token_url, directory):
    credentials = ClientCredentials(client_id="benchmark-client", client_secret="secret", token_url=token_url)
    async with TokenProvider(credentials, cache=FileTokenCache(directory)) as provider:
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
    with tempfile.TemporaryDirectory() as directory:
        # Compiled once, as after an installation.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"PYTHONPYCACHEPREFIX": directory}

        async def run(statement: str) -> tuple[float, ...]:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", statement + (_WEIGH if _HAS_PROC else "\nprint(1)")),
                env=environment,
                stdout=asyncio.subprocess.PIPE,
            )
            printed, _ = await process.communicate()
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            if process.returncode:
                raise RuntimeError(f"{statement} failed")
            return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3, float(printed) / 1024

        def make(peer: Peer, _contender: Contender) -> Sample:
            statement = "from simplestore_async import open_session" if peer is OURS else f"import {peer.module}"
            return lambda: run(statement)

        contenders = enter(scale, make)
        await compare(lambda: run("import aiohttp"), contenders, rounds=scale(41, 1))
    results = [("import, CPU time", "ms"), ("import, memory after it", "MiB")][: 2 if _HAS_PROC else 1]
    return [
        summarize("import", contenders, name=name, unit=unit, goal=1.02, floor_name="import aiohttp", column=column)
        for column, (name, unit) in enumerate(results)
    ]


async def measure_processes(scale: Scale) -> list[Result]:
    """Processes that start at once and need a token, with an empty directory if their client can share tokens."""
    processes = scale(20, 3)

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

    with tempfile.TemporaryDirectory() as directory:
        directories = (Path(directory, str(number)) for number in itertools.count())
        async with run_server(latency_seconds=_LATENCY_SECONDS) as server:

            def make(peer: Peer, contender: Contender) -> Sample:
                async def get_tokens() -> tuple[float, ...]:
                    before = await server.count("token_requests")
                    new = next(directories)
                    new.mkdir(mode=0o700)
                    if peer is OURS:
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
    return [summarize("processes", contenders, name=name, unit="s", goal=1.15, floor_name=floor_name)]


async def measure_file_cache(scale: Scale) -> list[Result]:
    """The first token of a provider from a warm file cache."""
    tokens = scale(20, 2)
    warm = set[Path]()
    with tempfile.TemporaryDirectory() as directory:
        directories = {peer.name: _make_directory(directory, peer.name) for peer in (OURS, *scale.peers)}
        async with run_server() as server:

            def make(peer: Peer, contender: Contender) -> Sample:
                own = directories[peer.name]

                async def get_tokens() -> tuple[float, ...]:
                    if own not in warm:
                        warm.add(own)
                        await _get_token(peer, server, own)
                    before = await server.count("token_requests")
                    seconds = await _total_seconds(lambda: _get_token(peer, server, own), tokens)
                    contender.count_most("token requests", await server.count("token_requests") - before)
                    return (seconds / tokens * 1e6,)

                return get_tokens

            async def read_file() -> tuple[float, ...]:
                path = _find_token(directories[OURS.name])
                return (await _total_seconds(lambda: _read(path), tokens) / tokens * 1e6,)

            async def read_cache() -> tuple[float, ...]:
                key = server.credentials.cache_key
                return (
                    await _total_seconds(lambda: _get_from_cache(directories[OURS.name], key), tokens) / tokens * 1e6,
                )

            contenders = enter(
                scale, make, refuse=lambda peer: "" if peer.open_shared else "keeps its tokens in memory only"
            )
            contenders.append(Contender("FileTokenCache alone", read_cache, _ALONE_NOTE, is_peer=False))
            await _get_token(OURS, server, directories[OURS.name])
            await compare(read_file, contenders, rounds=scale(51, 2))
    name = "first token from a warm file cache"
    floor_name = "a thread that reads the file, with json.loads"
    return [summarize("file-cache", contenders, name=name, unit="µs", goal=2, floor_name=floor_name)]


def _make_directory(*parts: str) -> Path:
    path = Path(*parts)
    path.mkdir(mode=0o700)
    return path


def _find_token(directory: Path) -> Path:
    (path,) = directory.glob("token-*.json")
    return path


async def _total_seconds(sample: Callable[[], Coroutine[Any, Any, float]], count: int) -> float:
    """Return the sum of *count* samples; a pause lets the thread of each end before the next."""
    seconds = 0.0
    for _ in range(count):
        seconds += await sample()
        await asyncio.sleep(_PAUSE_SECONDS)
    return seconds


async def _get_token(peer: Peer, server: Server, directory: Path) -> float:
    """Return the seconds of a new client's first token."""
    began_at = time.perf_counter()
    if peer is OURS:  # without the adapter's session
        async with TokenProvider(server.credentials, cache=FileTokenCache(directory)) as provider:
            await provider.get_token()
            return time.perf_counter() - began_at
    assert peer.open_shared is not None  # noqa: S101 - others were refused
    async with peer.open_shared(server, directory) as client:
        await client.get_token()
        return time.perf_counter() - began_at


async def _get_from_cache(directory: Path, key: str) -> float:
    """Return how many seconds this package's cache takes alone."""
    cache = FileTokenCache(directory)
    began_at = time.perf_counter()
    await cache.get(key)
    return time.perf_counter() - began_at


async def _read(path: Path) -> float:
    """Return the seconds of the floor."""
    with ThreadPoolExecutor(1) as executor:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(executor)
        began_at = time.perf_counter()
        await asyncio.to_thread(_read_token, path)
        seconds = time.perf_counter() - began_at
        loop.set_default_executor(ThreadPoolExecutor())  # has no thread yet
        return seconds


def _read_token(path: Path) -> object:
    _, _, text = path.read_bytes().partition(b"\n")  # after a digest
    return json.loads(text)
