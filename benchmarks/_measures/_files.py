"""A token that another process left in a file. Rule: both sides start without a thread, as a new process does."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._measure import Contender, compare, summarize
from benchmarks._server import run_server
from simplestore_async import FileTokenCache, TokenProvider

from ._scale import enter

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from benchmarks._measure import Result, Sample
    from benchmarks._peers import Peer
    from benchmarks._server import Server

    from ._scale import Scale

__all__ = ["measure_file_cache"]

_PAUSE_SECONDS = 0.002
_ALONE_NOTE = "what it costs to trust the folder, the file and the token in it; no client, no renewal"


async def measure_file_cache(scale: Scale) -> list[Result]:
    """The first token of a provider whose file cache has one."""
    tokens = scale(20, 2)
    ours, warm = scale.peers[0], set[Path]()
    with tempfile.TemporaryDirectory() as folder:
        folders = {peer.name: _make_folder(folder, peer.name) for peer in scale.peers}
        async with run_server() as server:

            def make(peer: Peer, contender: Contender) -> Sample:
                own = folders[peer.name]

                async def get_tokens() -> tuple[float, ...]:
                    if own not in warm:
                        warm.add(own)
                        await _get_token(peer, server, own, is_ours=peer is ours)
                    before = await server.count("token_requests")
                    seconds = await _total_seconds(lambda: _get_token(peer, server, own, is_ours=peer is ours), tokens)
                    contender.count_most("token requests", await server.count("token_requests") - before)
                    return (seconds / tokens * 1e6,)

                return get_tokens

            async def read_file() -> tuple[float, ...]:
                path = _find_token(folders[ours.name])
                return (await _total_seconds(lambda: _read(path), tokens) / tokens * 1e6,)

            async def read_cache() -> tuple[float, ...]:
                key = server.credentials.cache_key
                return (await _total_seconds(lambda: _get_from_cache(folders[ours.name], key), tokens) / tokens * 1e6,)

            contenders = enter(
                scale, make, refuse=lambda peer: "" if peer.open_shared else "keeps its tokens in memory only"
            )
            contenders.append(
                Contender(name="FileTokenCache alone", is_peer=False, note=_ALONE_NOTE, sample=read_cache)
            )
            await _get_token(ours, server, folders[ours.name], is_ours=True)
            await compare(read_file, contenders, rounds=scale(51, 2))
    name = "first token from a warm file cache"
    floor_name = "a thread that reads the file, with json.loads"
    return [summarize(contenders, name=name, unit="µs", goal=2, floor_name=floor_name)]


def _make_folder(*parts: str) -> Path:
    path = Path(*parts)
    path.mkdir(mode=0o700)
    return path


def _find_token(folder: Path) -> Path:
    (path,) = folder.glob("token-*.json")
    return path


async def _total_seconds(sample: Callable[[], Coroutine[Any, Any, float]], count: int) -> float:
    """Return the sum of so many samples: the thread that one leaves behind ends before the next begins."""
    seconds = 0.0
    for _ in range(count):
        seconds += await sample()
        await asyncio.sleep(_PAUSE_SECONDS)
    return seconds


async def _get_token(peer: Peer, server: Server, folder: Path, *, is_ours: bool) -> float:
    """Return how many seconds a new client takes for its first token."""
    began_at = time.perf_counter()
    if is_ours:  # without the session that an adapter has
        async with TokenProvider(server.credentials, cache=FileTokenCache(folder)) as provider:
            await provider.get_token()
            return time.perf_counter() - began_at
    assert peer.open_shared is not None  # noqa: S101 - else it was refused
    async with peer.open_shared(server, folder) as client:
        await client.get_token()
        return time.perf_counter() - began_at


async def _get_from_cache(folder: Path, key: str) -> float:
    """Return how many seconds this package's cache takes by itself."""
    cache = FileTokenCache(folder)
    began_at = time.perf_counter()
    await cache.get(key)
    return time.perf_counter() - began_at


async def _read(path: Path) -> float:
    """Return how many seconds the floor takes."""
    with ThreadPoolExecutor(1) as executor:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(executor)
        began_at = time.perf_counter()
        await asyncio.to_thread(_read_token, path)
        seconds = time.perf_counter() - began_at
        loop.set_default_executor(ThreadPoolExecutor())  # which has no thread yet
        return seconds


def _read_token(path: Path) -> object:
    _, _, text = path.read_bytes().partition(b"\n")  # after a digest
    return json.loads(text)
