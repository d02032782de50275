"""`FileTokenCache`: owners, modes, symlinks."""
# ruff: noqa: ASYNC240 - these tests are about files, and their loop runs nothing else

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from simplestore_async import FileTokenCache
from simplestore_async.caches import _directory
from tests.support.cache_files import (
    IN_THE_WAY,
    KEY,
    MAX_BYTES,
    NAME,
    TOKEN,
    leave_file,
    mode_of,
    names_in,
    put_directory,
    put_empty_directory,
    put_fifo,
    put_symlink,
    record,
    refusal,
    umask,
    use,
)
from tests.support.ownership import give_away
from tests.support.platforms import needs_posix_files
from tests.support.tokens import make_token

if TYPE_CHECKING:
    from collections.abc import Callable


pytestmark = needs_posix_files


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
async def test_modes(cache: FileTokenCache, directory: Path, mask: int) -> None:
    """Under any umask, the directory is 0700 and the file 0600."""
    with umask(mask):
        await cache.set(KEY, TOKEN)
    assert (0o700, 0o600) == (mode_of(directory), mode_of(directory / NAME))


async def test_modes_of_a_lock(cache: FileTokenCache, directory: Path) -> None:
    """A lock is taken in a private directory, too, on a private file."""
    with umask(0):
        async with cache.renewal_lock(KEY):
            assert [(0o700, 0o600)] == [(mode_of(directory), mode_of(path)) for path in directory.iterdir()]


