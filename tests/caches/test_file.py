"""`simplestore_async.caches._file`; the contract that all caches keep is in `test_every_cache.py`."""
# ruff: noqa: ASYNC240 - these tests are about files, and share their loop with nobody

from __future__ import annotations

import asyncio
import errno
import fcntl
import gc
import hashlib
import logging
import os
import pwd
import resource
import shutil
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
import platformdirs.windows
import pytest

from simplestore_async import AccessToken, FileTokenCache
from simplestore_async.caches import _folder, dumps
from simplestore_async.errors import TokenCacheError
from simplestore_async.events import CacheFailed, Event
from tests.support.ownership import give_away
from tests.support.tokens import ISSUED_AT, make_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.clocks import FakeClock
    from tests.support.servers import TokenServer

KEY = "key"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()
NAME = f"token-v1-{DIGEST}.json"
TOKEN = make_token()
MAX_BYTES = 64 * 1024


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(folder: Path) -> FileTokenCache:
    return FileTokenCache(folder)


@pytest.fixture
async def path(cache: FileTokenCache, folder: Path) -> Path:
    """The file of KEY, which holds TOKEN."""
    await cache.set(KEY, TOKEN)
    return folder / NAME


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow past 100 bytes, which is too little for a token."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def count_descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def record(monkeypatch: pytest.MonkeyPatch, name: str, note: Callable[[Any], object]) -> None:
    """Let *note* see each result of `os.<name>()`."""
    function = getattr(os, name)

    def recorded(*args: Any, **options: Any) -> Any:
        result = function(*args, **options)
        note(result)
        return result

    monkeypatch.setattr(os, name, recorded)


async def renew(token_server: TokenServer, cache: FileTokenCache) -> tuple[AccessToken, list[CacheFailed]]:
    """Return what a provider over *cache* gives its caller, and what it tells of the cache."""
    events: list[Event] = []
    async with asyncio.timeout(10), token_server.provider(cache=cache, on_event=events.append) as provider:
        token = await provider.get_token()
    return token, [event for event in events if isinstance(event, CacheFailed)]


# ---- where the files are


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_of_one_s_own(tmp_path: Path, kind: Callable[[Path], str | Path]) -> None:
    """`directory` is what was passed, as a path."""
    assert tmp_path / "x" == FileTokenCache(kind(tmp_path / "x")).directory


@pytest.mark.skipif(sys.platform != "linux", reason="XDG_CACHE_HOME belongs to Linux")
async def test_the_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default it is `simplestore-async` in the user's cache directory, looked up at first use and not again."""
    cache = FileTokenCache()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "first"))
    assert tmp_path / "first" / "simplestore-async" == cache.directory

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "second"))
    await cache.set(KEY, TOKEN)

    assert tmp_path / "first" / "simplestore-async" == cache.directory
    assert [NAME] == names_in(cache.directory)
    assert 0o700 == mode_of(cache.directory)


async def test_the_default_folder_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows, too, its own name alone stands between it and the user's folders."""
    monkeypatch.setattr(platformdirs, "PlatformDirs", platformdirs.windows.Windows)
    monkeypatch.setattr(platformdirs.windows, "get_win_folder", lambda _: str(tmp_path))
    assert tmp_path / "simplestore-async" / "Cache" == FileTokenCache().directory


async def test_nothing_is_made_before_the_first_set(cache: FileTokenCache, folder: Path) -> None:
    """Making a cache, asking for its folder and getting from it touch no disk."""
    assert folder == cache.directory
    assert await cache.get(KEY) is None
    assert not folder.exists()


async def test_missing_parents_are_made(tmp_path: Path) -> None:
    """The folder's missing parents are made, too."""
    cache = FileTokenCache(tmp_path / "a" / "b" / "c")
    await cache.set(KEY, TOKEN)
    assert TOKEN == await cache.get(KEY)


async def test_the_file_s_name(cache: FileTokenCache, folder: Path) -> None:
    """One file for each key, named by the format's version and a digest, and nothing outside the folder."""
    await cache.set("../../secret key", TOKEN)
    await cache.set("../../secret key", make_token("second"))
    digest = hashlib.sha256(b"../../secret key").hexdigest()
    assert [f"token-v1-{digest}.json"] == names_in(folder)
    assert [folder.name] == names_in(folder.parent)


