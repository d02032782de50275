"""Helpers for the tests of caches: tokens, directories, and keys in Redis."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from simplestore_async import TokenProvider
from simplestore_async.errors import TokenCacheError
from simplestore_async.events import CacheFailed, Event
from tests.support.tokens import make_token

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from simplestore_async import AccessToken, FileTokenCache, TokenCache
    from simplestore_async.caches.redis import RedisTokenCache
    from simplestore_async.sandbox import Sandbox
    from tests.support.redis_server import RedisServer

KEY = "key"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()
NAME = f"token-v2-{DIGEST}.json"
TOKEN = make_token()
MAX_BYTES = 64 * 1024


async def renew(sandbox: Sandbox, cache: TokenCache) -> tuple[AccessToken, list[CacheFailed]]:
    """Return the token of a new provider with *cache*, and the failures of the cache."""
    events: list[Event] = []
    provider = TokenProvider(sandbox.credentials, cache=cache, on_event=events.append)
    async with asyncio.timeout(60), provider:
        token = await provider.get_token()
    return token, [event for event in events if isinstance(event, CacheFailed)]


@contextmanager
def full_disk() -> Iterator[None]:
    """Limit files to 100 bytes, which is too little for a token."""
    import resource  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def count_descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def names_in(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def record(monkeypatch: pytest.MonkeyPatch, name: str, note: Callable[[Any], object]) -> None:
    """Call *note* with each result of `os.<name>()`."""
    function = getattr(os, name)

    def recorded(*args: Any, **options: Any) -> Any:
        result = function(*args, **options)
        note(result)
        return result

    monkeypatch.setattr(os, name, recorded)


async def use(cache: FileTokenCache, operation: str) -> Any:
    if operation == "lock":
        async with cache.renewal_lock(KEY):
            return None
    arguments: dict[str, list[Any]] = {"get": [KEY], "set": [KEY, TOKEN]}
    return await getattr(cache, operation)(*arguments.get(operation, []))


async def refusal(cache: FileTokenCache, operation: str) -> str:
    """Return the problem of *operation*, whose error names the directory and has a hint."""
    with pytest.raises(TokenCacheError) as caught:
        await use(cache, operation)
    error = caught.value
    assert (None, None) == (error.__cause__, error.__context__)
    assert error.hint
    place = f"cannot use cache directory {cache.directory}: "
    assert error.problem.startswith(place)
    return error.problem.removeprefix(place)


def put_symlink(path: Path, aside: Path) -> None:
    path.replace(aside)
    path.symlink_to(aside)


def put_dangling_symlink(path: Path, aside: Path) -> None:
    path.unlink()
    path.symlink_to(aside.with_name("nowhere"))


def put_fifo(path: Path, aside: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def put_empty_directory(path: Path, aside: Path) -> None:
    path.unlink()
    path.mkdir(0o700)


def put_directory(path: Path, aside: Path) -> None:
    put_empty_directory(path, aside)
    (path / "precious").write_text("data")


IN_THE_WAY = [put_symlink, put_dangling_symlink, put_fifo, put_empty_directory, put_directory]


def leave_file(path: Path, *, age: float) -> None:
    path.write_text("data")
    os.utime(path, (time.time() - age, time.time() - age))


OTHER_USER = 54_321


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change the owner of *path*, or without the right to do so, the owner that `os.fstat()` reports."""
    if os.geteuid() == 0:
        os.chown(path, OTHER_USER, -1)
        return
    inode, fstat = path.stat().st_ino, os.fstat

    def fstat_as_if(descriptor: int) -> os.stat_result:
        status = fstat(descriptor)
        return os.stat_result((*status[:4], OTHER_USER, *status[5:])) if status.st_ino == inode else status

    monkeypatch.setattr(os, "fstat", fstat_as_if)


# ---- Redis

PASSWORD = "canary-p:ss/w@rd"
QUOTED = "canary-p%3Ass%2Fw%40rd"


def name(namespace: str, kind: str) -> str:
    return f"{namespace}:{{{DIGEST}}}:{kind}"


async def keys_in(server: RedisServer, namespace: str) -> list[str]:
    return sorted(key.decode() for key in await server.command("KEYS", f"{namespace}:*"))


async def problem_of(call: Awaitable[object]) -> str:
    """Return the problem of the failing *call*, without the server's address."""
    with pytest.raises(TokenCacheError) as caught:
        await call
    assert caught.value.__context__ is None
    return caught.value.problem.partition(": ")[2]


async def enter(cache: RedisTokenCache) -> None:
    async with cache.renewal_lock(KEY):
        pass