async def test_private_from_the_first_byte(
    cache: FileTokenCache, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is private, and its directory too, from the moment that it exists."""
    made: list[tuple[int, int]] = []

    def note(descriptor: int) -> None:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and Path.cwd().samefile(directory.parent):
            made.append((stat.S_IMODE(status.st_mode), mode_of(directory)))

    monkeypatch.chdir(directory.parent)
    record(monkeypatch, "open", note)
    with umask(0):
        await cache.set(KEY, TOKEN)
    assert [(0o600, 0o700)] == made


@pytest.mark.parametrize("mode", [0o601, 0o602, 0o604, 0o610, 0o620, 0o640, 0o666, 0o777])
async def test_a_wider_file_is_a_miss(cache: FileTokenCache, path: Path, mode: int) -> None:
    """A file that anybody else could have read or written is a miss, until it is replaced by a private one."""
    path.chmod(mode)
    assert await cache.get(KEY) is None

    await cache.set(KEY, TOKEN)

    assert TOKEN == await cache.get(KEY)
    assert 0o600 == mode_of(path)


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
async def test_what_is_one_s_own_may_be_narrower(cache: FileTokenCache, path: Path, mode: int) -> None:
    """The owner's own bits do not matter."""
    path.chmod(mode)
    assert TOKEN == await cache.get(KEY)


async def test_another_user_s_file_is_a_miss(
    cache: FileTokenCache, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that belongs to another user is a miss, and is replaced by one's own."""
    give_away(path, monkeypatch)
    assert await cache.get(KEY) is None

    await cache.set(KEY, TOKEN)

    assert TOKEN == await cache.get(KEY)
    assert os.geteuid() == path.stat().st_uid


@pytest.mark.parametrize("mode", [0o700, 0o711, 0o744, 0o755])
async def test_a_directory_that_others_may_look_at(
    cache: FileTokenCache, directory: Path, path: Path, mode: int
) -> None:
    """A directory that others can list, but not write to, is good, and is left as it is."""
    directory.chmod(mode)
    assert TOKEN == await cache.get(KEY)
    await cache.set(KEY, make_token("second"))
    assert make_token("second") == await cache.get(KEY)
    assert mode == mode_of(directory)


@pytest.mark.parametrize("operation", ["get", "set", "lock"])
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o770, 0o777, 0o2770, 0o2775])
async def test_wide_directory(
    *,
    cache: FileTokenCache,
    directory: Path,
    path: Path,
    operation: str,
    mode: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A directory of ours that others may write to, as Kubernetes' fsGroup makes it, becomes 0700, with one warning."""
    (directory / "lost+found").mkdir()
    directory.chmod(mode)
    for _ in range(2):
        await use(cache, operation)
    assert 0o700 == mode_of(directory)
    expected = f"cache directory {directory}: mode {mode:04o} gave other users access; changed to 0700"
    assert [expected] == [line.getMessage() for line in caplog.records if line.levelno >= logging.WARNING]


@pytest.mark.parametrize("operation", ["get", "set", "lock"])
@pytest.mark.parametrize(("mode", "name"), [(0o1777, NAME), (0o777, "other program"), (0o2775, "other program")])
async def test_shared_directory(
    *, cache: FileTokenCache, directory: Path, path: Path, operation: str, mode: int, name: str
) -> None:
    """A directory that is shared on purpose (sticky, or with files of other programs) is refused, and left alone."""
    before = path.read_bytes()
    (directory / name).touch()
    directory.chmod(mode)

    assert f"mode {mode:04o} gives other users access" == await refusal(cache, operation)

    assert mode == mode_of(directory)
    assert before == path.read_bytes()
    assert sorted({NAME, name}) == names_in(directory)


async def test_mode_that_cannot_be_changed(
    cache: FileTokenCache, directory: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory whose mode cannot be changed is refused."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError

    directory.chmod(0o770)
    monkeypatch.setattr(os, "chmod", refuse)
    assert "mode 0770 gives other users access" == await refusal(cache, "get")


async def test_parents(tmp_path: Path) -> None:
    """Missing parents are made private, under any umask."""
    with umask(0):
        await FileTokenCache(tmp_path / "a" / "b" / "c").set(KEY, TOKEN)
    assert [0o700] * 3 == [mode_of(tmp_path / name) for name in ("a", "a/b", "a/b/c")]


@pytest.mark.parametrize("operation", ["get", "set"])
async def test_another_user_s_directory(
    cache: FileTokenCache, directory: Path, path: Path, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory of another user's is refused, with that reason."""
    give_away(directory, monkeypatch)
    assert "it belongs to another user" in await refusal(cache, operation)


@pytest.mark.parametrize("operation", ["get", "set", "list_files", "clear"])
@pytest.mark.parametrize("is_dangling", [False, True])
async def test_a_symlink_in_the_directory_s_place(
    tmp_path: Path, directory: Path, path: Path, operation: str, *, is_dangling: bool
) -> None:
    """A symlink is refused as a directory, for any target; the error names it."""
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere" if is_dangling else directory)

    message = await refusal(FileTokenCache(link), operation)

    assert "symlink" in message.replace(str(link), "")
    assert [NAME] == names_in(directory)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("put", IN_THE_WAY)
async def test_what_is_no_file_is_replaced(
    cache: FileTokenCache, path: Path, tmp_path: Path, put: Callable[[Path, Path], None]
) -> None:
    """Anything but a regular file is a cache miss, at once, and a private file replaces it; no symlink is followed."""
    before = path.read_bytes()
    put(path, tmp_path / "aside")

    async with asyncio.timeout(60):
        assert await cache.get(KEY) is None
        await cache.set(KEY, make_token("second"))

    assert make_token("second") == await cache.get(KEY)
    assert stat.S_ISREG(path.lstat().st_mode)
    assert 0o600 == mode_of(path)
    assert [before] * (put is put_symlink) == [each.read_bytes() for each in tmp_path.glob("aside")]


async def test_a_fifo_is_not_read(cache: FileTokenCache, path: Path) -> None:
    """A FIFO is a cache miss, even while this key's token is written to it, and its content stays."""
    content = path.read_bytes()
    put_fifo(path, path)
    fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(fifo, content)
        assert await cache.get(KEY) is None
        assert content == os.read(fifo, MAX_BYTES)
    finally:
        os.close(fifo)


@pytest.mark.parametrize("operation", ["get", "set"])
@pytest.mark.parametrize("swap_for", [os.rename, os.symlink], ids=["directory", "symlink"])
@pytest.mark.skipif(not _directory._HAS_DIR_FD, reason="needs directory descriptors")
async def test_a_directory_that_is_swapped(
    *,
    cache: FileTokenCache,
    path: Path,
    tmp_path: Path,
    operation: str,
    swap_for: Callable[[Path, Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A directory swapped after it was opened and checked has no effect: the first one is used."""
    directory = path.parent
    shutil.copytree(directory, tmp_path / "hostile")
    (tmp_path / "hostile" / NAME).write_bytes(path.read_bytes().replace(b"canary", b"hostile"))
    leave_file(tmp_path / "hostile" / f"{NAME}.x.tmp", age=70)
    leave_file(directory / f"{NAME}.y.tmp", age=70)

    def swap(status: os.stat_result) -> None:
        if stat.S_ISDIR(status.st_mode):
            directory.rename(tmp_path / "first")
            swap_for(tmp_path / "hostile", directory)

    record(monkeypatch, "fstat", swap)
    got = await use(cache, operation)

    assert (TOKEN if operation == "get" else None) == got
    assert b"hostile" in path.read_bytes()
    assert [NAME, f"{NAME}.x.tmp"] == names_in(directory)
    assert [NAME, f"{NAME}.y.tmp"][: 1 if operation == "set" else 2] == names_in(tmp_path / "first")


@pytest.mark.parametrize("put", [put_empty_directory, put_directory])
async def test_a_directory_is_moved_aside(
    cache: FileTokenCache, directory: Path, path: Path, put: Callable[[Path, Path], None]
) -> None:
    """A directory in the file's place is kept under another name with all that is in it, as often as one is there."""
    contents = []
    for _ in range(2):
        put(path, path)
        contents.append(names_in(path))
        await cache.set(KEY, TOKEN)
    moved = [name for name in names_in(directory) if name != NAME]
    assert contents == [names_in(directory / name) for name in moved]
    assert all(name.startswith(NAME) and name.endswith(".directory") for name in moved)
