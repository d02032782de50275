"""`FileTokenCache`: locks, threads, forks and killed writers."""
# ruff: noqa: ASYNC240 - these tests are about files, and their loop runs nothing else

from __future__ import annotations

import asyncio
import errno
import gc
import os
import subprocess
import sys
import threading
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from simplestore_async.errors import TokenCacheError
from tests.support.cache_files import (
    IN_THE_WAY,
    KEY,
    NAME,
    TOKEN,
    count_descriptors,
    full_disk,
    leave_file,
    names_in,
    record,
    refusal,
)
from tests.support.platforms import needs_fork, needs_posix_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from simplestore_async import FileTokenCache


async def test_lock_is_polled(cache: FileTokenCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiter polls a held lock every 20 ms."""
    sleep = asyncio.sleep
    pauses: list[float] = []
    async with AsyncExitStack() as holder:
        await holder.enter_async_context(cache.renewal_lock(KEY))

        async def note_pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                await holder.aclose()
            await sleep(0)

        monkeypatch.setattr(asyncio, "sleep", note_pause)
        async with cache.renewal_lock(KEY):
            assert [0.02] * 3 == pauses


async def test_cancelled_release(cache: FileTokenCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock whose release is cancelled while the cache's thread is busy is released afterwards."""
    lock, is_over = cache.renewal_lock(KEY), threading.Event()
    await lock.__aenter__()
    record(monkeypatch, "open", lambda _: is_over.wait(10))
    reading = asyncio.create_task(cache.get(KEY))
    leaving = asyncio.create_task(lock.__aexit__(None, None, None))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    is_over.set()
    await reading
    await cache.get(KEY)  # the thread has handled the release by now
    assert leaving.cancelled()

    del lock, leaving
    gc.collect()

    async with asyncio.timeout(60), cache.renewal_lock(KEY):
        pass


@needs_posix_files
async def test_file_system_without_locks(cache: FileTokenCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """If files cannot be locked, the lock fails instead of using another kind that a killed holder would keep."""

    def flock(*_: Any) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(TokenCacheError, match=f"{os.strerror(errno.ENOSYS)}; fix it or choose another directory"):
        await cache.renewal_lock(KEY).__aenter__()


async def test_stale_temporary_files(cache: FileTokenCache, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write removes temporary files of any key that are older than a minute, and no other files."""
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0)
    other = f"token-v2-{'0' * 64}.json"
    stale = [f"{NAME}.0123456789abcdef.tmp", f"{other}.0123456789abcdef.tmp"]
    kept = [other, "notes.tmp", f"old-{NAME}.tmp", f"{NAME}.tmp.bak", f"{NAME}.0123.directory"]
    young = [f"{NAME}.fedcba9876543210.tmp", f"{other}.fedcba9876543210.tmp"]
    for name in stale:
        leave_file(cache.directory / name, age=61)
    for name in kept:
        leave_file(cache.directory / name, age=100_000)
    for name in young:
        leave_file(cache.directory / name, age=60)

    assert TOKEN == await cache.get(KEY)
    assert set(stale) < set(names_in(cache.directory))
    await cache.set(KEY, TOKEN)

    assert sorted([NAME, *kept, *young]) == names_in(cache.directory)


@needs_posix_files
async def test_stale_symlinks_and_directories(cache: FileTokenCache, path: Path, tmp_path: Path) -> None:
    """A directory, or a fresh symlink to an old file, with the name of a temporary file is kept."""
    (cache.directory / f"{NAME}.a.tmp").mkdir()
    os.utime(cache.directory / f"{NAME}.a.tmp", (0, 0))
    leave_file(tmp_path / "target", age=100_000)
    (cache.directory / f"{NAME}.b.tmp").symlink_to(tmp_path / "target")

    await cache.set(KEY, TOKEN)

    assert [NAME, f"{NAME}.a.tmp", f"{NAME}.b.tmp"] == names_in(cache.directory)


@needs_posix_files
@pytest.mark.parametrize("put", [None, *IN_THE_WAY])
async def test_no_descriptor_leaks(
    cache: FileTokenCache, directory: Path, path: Path, tmp_path: Path, put: Callable[[Path, Path], None] | None
) -> None:
    """Reads and writes leave no descriptor open, whatever is in place of the file, and neither do refused ones."""
    before = count_descriptors()
    if put:
        put(path, tmp_path / "aside")
    for _ in range(3):
        await cache.get(KEY)
    with full_disk():
        await refusal(cache, "set")
    await cache.set(KEY, TOKEN)
    directory.chmod(0o1777)
    for operation in ["get", "set"]:
        await refusal(cache, operation)
    assert before == count_descriptors()


async def test_one_thread(cache: FileTokenCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file operation of a cache, concurrent or later, runs in one thread, which is not the event loop's."""
    threads: dict[str, set[int]] = {name: set() for name in ("open", "replace", "scandir", "fstat", "mkdir")}

    def note_thread(seen: set[int]) -> Callable[[Any], None]:
        return lambda _: seen.add(threading.get_ident())

    for name, seen in threads.items():
        record(monkeypatch, name, note_thread(seen))

    for _ in range(3):
        await asyncio.gather(cache.set(KEY, TOKEN), cache.get(KEY), cache.set(KEY, TOKEN))

    (thread,) = set.union(*threads.values())
    assert [{thread}] * 5 == list(threads.values())
    assert threading.get_ident() != thread


_KILLED_WRITERS = """
import asyncio, os, signal, sys, threading
from simplestore_async import AccessToken, FileTokenCache


def write_and_be_killed(step):
    # Kill at the given call within the cache's thread.
    def count(*_):
        nonlocal step
        step -= 1
        if not step:
            os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(count)
    asyncio.run(FileTokenCache(sys.argv[1]).set("key", new))


def read():
    return asyncio.run(FileTokenCache(sys.argv[1]).get("key"))


old, new = (AccessToken(value, issued_at=1_700_000_000, expires_at=1_700_003_600) for value in ("old", "new" * 5000))
seen = []
asyncio.run(FileTokenCache(sys.argv[1]).set("key", old))
while True:
    process = os.fork()
    if not process:
        write_and_be_killed(len(seen) + 1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code != -signal.SIGKILL:
        break
    seen.append({old: "old", new: "new"}.get(read(), "neither"))
print(code, len(seen), seen.count("old"), seen.count("new"), seen == sorted(seen, reverse=True), read() == new)
"""


@pytest.mark.slow
@needs_fork
def test_a_writer_that_is_killed(tmp_path: Path) -> None:
    """A writer that is killed at any step leaves the old or the new token, and never part of one."""
    command = [sys.executable, "-P", "-W", "ignore::DeprecationWarning", "-c", _KILLED_WRITERS, str(tmp_path)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (0, "") == (child.returncode, child.stderr)
    code, killed, old, new, one_change, is_new = child.stdout.split()

    assert ("0", "True", "True") == (code, one_change, is_new)
    assert int(killed) == int(old) + int(new)
    assert min(int(old), int(new)) > 20
