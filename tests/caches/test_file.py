"""`FileTokenCache`: location, content and arguments; `test_every_cache.py` has the contract of all caches."""
# ruff: noqa: ASYNC240 - these tests are about files, and their loop runs nothing else

from __future__ import annotations

import hashlib
import os
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
import platformdirs.windows
import pytest

from simplestore_async import FileTokenCache
from simplestore_async._core.clock import SystemClock
from simplestore_async.caches import _format, dumps
from simplestore_async.errors import ConfigurationError, TokenCacheError
from tests.support.cache_files import DIGEST, KEY, MAX_BYTES, NAME, TOKEN, mode_of, names_in
from tests.support.clocks import FakeClock
from tests.support.platforms import needs_linux
from tests.support.tokens import make_token

if TYPE_CHECKING:
    from collections.abc import Callable


@needs_linux
async def test_default_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default is `simplestore-async` in the user's cache directory, resolved once at first use."""
    cache = FileTokenCache()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "first"))
    assert tmp_path / "first" / "simplestore-async" == cache.directory

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "second"))
    await cache.set(KEY, TOKEN)

    assert tmp_path / "first" / "simplestore-async" == cache.directory
    assert [NAME] == names_in(cache.directory)
    assert 0o700 == mode_of(cache.directory)


async def test_default_directory_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows the default is `simplestore-async` without a vendor's directory."""
    monkeypatch.setattr(platformdirs, "PlatformDirs", platformdirs.windows.Windows)
    monkeypatch.setattr(platformdirs.windows, "get_win_folder", lambda _: str(tmp_path))
    assert tmp_path / "simplestore-async" / "Cache" == FileTokenCache().directory


async def test_directory_is_created_by_set(cache: FileTokenCache, directory: Path) -> None:
    """Nothing is created before the first set()."""
    assert directory == cache.directory
    assert await cache.get(KEY) is None
    assert not directory.exists()


async def test_file_name(cache: FileTokenCache, directory: Path) -> None:
    """A key has one file, named by format version and digest, and nothing is written outside the directory."""
    await cache.set("../../secret key", TOKEN)
    await cache.set("../../secret key", make_token("second"))
    digest = hashlib.sha256(b"../../secret key").hexdigest()
    assert [f"token-v2-{digest}.json"] == names_in(directory)
    assert [directory.name] == names_in(directory.parent)


def stored(content: bytes) -> bytes:
    return f"{DIGEST}\n".encode() + content


NO_TOKENS = {
    "empty": b"",
    "no digest of the key": dumps(TOKEN),
    "digest only": stored(b""),
    "another version": stored(dumps(TOKEN).replace(b'"version": 2', b'"version": 1')),
    "another line end": stored(dumps(TOKEN)).replace(b"\n", b"\r\n"),
    "a line before": b"\n" + stored(dumps(TOKEN)),
    "a token and 1 MiB": stored(dumps(TOKEN)) + b" " * (1 << 20),
}


@pytest.mark.parametrize("content", NO_TOKENS.values(), ids=NO_TOKENS.keys())
async def test_invalid_content(cache: FileTokenCache, path: Path, content: bytes) -> None:
    """A file that does not contain this key's token in this version is a cache miss and can be replaced."""
    path.write_bytes(content)
    assert await cache.get(KEY) is None
    await cache.set(KEY, TOKEN)
    assert TOKEN == await cache.get(KEY)


async def test_copied_file(cache: FileTokenCache, directory: Path, path: Path) -> None:
    """A file that was copied over another key's is a cache miss."""
    await cache.set("other", make_token("other"))
    (other,) = (directory / name for name in names_in(directory) if name != NAME)
    path.write_bytes(other.read_bytes())
    assert await cache.get(KEY) is None
    assert make_token("other") == await cache.get("other")


@pytest.mark.parametrize(("size", "is_kept"), [(MAX_BYTES, True), (MAX_BYTES + 1, False)])
async def test_largest_file(cache: FileTokenCache, path: Path, size: int, *, is_kept: bool) -> None:
    """A token whose file has 64 KiB is stored, and a longer one is refused without losing the old one."""
    token = make_token("v" * (size - path.stat().st_size + len(TOKEN.value)))
    with nullcontext() if is_kept else pytest.raises(TokenCacheError, match=f"{size} bytes"):
        await cache.set(KEY, token)
    assert (token if is_kept else TOKEN) == await cache.get(KEY)


