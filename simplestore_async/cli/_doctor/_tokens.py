"""Shared tokens: the cache directory, or Redis. Rule: the caches judge; what a check creates is removed."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import attrs
from filelock import FileLock, Timeout

from simplestore_async import FileTokenCache
from simplestore_async.cli._caches import list_redis_tokens, open_directory
from simplestore_async.cli._output import CommandError
from simplestore_async.errors import TokenCacheError

from ._check import Result, failed, ok, permissions, skipped, warning

__all__ = ["Directory", "check_key", "check_redis"]

# A stored token takes some hundred bytes, and 64 KiB at most.
_LITTLE_BYTES: Final = 1 << 20
_KEY_VARIABLES: Final = "SIMPLESTORE_CACHE_KEY", "SIMPLESTORE_CACHE_KEY_FILE"
_ELSEWHERE: Final = "choose another directory: FileTokenCache(directory) in a program, --directory here"


def check_key() -> Result:
    """Check the encryption key of stored tokens."""
    open_directory()  # reads the key
    names = [name for name in _KEY_VARIABLES if os.environ.get(name)]
    if not names:
        return ok("none; tokens are stored unencrypted, readable by their owner only", is_encrypted=False)
    return ok(f"from {' and '.join(names)}; tokens are stored encrypted", is_encrypted=True)


async def check_redis() -> Result:
    """Count the tokens in the environment's Redis server."""
    began_at = time.perf_counter()
    try:
        tokens = len(await list_redis_tokens())
    except CommandError as error:
        return failed(
            error.message,
            advice="check its host, port, user, password and TLS (rediss://), and whether the server is up; until "
            "then each process requests its own token",
        )
    seconds = time.perf_counter() - began_at
    return ok(
        f"server reached; tokens stored: {tokens} (in {seconds * 1000:.0f} ms)", duration_seconds=seconds, tokens=tokens
    )


@attrs.frozen(eq=False)
class Directory:
    """A cache directory: its access, its tokens, and its file system."""

    path: Path | None

    async def check(self) -> Result:
        cache = FileTokenCache(self.path)
        try:
            path = cache.directory
        except TokenCacheError:
            # As in many containers, where a program may not need it.
            return skipped("no home directory, so there is no default", advice=_ELSEWHERE, is_blocking=True)
        try:
            await cache.list_files()
        except TokenCacheError as error:
            return failed(error.problem, advice=error.hint or _ELSEWHERE, directory=str(path))
        return await asyncio.to_thread(_describe, path)

    async def check_files(self) -> Result:
        files = await open_directory(self.path).list_files()
        now = time.time()
        problems = [file.problem for file in files if file.problem]
        expired = sum(file.expires_at is not None and file.expires_at <= now for file in files)
        shown = f"{len(files)} token files, {expired} expired"
        facts = {"files": len(files), "expired": expired, "unused": len(problems)}
        if problems:
            return warning(
                f"{shown}; {len(problems)} not usable: {'; '.join(dict.fromkeys(problems))}",
                advice="programs replace them when needed; `simplestore cache clear` removes them",
                **facts,
            )
        return ok(shown, **facts)

    async def check_lock(self) -> Result:
        """Store and lock as a provider does, in a directory inside that is removed again."""
        path = FileTokenCache(self.path).directory
        if not path.exists():
            return skipped("there is no directory yet")
        try:
            with TemporaryDirectory(prefix="doctor-", dir=path) as scratch:
                cache = FileTokenCache(scratch)
                async with cache.renewal_lock("doctor"):
                    is_exclusive = await asyncio.to_thread(_is_locked, Path(scratch))
        except (TokenCacheError, OSError) as error:
            problem = error.problem if isinstance(error, TokenCacheError) else error.strerror or str(error)
            return failed(f"files cannot be created and locked: {problem}", advice=_ELSEWHERE)
        if not is_exclusive:
            shown = "the file system grants one lock twice; processes would not wait for each other's renewal"
            return failed(shown, advice=_ELSEWHERE)
        return ok("files can be created and locked (test file removed)")


def _describe(path: Path) -> Result:
    try:
        status = path.stat()
    except FileNotFoundError:
        return _describe_missing(path)
    free = shutil.disk_usage(path).free
    facts = {"directory": str(path), "exists": True, **permissions(status), "free_bytes": free}
    mode = f", mode {facts['mode']}" if "mode" in facts else ""
    shown = f"{path}{mode}, {free / (1 << 20):.0f} MiB free"
    if free < _LITTLE_BYTES:
        return warning(shown, advice="free some space; a token that cannot be stored is not shared", **facts)
    return ok(shown, **facts)


def _describe_missing(path: Path) -> Result:
    parent = next(each for each in path.parents if each.exists())
    facts = {"directory": str(path), "exists": False}
    if os.access(parent, os.W_OK | os.X_OK):
        return ok(f"{path} does not exist yet; it is created at first use", **facts)
    return warning(f"{path} does not exist, and cannot be created in {parent}", advice=_ELSEWHERE, **facts)


def _is_locked(directory: Path) -> bool:
    """Return whether the lock held in *directory* keeps others out."""
    (path,) = directory.glob("*.lock")
    other = FileLock(path, thread_local=False, fallback_to_soft=False)
    with suppress(Timeout):
        other.acquire(blocking=False)
        other.release()
        return False
    return True
