"""`FileTokenCache`: location, content, arguments. The contract of all caches is in `test_every_cache.py`."""
# ruff: noqa: ASYNC240 - these tests are about files, and their loop runs nothing else

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
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
from tests.support.cache_files import (
    DIGEST,
    KEY,
    MAX_BYTES,
    NAME,
    TOKEN,
    mode_of,
    names_in,
)
from tests.support.clocks import FakeClock
from tests.support.tokens import make_token

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("kind", [str, Path])
def test_a_directory_of_one_s_own(tmp_path: Path, kind: Callable[[Path], str | Path]) -> None:
    """`directory` is the argument, as a path."""
    assert tmp_path / "x" == FileTokenCache(kind(tmp_path / "x")).directory


@pytest.mark.skipif(sys.platform != "linux", reason="XDG_CACHE_HOME belongs to Linux")
async def test_the_default_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default it is `simplestore-async` in the user's cache directory, looked up at first use and not again."""
    cache = FileTokenCache()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "first"))
    assert tmp_path / "first" / "simplestore-async" == cache.directory

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "second"))
    await cache.set(KEY, TOKEN)

    assert tmp_path / "first" / "simplestore-async" == cache.directory
    assert [NAME] == names_in(cache.directory)
    assert 0o700 == mode_of(cache.directory)


async def test_the_default_directory_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows, too, its own name alone stands between it and the user's directories."""
    monkeypatch.setattr(platformdirs, "PlatformDirs", platformdirs.windows.Windows)
    monkeypatch.setattr(platformdirs.windows, "get_win_folder", lambda _: str(tmp_path))
    assert tmp_path / "simplestore-async" / "Cache" == FileTokenCache().directory


async def test_nothing_is_made_before_the_first_set(cache: FileTokenCache, directory: Path) -> None:
    """Making a cache, asking for its directory and getting from it touch no disk."""
    assert directory == cache.directory
    assert await cache.get(KEY) is None
    assert not directory.exists()


async def test_the_file_s_name(cache: FileTokenCache, directory: Path) -> None:
    """One file for each key, named by the format's version and a digest, and nothing outside the directory."""
    await cache.set("../../secret key", TOKEN)
    await cache.set("../../secret key", make_token("second"))
    digest = hashlib.sha256(b"../../secret key").hexdigest()
    assert [f"token-v2-{digest}.json"] == names_in(directory)
    assert [directory.name] == names_in(directory.parent)


async def test_another_instance_sees_it(cache: FileTokenCache, directory: Path) -> None:
    """Caches over one directory read each other's tokens."""
    other = FileTokenCache(directory)
    await cache.set(KEY, TOKEN)
    assert TOKEN == await other.get(KEY)
    await other.set(KEY, make_token("second"))
    assert make_token("second") == await cache.get(KEY)


def stored(content: bytes) -> bytes:
    return f"{DIGEST}\n".encode() + content


NO_TOKENS = {
    "empty": b"",
    "no digest of the key": dumps(TOKEN),
    "nothing else": stored(b""),
    "another version": stored(dumps(TOKEN).replace(b'"version": 2', b'"version": 1')),
    "another line end": stored(dumps(TOKEN)).replace(b"\n", b"\r\n"),
    "a line before": b"\n" + stored(dumps(TOKEN)),
    "1 MiB": stored(b" " * (1 << 20)),
    "a token and 1 MiB": stored(dumps(TOKEN)) + b" " * (1 << 20),
}


@pytest.mark.parametrize("content", NO_TOKENS.values(), ids=NO_TOKENS.keys())
async def test_what_is_no_token_is_a_miss(cache: FileTokenCache, path: Path, content: bytes) -> None:
    """A file that holds anything but this key's token, in this version, is a miss, until it is replaced."""
    path.write_bytes(content)
    assert await cache.get(KEY) is None
    await cache.set(KEY, TOKEN)
    assert TOKEN == await cache.get(KEY)


