"""`FileTokenCache`: directories that cannot be used."""
# ruff: noqa: ASYNC240 - these tests are about files, and their loop runs nothing else

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
import platformdirs.windows
import pytest

from simplestore_async import FileTokenCache
from simplestore_async.errors import TokenCacheError
from tests.support.cache_files import (
    KEY,
    NAME,
    full_disk,
    names_in,
    refusal,
    renew,
    use,
)
from tests.support.platforms import needs_posix_files
from tests.support.tokens import make_token

if TYPE_CHECKING:
    from tests.support.servers import TokenServer


@pytest.mark.parametrize("has_old", [False, True])
async def test_a_full_disk(cache: FileTokenCache, directory: Path, *, has_old: bool) -> None:
    """A write that fails halfway leaves the old token intact, and nothing else; the error has the cause."""
    if has_old:
        await cache.set(KEY, make_token("old"))
    with full_disk():
        message = await refusal(cache, "set")
    assert "File too large" in message
    assert (make_token("old") if has_old else None) == await cache.get(KEY)
    assert ([NAME] if has_old else []) == names_in(directory)


@pytest.mark.parametrize("is_parent", [False, True])
@pytest.mark.parametrize("operation", [pytest.param("get", marks=needs_posix_files), "set"])
async def test_a_file_in_the_directory_s_place(tmp_path: Path, operation: str, *, is_parent: bool) -> None:
    """A file in the place of the directory, or of its parent, is reported as the reason."""
    (tmp_path / "file").write_text("data")
    directory = tmp_path / "file" / "cache" if is_parent else tmp_path / "file"
    await refusal(FileTokenCache(directory), operation)
    assert "data" == (tmp_path / "file").read_text()


async def test_a_provider_without_a_usable_directory(
    tmp_path: Path, token_server: TokenServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets its token; an event and a warning report the failed read, and the failed write."""
    (tmp_path / "file").touch()
    token, failures = await renew(token_server, FileTokenCache(tmp_path / "file" / "cache"))
    assert token_server.issued == [token.value]
    assert ["get" if os.name == "posix" else "lock", "set"] == [failure.operation for failure in failures]
    warnings = [line.getMessage() for line in caplog.records if line.levelno == logging.WARNING]
    assert [str(failure) for failure in failures] == warnings


@needs_posix_files
async def test_a_read_only_directory(tmp_path: Path) -> None:
    """In a read-only directory nothing is stored; the error has the reason."""
    # A directory of one's own, unless one is root, who may write to all of them but the kernel's.
    directory = tmp_path if os.geteuid() else Path("/sys")
    tmp_path.chmod(0o500)
    cache = FileTokenCache(directory)
    for operation in ("lock", "set"):
        assert "Permission denied" == await refusal(cache, operation)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the home directory is found in other ways")
@pytest.mark.parametrize("is_told", [True, False])
async def test_no_home_directory(
    tmp_path: Path, token_server: TokenServer, monkeypatch: pytest.MonkeyPatch, *, is_told: bool
) -> None:
    """Without a home directory, as in many containers, the default directory is refused and a provider continues.

    Nothing is written to the current directory, least of all to a directory called `~`.
    """

    def find_nobody(uid: int) -> Any:
        raise KeyError(uid)

    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pytest.importorskip("pwd", reason="needs the user database of POSIX"), "getpwuid", find_nobody)
    if not is_told:
        # Older platformdirs, which the package allows, return a path instead of raising.
        monkeypatch.setattr(platformdirs, "user_cache_path", lambda name, **_: Path("~/.cache") / name)
    cache = FileTokenCache()

    for operation in ["get", "set"]:
        with pytest.raises(TokenCacheError, match=r"cannot use the user's cache directory: .*; name a directory"):
            await use(cache, operation)
    token, failures = await renew(token_server, cache)

    assert token_server.issued == [token.value]
    assert ["get", "set"] == [failure.operation for failure in failures]
    assert [] == names_in(tmp_path)
