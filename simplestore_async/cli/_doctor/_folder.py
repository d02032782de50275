"""The folder of shared tokens. Rule: its `FileTokenCache` judges it, and what was made to try it is removed."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import attrs
from filelock import FileLock, Timeout

from simplestore_async import FileTokenCache
from simplestore_async.cli._folder import open_folder
from simplestore_async.errors import ConfigurationError, TokenCacheError

from ._check import Outcome, failed, ok, skipped, warning

__all__ = ["TokenFolder"]

# A token's file takes some hundred bytes, and 64 KiB at most.
_LITTLE_BYTES: Final = 1 << 20
_KEY_VARIABLES: Final = "SIMPLESTORE_CACHE_KEY", "SIMPLESTORE_CACHE_KEY_FILE"
_ELSEWHERE: Final = "name another folder, in the program by FileTokenCache(directory), here by --directory"


@attrs.frozen(eq=False)
class TokenFolder:
    """What a folder is asked: whether it can be used, what it holds, and whether it takes files and locks."""

    directory: Path | None

    async def look_at_key(self) -> Outcome:
        """Look whether its tokens are encrypted, and whether the key is one."""
        names = [name for name in _KEY_VARIABLES if os.environ.get(name)]
        try:
            open_folder(self.directory)
        except ConfigurationError as error:
            problem, _, advice = str(error).partition("; make one ")
            return failed(
                problem, advice=f"make one {advice}" if advice else f"mend it, or unset {' and '.join(names)}"
            )
        if not names:
            return ok("none: tokens are stored in clear, in files that only their owner reads", is_encrypted=False)
        return ok(f"from {' and '.join(names)}: tokens are stored encrypted", is_encrypted=True)

    async def look(self) -> Outcome:
        cache = FileTokenCache(self.directory)
        try:
            path = cache.directory
        except TokenCacheError:
            # As in many containers, where a program need not share tokens by files.
            return skipped(
                "no home directory can be found, so there is none by default", advice=_ELSEWHERE, holds_up=True
            )
        try:
            await cache.list_files()
        except TokenCacheError as error:
            return failed(error.problem, advice=error.hint, directory=str(path))
        return await asyncio.to_thread(_describe, path)

    async def count_files(self) -> Outcome:
        files = await open_folder(self.directory).list_files()
        now = time.time()
        unused = [file for file in files if file.problem]
        expired = [file for file in files if file.expires_at is not None and file.expires_at <= now]
        if not files:
            return ok("no token is stored there", files=0, expired=0, unused=0)
        told = f"{len(files)} tokens' files, {len(expired)} of them expired"
        facts = {"files": len(files), "expired": len(expired), "unused": len(unused)}
        if unused:
            problems = dict.fromkeys(file.problem for file in unused)
            return warning(
                f"{told}; from {len(unused)} no token is taken: {'; '.join(problems)}",
                advice="programs replace them as they need them; `simplestore cache clear` removes them",
                **facts,
            )
        return ok(told, **facts)

    async def try_lock(self) -> Outcome:
        """Store and lock as a provider does, in a folder inside that is removed again."""
        path = FileTokenCache(self.directory).directory
        if not path.exists():
            return skipped("there is no folder yet")
        try:
            with TemporaryDirectory(prefix="doctor-", dir=path) as scratch:
                cache = FileTokenCache(scratch)
                async with cache.renewal_lock("doctor"):
                    is_exclusive = await asyncio.to_thread(_is_locked, Path(scratch))
        except (OSError, TokenCacheError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            return failed(f"no file can be made and locked there: {reason}", advice=_ELSEWHERE)
        if not is_exclusive:
            return failed(
                "its file system grants one lock to two: processes would not wait for each other's renewal",
                advice=_ELSEWHERE,
            )
        return ok("files can be made and locked; the one that tried it is removed")


def _describe(path: Path) -> Outcome:
    try:
        status = path.stat()
    except FileNotFoundError:
        return _describe_missing(path)
    free = shutil.disk_usage(path).free
    mode = f"{stat.S_IMODE(status.st_mode):04o}"
    facts = {"directory": str(path), "exists": True, "mode": mode, "owner_id": status.st_uid, "free_bytes": free}
    told = f"{path}, mode {mode}, {_megabytes(free)} free"
    if free < _LITTLE_BYTES:
        return warning(told, advice="make room: a token that cannot be stored is not shared", **facts)
    return ok(told, **facts)


def _describe_missing(path: Path) -> Outcome:
    parent = next(each for each in path.parents if each.exists())
    facts = {"directory": str(path), "exists": False}
    if os.access(parent, os.W_OK | os.X_OK):
        return ok(f"{path} does not exist yet; it is made when it is first needed", **facts)
    return warning(f"{path} does not exist, and cannot be made in {parent}", advice=_ELSEWHERE, **facts)


def _is_locked(folder: Path) -> bool:
    """Return whether the lock that is held in *folder* keeps others out."""
    (path,) = folder.glob("*.lock")
    other = FileLock(path, thread_local=False, fallback_to_soft=False)
    with suppress(Timeout):
        other.acquire(blocking=False)
        other.release()
        return False
    return True


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):.0f} MiB"