async def test_another_instance_sees_it(cache: FileTokenCache, folder: Path) -> None:
    """What one cache set every other over the same folder gets, and the other way round."""
    other = FileTokenCache(folder)
    await cache.set(KEY, TOKEN)
    assert TOKEN == await other.get(KEY)
    await other.set(KEY, make_token("second"))
    assert make_token("second") == await cache.get(KEY)


# ---- who may read and write them


# case 48
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
async def test_modes(cache: FileTokenCache, folder: Path, mask: int) -> None:
    """Whatever the umask, the folder is 0700 and the file 0600."""
    with umask(mask):
        await cache.set(KEY, TOKEN)
    assert (0o700, 0o600) == (mode_of(folder), mode_of(folder / NAME))


async def test_modes_of_a_lock(cache: FileTokenCache, folder: Path) -> None:
    """A lock is taken in a private folder, too, on a private file."""
    with umask(0):
        async with cache.renewal_lock(KEY):
            assert [(0o700, 0o600)] == [(mode_of(folder), mode_of(path)) for path in folder.iterdir()]


# case 48
async def test_private_from_the_first_byte(
    cache: FileTokenCache, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is private, and its folder too, from the moment that it exists."""
    made: list[tuple[int, int]] = []

    def note(descriptor: int) -> None:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and Path.cwd().samefile(folder.parent):
            made.append((stat.S_IMODE(status.st_mode), mode_of(folder)))

    monkeypatch.chdir(folder.parent)
    record(monkeypatch, "open", note)
    with umask(0):
        await cache.set(KEY, TOKEN)
    assert [(0o600, 0o700)] == made


# case 48
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


# case 48
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
async def test_a_folder_that_others_may_look_at(cache: FileTokenCache, folder: Path, path: Path, mode: int) -> None:
    """A folder that others can list, but not write to, is good, and is left as it is."""
    folder.chmod(mode)
    assert TOKEN == await cache.get(KEY)
    await cache.set(KEY, make_token("second"))
    assert make_token("second") == await cache.get(KEY)
    assert mode == mode_of(folder)


def use(cache: FileTokenCache, operation: str) -> Any:
    return cache.get(KEY) if operation == "get" else cache.set(KEY, TOKEN)


async def refusal(cache: FileTokenCache, operation: str) -> str:
    """Return the error of *operation*, which must name the folder and say what to do."""
    with pytest.raises(TokenCacheError, match=r"[Mm]end it, or name another folder") as caught:
        await use(cache, operation)
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)
    assert str(cache.directory) in str(caught.value)
    return str(caught.value)


# case 48
@pytest.mark.parametrize("operation", ["get", "set"])
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
async def test_a_folder_that_others_may_write_to(
    cache: FileTokenCache, folder: Path, path: Path, operation: str, mode: int
) -> None:
    """A folder in which others could swap files is refused; the error says its mode, and the file is left alone."""
    await cache.set(KEY, make_token("old"))
    before = path.read_bytes()
    folder.chmod(mode)

    message = await refusal(cache, operation)

    assert f"mode {mode:04o} lets others in" in message
    assert "0700" in message
    assert before == path.read_bytes()
    assert [NAME] == names_in(folder)


# case 48
@pytest.mark.parametrize("operation", ["get", "set"])
async def test_another_user_s_folder(
    cache: FileTokenCache, folder: Path, path: Path, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of another user's is refused, with that reason."""
    give_away(folder, monkeypatch)
    assert "it belongs to another user" in await refusal(cache, operation)


# case 48
@pytest.mark.parametrize("operation", ["get", "set"])
@pytest.mark.parametrize("is_dangling", [False, True])
async def test_a_symlink_in_the_folder_s_place(
    tmp_path: Path, folder: Path, path: Path, operation: str, *, is_dangling: bool
) -> None:
    """A symlink is no folder, whatever it points to; the error says so."""
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere" if is_dangling else folder)

    message = await refusal(FileTokenCache(link), operation)

    assert "symlink" in message.replace(str(link), "")
    assert [NAME] == names_in(folder)
    assert not (tmp_path / "nowhere").exists()


# ---- what stands in a file's place


def put_symlink(path: Path, aside: Path) -> None:
    path.replace(aside)
    path.symlink_to(aside)


def put_dangling_symlink(path: Path, aside: Path) -> None:
    path.unlink()
    path.symlink_to(aside.with_name("nowhere"))


def put_fifo(path: Path, aside: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def put_empty_folder(path: Path, aside: Path) -> None:
    path.unlink()
    path.mkdir(0o700)


def put_folder(path: Path, aside: Path) -> None:
    put_empty_folder(path, aside)
    (path / "precious").write_text("data")


IN_THE_WAY = [put_symlink, put_dangling_symlink, put_fifo, put_empty_folder, put_folder]


# case 48
@pytest.mark.parametrize("put", IN_THE_WAY)
async def test_what_is_no_file_is_replaced(
    cache: FileTokenCache, path: Path, tmp_path: Path, put: Callable[[Path, Path], None]
) -> None:
    """What is not a regular file is a miss, at once, and a private file takes its place."""
    put(path, tmp_path / "aside")

    async with asyncio.timeout(5):
        assert await cache.get(KEY) is None
        await cache.set(KEY, make_token("second"))

    assert make_token("second") == await cache.get(KEY)
    assert stat.S_ISREG(path.lstat().st_mode)
    assert 0o600 == mode_of(path)


# case 48
async def test_a_fifo_is_not_read(cache: FileTokenCache, path: Path) -> None:
    """A FIFO is a miss even while somebody writes this key's token to it, and what was written stays there."""
    content = path.read_bytes()
    put_fifo(path, path)
    fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(fifo, content)
        assert await cache.get(KEY) is None
        assert content == os.read(fifo, MAX_BYTES)
    finally:
        os.close(fifo)


# case 48
@pytest.mark.parametrize("operation", ["get", "set"])
@pytest.mark.parametrize("swap_for", [os.rename, os.symlink], ids=["folder", "symlink"])
@pytest.mark.skipif(not _folder._HAS_DIR_FD, reason="needs folder descriptors")
async def test_a_folder_that_is_swapped(
    *,
    cache: FileTokenCache,
    path: Path,
    tmp_path: Path,
    operation: str,
    swap_for: Callable[[Path, Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A folder that somebody swaps once it was opened and checked makes no difference: the first one is worked on."""
    folder = path.parent
    shutil.copytree(folder, tmp_path / "hostile")
    (tmp_path / "hostile" / NAME).write_bytes(path.read_bytes().replace(b"canary", b"hostile"))
    leave_file(tmp_path / "hostile" / f"{NAME}.x.tmp", age=70)
    leave_file(folder / f"{NAME}.y.tmp", age=70)

    def swap(status: os.stat_result) -> None:
        if stat.S_ISDIR(status.st_mode):
            folder.rename(tmp_path / "first")
            swap_for(tmp_path / "hostile", folder)

    record(monkeypatch, "fstat", swap)
    got = await use(cache, operation)

    assert (TOKEN if operation == "get" else None) == got
    assert b"hostile" in path.read_bytes()
    assert [NAME, f"{NAME}.x.tmp"] == names_in(folder)
    assert [NAME, f"{NAME}.y.tmp"][: 1 if operation == "set" else 2] == names_in(tmp_path / "first")


# case 48, 52
async def test_a_folder_that_becomes_a_symlink(
    token_server: TokenServer, clock: FakeClock, events: list[Event], tmp_path: Path
) -> None:
    """A folder that somebody swaps for a symlink between two renewals is used no more; callers get their tokens."""
    folder = tmp_path / "cache"
    async with token_server.provider(clock=clock, cache=FileTokenCache(folder), on_event=events.append) as provider:
        await provider.get_token()
        shutil.copytree(folder, tmp_path / "hostile")
        before = {path: path.read_bytes() for path in (tmp_path / "hostile").iterdir()}
        folder.rename(tmp_path / "first")
        folder.symlink_to(tmp_path / "hostile")
        clock.advance(3_600)

        assert "canary-token-2" == (await provider.get_token()).value
    failures = [event for event in events if isinstance(event, CacheFailed)]
    assert ["get", "set"] == [failure.operation for failure in failures]
    assert all("it is a symlink" in failure.problem for failure in failures)
    assert before == {path: path.read_bytes() for path in (tmp_path / "hostile").iterdir()}


# case 48
async def test_a_symlink_s_target_is_left_alone(cache: FileTokenCache, path: Path, tmp_path: Path) -> None:
    """A symlink is not followed: what it points to is neither read nor written."""
    before = path.read_bytes()
    put_symlink(path, tmp_path / "aside")
    await cache.set(KEY, make_token("second"))
    assert before == (tmp_path / "aside").read_bytes()


# case 48
@pytest.mark.parametrize("put", [put_empty_folder, put_folder])
async def test_a_folder_is_moved_aside(
    cache: FileTokenCache, folder: Path, path: Path, put: Callable[[Path, Path], None]
) -> None:
    """A folder in the file's place is kept under another name with all that is in it, as often as one is there."""
    contents = []
    for _ in range(2):
        put(path, path)
        contents.append(names_in(path))
        await cache.set(KEY, TOKEN)
    moved = [name for name in names_in(folder) if name != NAME]
    assert contents == [names_in(folder / name) for name in moved]
    assert all(name.startswith(NAME) and name.endswith(".folder") for name in moved)


# ---- what is in a file


def stored(content: bytes) -> bytes:
    return f"{DIGEST}\n".encode() + content


NO_TOKENS = {
    "empty": b"",
    "zeros": b"\0" * 1000,
    "binary": bytes(range(256)),
    "null": b"null",
    "a list": b"[]",
    "no digest of the key": dumps(TOKEN),
    "nothing else": stored(b""),
    "null for a token": stored(b"null"),
    "an empty object": stored(b"{}"),
    "another version": stored(dumps(TOKEN).replace(b'"version": 1', b'"version": 2')),
    "another kind of token": stored(dumps(TOKEN).replace(b"Bearer", b"DPoP")),
    "a damaged value": stored(dumps(TOKEN).replace(b"canary-token", b"canary token")),
    "another line end": stored(dumps(TOKEN)).replace(b"\n", b"\r\n"),
    "upper case": stored(dumps(TOKEN)).upper(),
    "a line before": b"\n" + stored(dumps(TOKEN)),
    "1 MiB": stored(b" " * (1 << 20)),
    "a token and 1 MiB": stored(dumps(TOKEN)) + b" " * (1 << 20),
}


# case 49
@pytest.mark.parametrize("content", NO_TOKENS.values(), ids=NO_TOKENS.keys())
async def test_what_is_no_token_is_a_miss(cache: FileTokenCache, path: Path, content: bytes) -> None:
    """A file that holds anything but this key's token, in this version, is a miss, until it is replaced."""
    path.write_bytes(content)
    assert await cache.get(KEY) is None
    await cache.set(KEY, TOKEN)
    assert TOKEN == await cache.get(KEY)


# case 49
async def test_a_truncated_file_is_a_miss(cache: FileTokenCache, path: Path) -> None:
    """Cut off after any number of bytes, a file is a miss."""
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert await cache.get(KEY) is None, length
    path.write_bytes(whole)
    assert TOKEN == await cache.get(KEY)


# case 49
async def test_another_key_s_token_is_a_miss(cache: FileTokenCache, folder: Path, path: Path) -> None:
    """Another key's file, copied over this key's, is a miss."""
    await cache.set("other", make_token("other"))
    (other,) = (folder / name for name in names_in(folder) if name != NAME)
    shutil.copy(other, path)
    assert 0o600 == mode_of(path)
    assert await cache.get(KEY) is None
    assert make_token("other") == await cache.get("other")


@pytest.mark.parametrize(("size", "is_kept"), [(MAX_BYTES, True), (MAX_BYTES + 1, False)])
async def test_the_largest_file(cache: FileTokenCache, path: Path, size: int, *, is_kept: bool) -> None:
    """A token whose file takes 64 KiB is kept; a longer one is refused, and the old one stays."""
    token = make_token("v" * (size - path.stat().st_size + len(TOKEN.value)))
    with nullcontext() if is_kept else pytest.raises(TokenCacheError, match=f"{size} bytes"):
        await cache.set(KEY, token)
    assert (token if is_kept else TOKEN) == await cache.get(KEY)


# case 49
async def test_a_file_larger_than_memory(cache: FileTokenCache, path: Path) -> None:
    """However large a file is, no more of it is read than is needed to see that it is too large."""
    os.truncate(path, 1 << 42)
    assert await cache.get(KEY) is None
    await cache.set(KEY, TOKEN)
    assert TOKEN == await cache.get(KEY)


# case 49
async def test_a_token_that_lives_for_ten_years_is_a_miss(cache: FileTokenCache, token_server: TokenServer) -> None:
    """A provider does not believe a stored token that lives for longer than any does, and replaces it."""
    key, now = token_server.credentials().cache_key, time.time()
    await cache.set(key, make_token("old", issued_at=now - 1, expires_at=now + 10 * 365 * 86_400))

    token, failures = await renew(token_server, cache)

    assert token_server.issued == [token.value]
    assert token == await cache.get(key)
    assert [] == failures


# ---- when nothing can be written


# case 52
@pytest.mark.parametrize("has_old", [False, True])
async def test_a_full_disk(cache: FileTokenCache, folder: Path, *, has_old: bool) -> None:
    """A write that fails halfway leaves the old token, if any, whole, and nothing else; the error tells why."""
    if has_old:
        await cache.set(KEY, make_token("old"))
    with full_disk():
        message = await refusal(cache, "set")
    assert "File too large" in message
    assert (make_token("old") if has_old else None) == await cache.get(KEY)
    assert ([NAME] if has_old else []) == names_in(folder)


# case 52
async def test_a_provider_on_a_full_disk(
    cache: FileTokenCache, token_server: TokenServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets its token; one event tells, and one warning in the log."""
    with full_disk():
        token, failures = await renew(token_server, cache)
    assert token_server.issued == [token.value]
    assert ["set"] == [failure.operation for failure in failures]
    assert "File too large" in failures[0].problem
    warnings = [line for line in caplog.records if line.levelno >= logging.WARNING]
    assert [(logging.WARNING, str(failures[0]))] == [(line.levelno, line.getMessage()) for line in warnings]


# case 52
@pytest.mark.parametrize("is_parent", [False, True])
@pytest.mark.parametrize("operation", ["get", "set"])
async def test_a_file_in_the_folder_s_place(tmp_path: Path, operation: str, *, is_parent: bool) -> None:
    """Where a file stands in the place of the folder, or of its parent, nothing can be kept, and the error says so."""
    (tmp_path / "file").write_text("data")
    folder = tmp_path / "file" / "cache" if is_parent else tmp_path / "file"
    await refusal(FileTokenCache(folder), operation)
    assert "data" == (tmp_path / "file").read_text()


# case 52
async def test_a_provider_without_a_usable_folder(
    tmp_path: Path, token_server: TokenServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets its token; an event and a warning tell of the read that failed, and of the write."""
    (tmp_path / "file").touch()
    token, failures = await renew(token_server, FileTokenCache(tmp_path / "file" / "cache"))
    assert token_server.issued == [token.value]
    assert ["get", "set"] == [failure.operation for failure in failures]
    warnings = [line.getMessage() for line in caplog.records if line.levelno == logging.WARNING]
    assert [str(failure) for failure in failures] == warnings


# case 52
async def test_a_read_only_folder(token_server: TokenServer, tmp_path: Path) -> None:
    """In a folder that cannot be written to nothing is kept; the error says so, and a provider goes on."""
    # A folder of one's own, unless one is root, who may write to all of them but the kernel's.
    folder = tmp_path if os.geteuid() else Path("/sys")
    tmp_path.chmod(0o500)
    cache = FileTokenCache(folder)
    assert ": Permission denied. Mend it" in await refusal(cache, "set")
    token, failures = await renew(token_server, cache)
    assert token_server.issued == [token.value]
    assert ["lock", "set"] == [failure.operation for failure in failures]
    assert all("Permission denied" in failure.problem for failure in failures)


# case 52
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the home directory is found in other ways")
@pytest.mark.parametrize("is_told", [True, False])
async def test_no_home_directory(
    tmp_path: Path, token_server: TokenServer, monkeypatch: pytest.MonkeyPatch, *, is_told: bool
) -> None:
    """For a user without home directory, as in many containers, the default folder is refused and a provider goes on.

    Nothing is written to the current directory, least of all to a folder called `~`.
    """

    def find_nobody(uid: int) -> Any:
        raise KeyError(uid)

    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", find_nobody)
    if not is_told:
        # As older platformdirs, which the package allows, answer instead of raising.
        monkeypatch.setattr(platformdirs, "user_cache_path", lambda name, **_: Path("~/.cache") / name)
    cache = FileTokenCache()

    for operation in ["get", "set"]:
        with pytest.raises(TokenCacheError, match=r"user's cache directory.*name another folder"):
            await use(cache, operation)
    token, failures = await renew(token_server, cache)

    assert token_server.issued == [token.value]
    assert ["get", "set"] == [failure.operation for failure in failures]
    assert [] == names_in(tmp_path)


@pytest.mark.parametrize("operation", ["get", "set"])
async def test_a_folder_that_cannot_be_named(operation: str) -> None:
    """A path that the system cannot even take is refused like any other that cannot be used."""
    with pytest.raises(TokenCacheError, match=r"null .*name another folder"):
        await use(FileTokenCache("cache\0"), operation)


# ---- the lock


async def test_a_held_lock_is_asked_for_every_20_ms(cache: FileTokenCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for the lock asks for it again every 20 ms: that costs little, and delays little."""
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


async def test_a_release_that_never_began(cache: FileTokenCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock whose release is cancelled while the thread is busy is free once nobody knows of it."""
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
    await cache.get(KEY)  # after which the thread has passed over the release
    assert leaving.cancelled()

    del lock, leaving
    gc.collect()

    async with asyncio.timeout(5), cache.renewal_lock(KEY):
        pass


async def test_a_file_system_without_locks(cache: FileTokenCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where files cannot be locked there is an error, and no lock of another kind, which a killed holder would keep."""

    def flock(*_: Any) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(TokenCacheError, match=f"{os.strerror(errno.ENOSYS)}. Mend it, or name another folder"):
        await cache.renewal_lock(KEY).__aenter__()


# ---- what killed writers left


def leave_file(path: Path, *, age: float) -> None:
    path.write_text("data")
    os.utime(path, (time.time() - age, time.time() - age))


async def test_stale_temporary_files(
    cache: FileTokenCache, folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write removes temporary files older than a minute, of any key; not younger ones, and nothing else."""
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0)
    other = f"token-v1-{'0' * 64}.json"
    stale = [f"{NAME}.0123456789abcdef.tmp", f"{other}.0123456789abcdef.tmp"]
    kept = [other, "notes.tmp", f"old-{NAME}.tmp", f"{NAME}.tmp.bak", f"{NAME}.0123.folder"]
    young = [f"{NAME}.fedcba9876543210.tmp", f"{other}.fedcba9876543210.tmp"]
    for name in stale:
        leave_file(folder / name, age=61)
    for name in kept:
        leave_file(folder / name, age=100_000)
    for name in young:
        leave_file(folder / name, age=60)

    assert TOKEN == await cache.get(KEY)
    assert set(stale) < set(names_in(folder))
    await cache.set(KEY, TOKEN)

    assert sorted([NAME, *kept, *young]) == names_in(folder)


async def test_stale_things_that_are_no_files(cache: FileTokenCache, folder: Path, path: Path, tmp_path: Path) -> None:
    """What is named like a stale file does no harm: a folder stays, of a symlink only the link itself is judged."""
    (folder / f"{NAME}.a.tmp").mkdir()
    os.utime(folder / f"{NAME}.a.tmp", (0, 0))
    leave_file(tmp_path / "target", age=100_000)
    (folder / f"{NAME}.b.tmp").symlink_to(tmp_path / "target")

    await cache.set(KEY, TOKEN)

    assert [NAME, f"{NAME}.a.tmp", f"{NAME}.b.tmp"] == names_in(folder)


# ---- threads, descriptors, processes


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="counts what /dev/fd shows")
@pytest.mark.parametrize("put", [lambda path, aside: None, *IN_THE_WAY])
async def test_no_descriptor_leaks(
    cache: FileTokenCache, path: Path, tmp_path: Path, put: Callable[[Path, Path], None]
) -> None:
    """Getting and setting leave no file open, whatever is in the file's place."""
    before = count_descriptors()
    put(path, tmp_path / "aside")
    for _ in range(3):
        await cache.get(KEY)
    await cache.set(KEY, TOKEN)
    assert before == count_descriptors()


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="counts what /dev/fd shows")
async def test_no_descriptor_leaks_from_failures(cache: FileTokenCache, folder: Path, path: Path) -> None:
    """A write that fails, and a folder that is refused, leave no file open."""
    before = count_descriptors()
    with full_disk():
        await refusal(cache, "set")
    folder.chmod(0o777)
    for operation in ["get", "set"]:
        await refusal(cache, operation)
    assert before == count_descriptors()


async def test_no_file_work_on_the_loop_s_thread(cache: FileTokenCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file operation happens in another thread than the event loop's."""
    threads: dict[str, set[int]] = {name: set() for name in ("open", "replace", "scandir", "fstat", "mkdir")}

    def note_thread(seen: set[int]) -> Callable[[Any], None]:
        return lambda _: seen.add(threading.get_ident())

    for name, seen in threads.items():
        record(monkeypatch, name, note_thread(seen))

    await cache.set(KEY, TOKEN)
    await cache.get(KEY)

    assert all(threads.values())
    assert threading.get_ident() not in set.union(*threads.values())


# case 61
async def test_the_default_executor_is_not_needed(cache: FileTokenCache) -> None:
    """The cache works while every thread of the loop's default executor is busy: they may wait for this very token."""
    loop, is_over = asyncio.get_running_loop(), threading.Event()
    loop.set_default_executor(ThreadPoolExecutor(1))
    busy = loop.run_in_executor(None, is_over.wait, 10)
    try:
        async with asyncio.timeout(5):
            await cache.set(KEY, TOKEN)
            assert TOKEN == await cache.get(KEY)
        assert not busy.done()
    finally:
        is_over.set()
        await busy


async def test_its_thread_is_kept(cache: FileTokenCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a cache is used, and by how many at once, one thread does its work."""
    threads = set()
    record(monkeypatch, "open", lambda _: threads.add(threading.current_thread()))
    for _ in range(3):
        await asyncio.gather(*(cache.set(KEY, TOKEN) for _ in range(10)))
    assert 1 == len(threads)


async def test_its_thread_ends_with_it(tmp_path: Path) -> None:
    """A cache that nobody holds any longer takes its thread along."""
    before = set(threading.enumerate())
    cache = FileTokenCache(tmp_path)
    await asyncio.gather(*(cache.get(KEY) for _ in range(10)))
    (thread,) = set(threading.enumerate()) - before

    del cache
    gc.collect()

    thread.join(5)
    assert not thread.is_alive()


_FORK = """
import asyncio, os, sys
from simplestore_async import FileTokenCache

async def use():
    async with asyncio.timeout(3):
        await asyncio.gather(*(cache.get("key") for _ in range(10)))

cache = FileTokenCache(sys.argv[1])
asyncio.run(use())
process = os.fork()
if not process:
    try:
        asyncio.run(use())
    except BaseException as error:
        os.write(2, repr(error).encode())
        os._exit(1)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_can_use_it(tmp_path: Path) -> None:
    """A cache that was used before a fork, as by a server that preloads, works in the child, which has no threads."""
    # Later Pythons warn of any fork beside threads.
    command = [sys.executable, "-P", "-W", "ignore::DeprecationWarning", "-c", _FORK, str(tmp_path)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (0, "") == (child.returncode, child.stderr)


_KILLED_WRITERS = """
import asyncio, os, signal, sys, threading
from simplestore_async import AccessToken, FileTokenCache


def write_and_be_killed(step):
    # At the given call within the cache's thread; the writes between two calls are the kernel's own.
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


# case 50
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_writer_that_is_killed(tmp_path: Path) -> None:
    """A writer killed at any step leaves the old token until, at one of them, there is the new one; never a part."""
    command = [sys.executable, "-P", "-W", "ignore::DeprecationWarning", "-c", _KILLED_WRITERS, str(tmp_path)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (0, "") == (child.returncode, child.stderr)
    code, killed, old, new, one_change, is_new = child.stdout.split()

    assert ("0", "True", "True") == (code, one_change, is_new)
    assert int(killed) == int(old) + int(new)
    assert min(int(old), int(new)) > 20


_WRITERS_KILLED_AT_RANDOM = """
import asyncio, os, random, select, signal, sys, time
from pathlib import Path
from simplestore_async import AccessToken, FileTokenCache

folder, kills, chance = Path(sys.argv[1]), int(sys.argv[2]), random.Random(sys.argv[3])
tokens = [AccessToken(value, issued_at=1_700_000_000, expires_at=1_700_003_600) for value in ("old", "new" * 5000)]


async def write_for_ever(begun):
    cache = FileTokenCache(folder)
    await cache.set("key", tokens[0])
    os.write(begun, b".")
    while True:
        for token in tokens:
            await cache.set("key", token)


async def read_until(end):
    cache, seen = FileTokenCache(folder), [0, 0, 0]
    while not select.select([end], [], [], 0)[0]:
        token = await cache.get("key")
        seen[tokens.index(token) if token in tokens else 2] += 1
    print(*seen, flush=True)


asyncio.run(FileTokenCache(folder).set("key", tokens[0]))
end, ending = os.pipe()
reader = os.fork()
if not reader:
    os.close(ending)
    asyncio.run(read_until(end))
    os._exit(0)
for _ in range(kills):
    begun, beginning = os.pipe()
    writer = os.fork()
    if not writer:
        asyncio.run(write_for_ever(beginning))
    os.close(beginning)
    os.read(begun, 1)
    os.close(begun)
    time.sleep(chance.uniform(0, 0.002))
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
os.close(ending)
os.waitpid(reader, 0)
litter = list(folder.glob("*.tmp"))
for path in litter:
    os.utime(path, (0, 0))
asyncio.run(FileTokenCache(folder).set("key", tokens[1]))
print(len(litter), len(list(folder.iterdir())), asyncio.run(FileTokenCache(folder).get("key")) == tokens[1])
"""


# case 50
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_writers_that_are_killed_at_random(tmp_path: Path) -> None:
    """2 000 writers are killed at any moment, while one reader reads: it sees whole tokens only, and never none."""
    arguments = [str(tmp_path), "2000", str(time.time_ns())]
    sys.stdout.write(f"seed {arguments[2]}\n")
    command = [sys.executable, "-P", "-W", "ignore::DeprecationWarning", "-c", _WRITERS_KILLED_AT_RANDOM, *arguments]
    child = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert (0, "") == (child.returncode, child.stderr)
    old, new, other, litter, files, is_new = child.stdout.split()
    sys.stdout.write(f"{old} times the old token, {new} times the new one; {litter} temporary files were left\n")

    assert "0" == other
    assert min(int(old), int(new)) > 500
    assert int(litter) > 20
    assert ("1", "True") == (files, is_new)


async def test_readers_see_the_old_token_or_the_new(cache: FileTokenCache, folder: Path, path: Path) -> None:
    """While other instances replace the file all the time, every read gives a whole token."""
    tokens = [TOKEN, make_token("long" * 5000)]
    others = [FileTokenCache(folder) for _ in tokens]

    async def write(writer: FileTokenCache, token: AccessToken) -> None:
        for _ in range(40):
            await writer.set(KEY, token)

    writing = asyncio.gather(*map(write, others, tokens))
    got = []
    while not writing.done():
        got.append(await cache.get(KEY))
    await writing

    assert got
    assert all(token in tokens for token in got)
    assert [NAME] == names_in(folder)


# ---- platforms that lack something


async def test_without_folder_descriptors(
    cache: FileTokenCache, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where files cannot be opened relative to a folder it works by paths, with what checks are left."""
    monkeypatch.setattr(_folder, "_HAS_DIR_FD", False)
    assert await cache.get(KEY) is None
    await cache.set(KEY, TOKEN)
    assert TOKEN == await FileTokenCache(folder).get(KEY)
    assert 0o600 == mode_of(folder / NAME)

    (folder / NAME).chmod(0o644)
    assert await cache.get(KEY) is None
    for put in IN_THE_WAY:
        put(folder / NAME, tmp_path / put.__name__)
        assert await cache.get(KEY) is None
        await cache.set(KEY, TOKEN)
        assert TOKEN == await cache.get(KEY)

    leave_file(folder / f"{NAME}.x.tmp", age=70)
    with full_disk():
        await refusal(cache, "set")
    await cache.set(KEY, TOKEN)
    assert all(name == NAME or name.endswith(".folder") for name in names_in(folder))


async def test_without_owners_and_modes(
    cache: FileTokenCache, folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where files have no owners and modes, those are not looked at."""
    monkeypatch.delattr(os, "geteuid")
    path.chmod(0o666)
    folder.chmod(0o777)
    assert TOKEN == await cache.get(KEY)
    await cache.set(KEY, make_token(issued_at=ISSUED_AT - 1))
    assert make_token(issued_at=ISSUED_AT - 1) == await cache.get(KEY)