async def test_huge_file(cache: FileTokenCache, path: Path) -> None:
    """A file of 4 TiB is a cache miss and is not read whole."""
    os.truncate(path, 1 << 42)
    assert await cache.get(KEY) is None
    await cache.set(KEY, TOKEN)
    assert TOKEN == await cache.get(KEY)


# ---- arguments


def test_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory may be a string or a path, in which `~` expands to the home directory."""
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    assert tmp_path / "x" == FileTokenCache("~/x").directory
    assert tmp_path / "x" == FileTokenCache(Path("~") / "x").directory


class BytesPath:
    def __fspath__(self) -> bytes:
        return b"cache"


@pytest.mark.parametrize(
    ("field", "call"),
    [
        *(
            ("directory", lambda value=value: FileTokenCache(value))
            for value in [
                "",
                b"cache",
                5,
                Path,
                BytesPath(),
                "cache\0",
                *(["\ud800", "~no-such-user/x"] if os.name == "posix" else []),  # valid paths on Windows
                "$HOME/x",
                "${HOME}/x",
                "%APPDATA%/x",
            ]
        ),
        ("codec", lambda: FileTokenCache("x", codec=dumps)),  # type: ignore[arg-type]
        ("clock", lambda: FileTokenCache("x", clock=5)),  # type: ignore[arg-type]
        ("clock", lambda: FileTokenCache("x", clock=SystemClock)),
        ("key", lambda: FileTokenCache("x").get(None)),  # type: ignore[arg-type]
        ("key", lambda: FileTokenCache("x").set(b"key", TOKEN)),  # type: ignore[arg-type]
        ("token", lambda: FileTokenCache("x").set(KEY, "canary-token")),  # type: ignore[arg-type]
        ("key", lambda: FileTokenCache("x").renewal_lock(5).__aenter__()),  # type: ignore[arg-type]
    ],
)
async def test_wrong_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, call: Callable[[], Any]
) -> None:
    """A wrong argument raises a ConfigurationError that names it, and nothing is created."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        await call()
    assert field == caught.value.field
    assert caught.value.problem
    assert [] == names_in(tmp_path)


# ---- the clock


@pytest.mark.parametrize(("step", "age"), [(-7200, 600), (-7200, 3700), (7200, 600), (7200, 3700), (30, 3700)])
async def test_wall_clock_step(directory: Path, step: float, age: float) -> None:
    """A step of the wall clock moves a stored token's timestamps with it and leaves its remaining life unchanged."""
    clock = FakeClock(wall=time.time())
    now = clock.time()
    token = make_token(issued_at=now, expires_at=now + 3600)
    await FileTokenCache(directory, clock=clock).set(KEY, token)
    clock.step_wall(step)
    clock.advance(age)

    got = await FileTokenCache(directory, clock=clock).get(KEY)
    (file,) = await FileTokenCache(directory, clock=clock).list_files()

    assert got is not None
    assert (now + step, now + step + 3600) == pytest.approx((got.issued_at, got.expires_at), abs=0.001)
    assert (got.issued_at, got.expires_at) == (file.issued_at, file.expires_at)
    assert (age >= 3600) is (got.expires_at <= clock.time())


async def test_another_boot(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token from another or an unknown boot keeps its timestamps."""
    clock = FakeClock(wall=time.time())
    token = make_token(issued_at=clock.time(), expires_at=clock.time() + 3600)
    for boot in ("00000000-0000-4000-8000-000000000000", None):
        with monkeypatch.context() as patch:
            patch.setattr(_format, "find_boot", lambda boot=boot: boot)
            await FileTokenCache(directory, clock=clock).set(KEY, token)
        clock.step_wall(-7200)
        assert token == await FileTokenCache(directory, clock=clock).get(KEY)


def test_repr(tmp_path: Path) -> None:
    """The repr shows the directory, unless it is not determined yet."""
    assert f"FileTokenCache({str(tmp_path)!r})" == repr(FileTokenCache(tmp_path))
    assert "FileTokenCache()" == repr(FileTokenCache())
