"""`FileTokenCache`: listing and clearing its directory."""
# ruff: noqa: ASYNC240 - these tests are about files, and their loop runs nothing else

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet

from simplestore_async import FileTokenCache
from simplestore_async.caches import TokenFile, _directory
from simplestore_async.caches.encryption import FernetCodec
from simplestore_async.errors import TokenCacheError
from tests.support.cache_files import (
    DIGEST,
    KEY,
    NAME,
    give_away,
    leave_file,
    names_in,
    put_empty_directory,
    put_fifo,
    put_symlink,
)
from tests.support.platforms import needs_posix_files
from tests.support.tokens import ISSUED_AT, make_token

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CODEC, OTHER_CODEC = (FernetCodec(Fernet.generate_key()) for _ in range(2))


@pytest.fixture(params=[True, False], ids=["descriptors", "paths"])
def cache(directory: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FileTokenCache:
    """A cache, with and without directory descriptors."""
    monkeypatch.setattr(_directory, "_HAS_DIR_FD", request.param and _directory._HAS_DIR_FD)
    return FileTokenCache(directory)


def remove_after_scan(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove *path* once the directory has been scanned, as another process might."""
    scandir = os.scandir

    def scandir_and_remove(directory: Any) -> Any:
        with scandir(directory) as entries:
            found = list(entries)
        path.unlink(missing_ok=True)
        return nullcontext(found)

    monkeypatch.setattr(os, "scandir", scandir_and_remove)


# ---- listing


async def test_token_file(cache: FileTokenCache, path: Path) -> None:
    """A token's file is listed with the key's digest, size and timestamps, without the token."""
    size = path.stat().st_size
    expected = TokenFile(digest=DIGEST, size_bytes=size, issued_at=ISSUED_AT, expires_at=ISSUED_AT + 3600.1)

    files = await cache.list_files()

    assert [expected] == files
    assert "canary" not in repr(files)


async def test_order(cache: FileTokenCache) -> None:
    """Files are sorted by name."""
    for number in range(20):
        await cache.set(f"key {number}", make_token())
    digests = [file.digest for file in await cache.list_files()]
    assert 20 == len(digests)
    assert sorted(digests) == digests


async def test_other_files(cache: FileTokenCache, directory: Path, path: Path) -> None:
    """Locks, temporary files and other files in the directory are not listed."""
    async with cache.renewal_lock(KEY):
        for name in (
            f"{NAME}.0123.tmp",
            f"{NAME}.0123.directory",
            f"old-{NAME}",
            f"{NAME}x",
            "token-v2-0123.json",
            "x",
        ):
            (directory / name).write_text("data")
        assert [DIGEST] == [file.digest for file in await cache.list_files()]


@needs_posix_files
@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (put_symlink, "it is a symlink"),
        (put_empty_directory, "it is not a regular file"),
        (put_fifo, "it is not a regular file"),
        (lambda path, _: path.chmod(0o640), "mode 0640 gives other users access"),
        (lambda path, _: os.truncate(path, 64 * 1024 + 1), "it is too long for a token"),
    ],
    ids=["symlink", "directory", "FIFO", "wide mode", "too long"],
)
async def test_untrusted_file(
    cache: FileTokenCache, path: Path, spoil: Callable[[Path, Path], object], problem: str
) -> None:
    """A file that is not trusted is listed with the reason only."""
    spoil(path, path.with_name("aside"))
    assert await cache.get(KEY) is None
    assert [TokenFile(digest=DIGEST, problem=problem)] == await cache.list_files()


@needs_posix_files
async def test_file_of_another_user(cache: FileTokenCache, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of another user is listed with that reason."""
    give_away(path, monkeypatch)
    assert [TokenFile(digest=DIGEST, problem="it belongs to another user")] == await cache.list_files()


async def test_file_removed_meanwhile(cache: FileTokenCache, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another process removes during the listing is listed as missing."""
    remove_after_scan(path, monkeypatch)
    assert [TokenFile(digest=DIGEST, problem=os.strerror(2))] == await cache.list_files()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data.replace(DIGEST.encode(), b"0" * 64),
        lambda data: data.replace(b"Bearer", b"DPoP"),
    ],
    ids=["empty", "cut", "other digest", "other type"],
)
async def test_damaged_file(cache: FileTokenCache, path: Path, damage: Callable[[bytes], bytes]) -> None:
    """A file without a readable token is listed as damaged, with its size."""
    data = damage(path.read_bytes())
    path.write_bytes(data)
    expected = TokenFile(digest=DIGEST, problem="it is damaged, or encrypted", size_bytes=len(data))
    assert [expected] == await cache.list_files()


@pytest.mark.parametrize(
    ("writer", "reader", "problem"),
    [
        (CODEC, CODEC, ""),
        (CODEC, OTHER_CODEC, "it is encrypted with another key, or damaged"),
        (CODEC, None, "it is damaged, or encrypted"),
        (None, CODEC, "it is not encrypted"),
    ],
    ids=["same key", "another key", "no key", "not encrypted"],
)
async def test_encrypted_file(
    directory: Path, writer: FernetCodec | None, reader: FernetCodec | None, problem: str
) -> None:
    """A cache with the right key lists an encrypted file like any other, and a wrong or missing key is reported."""
    await FileTokenCache(directory, codec=writer).set(KEY, make_token())
    (file,) = await FileTokenCache(directory, codec=reader).list_files()
    assert (problem, problem == "") == (file.problem, file.expires_at is not None)


async def test_another_version(cache: FileTokenCache, directory: Path, path: Path) -> None:
    """A file in another format version is listed with that reason and is not read."""
    path.rename(directory / NAME.replace("v2", "v23"))
    problem = "its format version is 23, not 2"
    assert [TokenFile(digest=DIGEST, problem=problem)] == await cache.list_files()


# ---- clearing


async def test_clear(cache: FileTokenCache, directory: Path, path: Path) -> None:
    """Token files of any version and stale temporary files are removed and counted, and other files are kept."""
    await cache.set("second", make_token())
    stale = [f"{NAME}.0123456789abcdef.tmp", f"token-v1-{DIGEST}.json.0123456789abcdef.tmp"]
    kept = ["notes.tmp", f"old-{NAME}", "token-v1-0123.json", f"{NAME}.0123.directory"]
    for name in [f"token-v1-{DIGEST}.json", *stale, *kept]:
        leave_file(directory / name, age=61)
    leave_file(directory / f"{NAME}.fedcba9876543210.tmp", age=0)  # it may be in use
    before = (directory / "notes.tmp").read_bytes()

    assert 5 == await cache.clear()

    assert sorted([*kept, f"{NAME}.fedcba9876543210.tmp"]) == names_in(directory)
    assert before == (directory / "notes.tmp").read_bytes()
    assert await cache.get(KEY) is None
    assert 0 == await cache.clear()


@needs_posix_files
@pytest.mark.parametrize(
    "spoil", [put_symlink, put_fifo, lambda path, _: path.chmod(0o666)], ids=["symlink", "FIFO", "wide mode"]
)
async def test_clear_untrusted_files(cache: FileTokenCache, path: Path, spoil: Callable[[Path, Path], object]) -> None:
    """Untrusted token files are removed, and of a symlink only the link."""
    spoil(path, path.with_name("aside"))
    assert 1 == await cache.clear()
    assert names_in(cache.directory) in ([], ["aside"])


async def test_clear_leaves_directories(cache: FileTokenCache, directory: Path, path: Path) -> None:
    """A directory in place of a token's file is kept and not counted."""
    put_empty_directory(path, path)
    assert 0 == await cache.clear()
    assert [NAME] == names_in(directory)


async def test_clear_while_a_lock_is_held(cache: FileTokenCache, directory: Path, path: Path) -> None:
    """The file of a held renewal lock is kept."""
    async with cache.renewal_lock(KEY):
        (lock,) = directory.glob("*.lock")
        inode = lock.stat().st_ino
        assert 1 == await cache.clear()
        assert [lock.name] == names_in(directory)
        assert inode == lock.stat().st_ino


async def test_clear_while_another_clears(cache: FileTokenCache, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another process removes first is neither counted nor an error."""
    remove_after_scan(path, monkeypatch)
    assert 0 == await cache.clear()


# ---- missing and untrusted directories


async def test_no_directory(cache: FileTokenCache, directory: Path) -> None:
    """A missing directory is listed and cleared as empty and is not created."""
    assert [] == await cache.list_files()
    assert 0 == await cache.clear()
    assert not directory.exists()


@needs_posix_files
@pytest.mark.parametrize("operation", ["list_files", "clear"])
async def test_writable_directory(directory: Path, operation: str) -> None:
    """A directory that other users may write to is refused, and nothing is removed."""
    cache = FileTokenCache(directory)
    await cache.set(KEY, make_token())
    directory.chmod(0o770)
    with pytest.raises(TokenCacheError, match=r"mode 0770 gives other users access; run `chmod 700 "):
        await getattr(cache, operation)()
    assert [NAME] == names_in(directory)


async def test_undeletable_file(cache: FileTokenCache, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a file cannot be removed, the error has the reason."""

    def unlink(*_: Any, **__: Any) -> None:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(TokenCacheError, match="Read-only file system"):
        await cache.clear()
