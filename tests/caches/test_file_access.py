"""`FileTokenCache`: owners, modes and symlinks."""
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
from tests.support.cache_files import (
    IN_THE_WAY,
    KEY,
    MAX_BYTES,
    NAME,
    TOKEN,
    give_away,
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
from tests.support.platforms import needs_posix_files
from tests.support.tokens import make_token

if TYPE_CHECKING:
    from collections.abc import Callable


pytestmark = needs_posix_files


async def test_modes_of_a_lock(cache: FileTokenCache, directory: Path) -> None:
    """A renewal lock creates a private directory and a private file."""
    with umask(0):
        async with cache.renewal_lock(KEY):
            assert [(0o700, 0o600)] == [(mode_of(directory), mode_of(path)) for path in directory.iterdir()]


async def test_private_from_the_first_byte(cache: FileTokenCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """File and directory are private from the moment they are created."""
    modes: list[tuple[int, int]] = []

    def note(descriptor: int) -> None:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and Path.cwd().samefile(cache.directory.parent):
            modes.append((stat.S_IMODE(status.st_mode), mode_of(cache.directory)))

    monkeypatch.chdir(cache.directory.parent)
    record(monkeypatch, "open", note)
    with umask(0):
        await cache.set(KEY, TOKEN)
    assert [(0o600, 0o700)] == modes
    assert (0o700, 0o600) == (mode_of(cache.directory), mode_of(cache.directory / NAME))


@pytest.mark.parametrize("mode", [0o601, 0o602, 0o604, 0o610, 0o620, 0o640, 0o666, 0o777])
async def test_wider_mode(cache: FileTokenCache, path: Path, mode: int) -> None:
    """A file that other users could read or write is a cache miss and is replaced by a private one."""
    path.chmod(mode)
    assert await cache.get(KEY) is None

    await cache.set(KEY, TOKEN)

    assert TOKEN == await cache.get(KEY)
    assert 0o600 == mode_of(path)


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
async def test_owner_mode(cache: FileTokenCache, path: Path, mode: int) -> None:
    """A file is read whatever the mode bits of its owner."""
    path.chmod(mode)
    assert TOKEN == await cache.get(KEY)


async def test_file_of_another_user(cache: FileTokenCache, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of another user is a cache miss and is replaced."""
    give_away(path, monkeypatch)
    assert await cache.get(KEY) is None

    await cache.set(KEY, TOKEN)

    assert TOKEN == await cache.get(KEY)
    assert os.geteuid() == path.stat().st_uid


@pytest.mark.parametrize("mode", [0o700, 0o711, 0o744, 0o755])
async def test_readable_directory(cache: FileTokenCache, directory: Path, path: Path, mode: int) -> None:
    """A directory that other users can list but not write to is used and keeps its mode."""
    directory.chmod(mode)
    assert TOKEN == await cache.get(KEY)
    await cache.set(KEY, make_token("second"))
    assert make_token("second") == await cache.get(KEY)
    assert mode == mode_of(directory)


@pytest.mark.parametrize("operation", ["get", "set", "lock"])
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o770, 0o777, 0o2770, 0o2775])
async def test_wide_directory(
    *, cache: FileTokenCache, directory: Path, path: Path, operation: str, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A directory that others may write to, as with a Kubernetes fsGroup, is changed to 0700 with one warning."""
    (directory / "lost+found").mkdir()
    directory.chmod(mode)
    for _ in range(2):
        await use(cache, operation)
    assert 0o700 == mode_of(directory)
    expected = f"cache directory {directory}: mode {mode:04o} gave other users access; changed to 0700"
    assert [expected] == [line.getMessage() for line in caplog.records if line.levelno >= logging.WARNING]


@pytest.mark.parametrize("operation", ["get", "set", "lock"])
@pytest.mark.parametrize(("mode", "name"), [(0o1777, NAME), (0o777, "other program"), (0o2775, "other program")])
async def test_shared_directory(*, cache: FileTokenCache, path: Path, operation: str, mode: int, name: str) -> None:
    """A shared directory, with a sticky bit or files of other programs, is refused and not changed."""
    before = path.read_bytes()
    (cache.directory / name).touch()
    cache.directory.chmod(mode)

    assert f"mode {mode:04o} gives other users access" == await refusal(cache, operation)

    assert mode == mode_of(cache.directory)
    assert before == path.read_bytes()
    assert sorted({NAME, name}) == names_in(cache.directory)


async def test_fixed_mode(cache: FileTokenCache, directory: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory whose mode is too wide and cannot be changed is refused."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError

    directory.chmod(0o770)
    monkeypatch.setattr(os, "chmod", refuse)
    assert "mode 0770 gives other users access" == await refusal(cache, "get")


async def test_parents(tmp_path: Path) -> None:
    """Missing parent directories are created private, whatever the umask."""
    with umask(0):
        await FileTokenCache(tmp_path / "a" / "b" / "c").set(KEY, TOKEN)
    assert [0o700] * 3 == [mode_of(tmp_path / name) for name in ("a", "a/b", "a/b/c")]


@pytest.mark.parametrize("operation", ["get", "set"])
async def test_directory_of_another_user(
    cache: FileTokenCache, directory: Path, path: Path, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory of another user is refused with that reason."""
    give_away(directory, monkeypatch)
    assert "it belongs to another user" in await refusal(cache, operation)


@pytest.mark.parametrize("operation", ["get", "set", "list_files", "clear"])
@pytest.mark.parametrize("is_dangling", [False, True])
async def test_symlink_as_directory(
    tmp_path: Path, directory: Path, path: Path, operation: str, *, is_dangling: bool
) -> None:
    """A symlink is refused as a directory, whatever its target."""
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere" if is_dangling else directory)

    message = await refusal(FileTokenCache(link), operation)

    assert "symlink" in message.replace(str(link), "")
    assert [NAME] == names_in(directory)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("put", IN_THE_WAY)
async def test_irregular_file_is_replaced(
    cache: FileTokenCache, path: Path, tmp_path: Path, put: Callable[[Path, Path], None]
) -> None:
    """Anything but a regular file is a cache miss and is replaced by a private file, without following symlinks."""
    before = path.read_bytes()
    put(path, tmp_path / "aside")

    async with asyncio.timeout(60):
        assert await cache.get(KEY) is None
        await cache.set(KEY, make_token("second"))

    assert make_token("second") == await cache.get(KEY)
    assert stat.S_ISREG(path.lstat().st_mode)
    assert 0o600 == mode_of(path)
    assert [before] * (put is put_symlink) == [each.read_bytes() for each in tmp_path.glob("aside")]


async def test_fifo_is_not_read(cache: FileTokenCache, path: Path) -> None:
    """A FIFO is a cache miss even if it contains the token, and is not read."""
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
@needs_posix_files
async def test_swapped_directory(
    *,
    cache: FileTokenCache,
    path: Path,
    tmp_path: Path,
    operation: str,
    swap_for: Callable[[Path, Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the directory is replaced after it was opened and checked, the original one is used."""
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
async def test_directory_in_place_of_the_file(
    cache: FileTokenCache, directory: Path, path: Path, put: Callable[[Path, Path], None]
) -> None:
    """A directory in place of the token's file is renamed with its contents, however often."""
    contents = []
    for _ in range(2):
        put(path, path)
        contents.append(names_in(path))
        await cache.set(KEY, TOKEN)
    moved = [name for name in names_in(directory) if name != NAME]
    assert contents == [names_in(directory / name) for name in moved]
    assert all(name.startswith(NAME) and name.endswith(".directory") for name in moved)