async def test_a_truncated_file_is_a_miss(cache: FileTokenCache, path: Path) -> None:
    """Cut off after any number of bytes, a file is a miss."""
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert await cache.get(KEY) is None, length
    path.write_bytes(whole)
    assert TOKEN == await cache.get(KEY)


async def test_another_key_s_token_is_a_miss(cache: FileTokenCache, directory: Path, path: Path) -> None:
    """Another key's file, copied over this key's, is a miss."""
    await cache.set("other", make_token("other"))
    (other,) = (directory / name for name in names_in(directory) if name != NAME)
    path.write_bytes(other.read_bytes())
    assert await cache.get(KEY) is None
    assert make_token("other") == await cache.get("other")


@pytest.mark.parametrize(("size", "is_kept"), [(MAX_BYTES, True), (MAX_BYTES + 1, False)])
async def test_the_largest_file(cache: FileTokenCache, path: Path, size: int, *, is_kept: bool) -> None:
    """A token whose file takes 64 KiB is kept; a longer one is refused, and the old one stays."""
    token = make_token("v" * (size - path.stat().st_size + len(TOKEN.value)))
    with nullcontext() if is_kept else pytest.raises(TokenCacheError, match=f"{size} bytes"):
        await cache.set(KEY, token)
    assert (token if is_kept else TOKEN) == await cache.get(KEY)


async def test_a_file_larger_than_memory(cache: FileTokenCache, path: Path) -> None:
    """However large a file is, no more of it is read than is needed to see that it is too large."""
    os.truncate(path, 1 << 42)
    assert await cache.get(KEY) is None
    await cache.set(KEY, TOKEN)
    assert TOKEN == await cache.get(KEY)


# ---- arguments


def test_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that starts with ~ is in the home directory."""
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
                *(["\ud800", "~no-such-user/x"] if os.name == "posix" else []),  # to Windows both are valid paths
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
    """A wrong argument is a ConfigurationError that names it, and leaves no files."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        await call()
    assert field == caught.value.field
    assert caught.value.problem
    assert [] == names_in(tmp_path)


# ---- the clock


@pytest.mark.parametrize(("step", "age"), [(-7200, 600), (-7200, 3700), (7200, 600), (7200, 3700), (30, 3700)])
async def test_wall_clock_step(directory: Path, step: float, age: float) -> None:
    """A step of the wall clock changes no stored token's life: its instants are moved by the step."""
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
    """A token of another boot, or from a platform without a boot's identity, keeps its instants."""
    clock = FakeClock(wall=time.time())
    token = make_token(issued_at=clock.time(), expires_at=clock.time() + 3600)
    for boot in ("00000000-0000-4000-8000-000000000000", None):
        with monkeypatch.context() as patch:
            patch.setattr(_format, "find_boot", lambda boot=boot: boot)
            await FileTokenCache(directory, clock=clock).set(KEY, token)
        clock.step_wall(-7200)
        assert token == await FileTokenCache(directory, clock=clock).get(KEY)


_CLOCK_SET_BACK = """
import asyncio, sys, time
from simplestore_async import FileTokenCache
from simplestore_async._core.clock import SYSTEM_CLOCK

class SetBack:
    monotonic = staticmethod(SYSTEM_CLOCK.monotonic)  # partial is a descriptor from 3.14 on
    def time(self):
        return time.time() - 7200

token = asyncio.run(FileTokenCache(sys.argv[1], clock=SetBack()).get("key"))
print(token.issued_at - SetBack().time())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a boot's identity")
async def test_wall_clock_step_between_processes(directory: Path) -> None:
    """A process whose wall clock was set back finds the age of another process's token."""
    now = time.time()
    await FileTokenCache(directory).set(KEY, make_token(issued_at=now - 1800, expires_at=now + 1800))
    command = [sys.executable, "-c", _CLOCK_SET_BACK, str(directory)]
    process = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)  # noqa: ASYNC221
    assert -1800 == pytest.approx(float(process.stdout), abs=60)
