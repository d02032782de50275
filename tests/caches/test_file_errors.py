"""`FileTokenCache`: unusable directories and full disks."""
# ruff: noqa: ASYNC240 - these tests are about files, and their loop runs nothing else

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
import pytest

from simplestore_async import FileTokenCache
from simplestore_async.errors import TokenCacheError
from tests.support.cache_files import KEY, NAME, full_disk, names_in, refusal, renew, use
from tests.support.platforms import needs_linux, needs_posix_files, needs_resource
from tests.support.tokens import make_token

if TYPE_CHECKING:
    from simplestore_async.sandbox import Sandbox


@needs_resource
@pytest.mark.parametrize("has_old", [False, True])
async def test_full_disk(cache: FileTokenCache, directory: Path, *, has_old: bool) -> None:
    """A write that fails halfway keeps the old token and leaves no other file, and the error has the cause."""
    if has_old:
        await cache.set(KEY, make_token("old"))
    with full_disk():
        message = await refusal(cache, "set")
    assert "File too large" in message
    assert (make_token("old") if has_old else None) == await cache.get(KEY)
    assert ([NAME] if has_old else []) == names_in(directory)


@pytest.mark.parametrize("is_parent", [False, True])
@pytest.mark.parametrize("operation", [pytest.param("get", marks=needs_posix_files), "set"])
async def test_file_in_place_of_the_directory(tmp_path: Path, operation: str, *, is_parent: bool) -> None:
    """A file in place of the directory or its parent is an error and is left unchanged."""
    (tmp_path / "file").write_text("data")
    directory = tmp_path / "file" / "cache" if is_parent else tmp_path / "file"
    await refusal(FileTokenCache(directory), operation)
    assert "data" == (tmp_path / "file").read_text()


async def test_provider_with_an_unusable_directory(
    tmp_path: Path, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """With an unusable directory callers get tokens, and events and warnings report the failed operations."""
    (tmp_path / "file").touch()
    _, failures = await renew(sandbox, FileTokenCache(tmp_path / "file" / "cache"))
    assert ["get" if os.name == "posix" else "lock", "set"] == [failure.operation for failure in failures]
    warnings = [line.getMessage() for line in caplog.records if line.levelno == logging.WARNING]
    assert [str(failure) for failure in failures] == warnings


@needs_posix_files
async def test_read_only_directory(tmp_path: Path) -> None:
    """In a read-only directory the error has the reason."""
    # Root may write to every directory except the kernel's.
    directory = tmp_path if os.geteuid() else Path("/sys")
    tmp_path.chmod(0o500)
    cache = FileTokenCache(directory)
    for operation in ("lock", "set"):
        assert "Permission denied" == await refusal(cache, operation)


@needs_linux
@pytest.mark.parametrize("raises", [True, False], ids=["platformdirs raises", "platformdirs returns a path"])
async def test_no_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, raises: bool) -> None:
    """Without a home directory the default directory is refused, and no directory `~` is created."""

    def no_user(uid: int) -> Any:
        raise KeyError(uid)

    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", no_user)
    if not raises:
        # Older versions of platformdirs that the package allows return a path instead of raising.
        monkeypatch.setattr(platformdirs, "user_cache_path", lambda name, **_: Path("~/.cache") / name)
    for operation in ["get", "set"]:
        with pytest.raises(TokenCacheError, match=r"cannot use the user's cache directory: .*; name a directory"):
            await use(FileTokenCache(), operation)
    assert [] == names_in(tmp_path)


async def test_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the cache has no thread, the error has the reason and describes the default directory."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(TokenCacheError) as caught:
        await FileTokenCache().get(KEY)
    assert "cannot use the user's cache directory: can't start new thread" == caught.value.problem
