"""`FileTokenCache`: platforms without directory descriptors, owners or modes."""
# ruff: noqa: ASYNC240 - these tests are about files, and their loop runs nothing else

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from simplestore_async import FileTokenCache
from simplestore_async.caches import _directory, _sharing
from tests.support.cache_files import IN_THE_WAY, KEY, NAME, TOKEN, full_disk, leave_file, mode_of, names_in, refusal
from tests.support.platforms import needs_posix_files, needs_windows
from tests.support.tokens import ISSUED_AT, make_token

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@needs_posix_files
async def test_without_directory_descriptors(
    cache: FileTokenCache, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without directory descriptors the cache uses paths, with all other checks."""
    monkeypatch.setattr(_directory, "_HAS_DIR_FD", False)
    assert await cache.get(KEY) is None
    await cache.set(KEY, TOKEN)
    assert TOKEN == await FileTokenCache(directory).get(KEY)
    assert 0o600 == mode_of(directory / NAME)

    (directory / NAME).chmod(0o644)
    assert await cache.get(KEY) is None
    for put in IN_THE_WAY:
        put(directory / NAME, tmp_path / put.__name__)
        assert await cache.get(KEY) is None
        await cache.set(KEY, TOKEN)
        assert TOKEN == await cache.get(KEY)

    leave_file(directory / f"{NAME}.x.tmp", age=70)
    with full_disk():
        await refusal(cache, "set")
    await cache.set(KEY, TOKEN)
    assert all(name == NAME or name.endswith(".directory") for name in names_in(directory))


async def test_without_owners_and_modes(cache: FileTokenCache, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On platforms without owners and modes these are not checked."""
    monkeypatch.delattr(os, "geteuid", raising=False)
    path.chmod(0o666)
    cache.directory.chmod(0o777)
    assert TOKEN == await cache.get(KEY)
    await cache.set(KEY, make_token(issued_at=ISSUED_AT - 1))
    assert make_token(issued_at=ISSUED_AT - 1) == await cache.get(KEY)


class Busy:
    """An operation that fails a number of times, as if another process had the file open."""

    def __init__(self, operation: Callable[..., Any], times: float) -> None:
        self._operation = operation
        self._times = times

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self._times > 0:
            self._times -= 1
            raise PermissionError(13, "Access is denied")
        return self._operation(*arguments, **options)


@pytest.mark.parametrize("name", ["replace", "open", "unlink"])
async def test_sharing_on_windows(
    cache: FileTokenCache, path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """On Windows an operation is retried while another process has the file open."""
    operation = {"replace": lambda: cache.set(KEY, make_token("second")), "open": lambda: cache.get(KEY)}
    monkeypatch.setattr(_directory, "_HAS_DIR_FD", False)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, name, Busy(getattr(os, name), 3))
    result: Any = await operation.get(name, cache.clear)()
    assert {"replace": None, "open": TOKEN, "unlink": 1}[name] == result


async def test_access_denied_on_windows(cache: FileTokenCache, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If Windows keeps denying access, the operation fails after a short time and the old token is kept."""
    monkeypatch.setattr(_sharing, "_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(sys, "platform", "win32")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", Busy(os.replace, float("inf")))
        assert "Access is denied" == await refusal(cache, "set")
    assert TOKEN == await cache.get(KEY)
    assert [NAME] == names_in(cache.directory)


@needs_windows
async def test_one_operation_at_a_time_on_windows(directory: Path) -> None:
    """On Windows no two operations on files of a directory overlap, by whatever path they name it."""
    directory.mkdir()
    inside, seen = 0, list[int]()

    def operation() -> None:
        nonlocal inside
        inside += 1
        time.sleep(0.01)  # for the other threads
        seen.append(inside)
        inside -= 1

    paths = [directory, directory.with_name(directory.name.upper()), directory / ".." / directory.name]
    await asyncio.gather(*(asyncio.to_thread(_sharing.share, path, operation) for path in paths * 5))
    assert [1] * 15 == seen
