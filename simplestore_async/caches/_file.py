"""Tokens in files. Rule: a file is trusted only if nobody else could have written or read it, and is replaced whole.

A folder of one's own (0700), a file for each key (0600 from its first byte) and a temporary file beside it that takes
its place: a reader sees the old token or the new one, never a part. Everything is opened relative to the folder, which
is opened once for each operation, so that it cannot be swapped in between. What a platform lacks is skipped there.
A third, empty file is locked while a token is renewed; the system lets go of it when its holder ends, however it ends.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import hashlib
import os
import stat
import time
import uuid
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar

from simplestore_async.errors import ConfigurationError, TokenCacheError

from ._format import FORMAT_VERSION, dumps, loads

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from filelock import BaseFileLock

    from simplestore_async._token import AccessToken

__all__ = ["FileTokenCache"]

T = TypeVar("T")

_MAX_BYTES: Final = 64 * 1024
_PREFIX: Final = f"token-v{FORMAT_VERSION}-"
_TEMPORARY_SUFFIX: Final = ".tmp"
# No write takes this long: whoever began it was killed.
_STALE_SECONDS: Final = 60.0
_LOCK_POLL_SECONDS: Final = 0.02

_HAS_DIR_FD: Final = {os.open, os.unlink, os.rename} <= os.supports_dir_fd and os.scandir in os.supports_fd


def _flags(*names: str) -> int:
    """Return the flags for `os.open()` that have these names, as many as the platform has."""
    return sum(getattr(os, name, 0) for name in names)


_OPEN_FOLDER: Final = _flags("O_DIRECTORY", "O_NOFOLLOW")
# Not through a symlink; not waiting for the other end of a FIFO.
_OPEN_FILE: Final = _flags("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY")


class FileTokenCache:
    """A cache in a folder, which outlives the process and is shared by every process of one user on one machine.

    Processes that share it renew one after the other, and each finds what the one before it got. File work happens in
    a thread of its own, never on the event loop. What cannot be trusted (another owner, a wider mode, a symlink, a
    damaged file, another key's token) is a miss, and is replaced. It may be used before and after a fork.

    Args:
        directory: the folder; made with mode 0700 if it is missing. By default `simplestore-async` in the user's cache
            directory, which is looked up when it is first needed.

    Raises:
        ConfigurationError: if *directory* is no path.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        if not isinstance(directory, str | os.PathLike | None):
            raise ConfigurationError(f"directory must be a path, which {type(directory).__name__} is not")
        self._directory = None if directory is None else Path(directory)
        self._executor: concurrent.futures.ThreadPoolExecutor | None = None
        self._executor_pid: int | None = None

    @property
    def directory(self) -> Path:
        """The folder that holds the files; it need not exist yet.

        Raises:
            RuntimeError: if none was named, and no home directory can be found.
        """
        if self._directory is None:
            # Imported here: most programs name a folder, or use no files at all.
            from platformdirs import user_cache_path

            path = user_cache_path("simplestore-async", appauthor=False)
            if not path.is_absolute():  # as older versions of platformdirs give it
                raise RuntimeError("no home directory can be found")
            self._directory = path
        return self._directory

    async def get(self, key: str, /) -> AccessToken | None:
        """Return the token last set for *key*, by whichever process.

        Raises:
            TokenCacheError: if the folder cannot be used; says what to do.
        """
        return await self._run(lambda: self._read(key))

    async def set(self, key: str, token: AccessToken, /) -> None:
        """Keep *token* for *key*, for every process.

        Raises:
            TokenCacheError: if the file cannot be written; says what to do. The old token, if any, is still whole.
        """
        await self._run(lambda: self._write(key, token))

    @asynccontextmanager
    async def renewal_lock(self, key: str, /) -> AsyncGenerator[None]:
        """Hold *key*'s lock among all processes that share the folder; entering it waits for the others.

        Raises:
            TokenCacheError: when entered, if the folder or its file system has no locks to give; says what to do.
        """
        lock = await self._run(lambda: self._make_lock(key))
        try:
            while not await self._run(lambda: _try_to_lock(lock)):
                await asyncio.sleep(_LOCK_POLL_SECONDS)
            yield
        finally:
            # There is one thread, so this comes after an attempt whose waiter was cancelled.
            await self._run(lock.release)

    def __reduce__(self) -> tuple[type[Self], tuple[Path | None]]:
        # Another process makes a thread of its own.
        return type(self), (self._directory,)

    async def _run(self, work: Callable[[], T]) -> T:
        # A thread of our own: those of the loop's default executor may all be waiting for this very token.
        # A forked process has the executor, but not its thread.
        if self._executor_pid != os.getpid():
            self._executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="simplestore-cache")
            self._executor_pid = os.getpid()
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._explain_failure, work)

    def _explain_failure(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (OSError, RuntimeError, ValueError) as error:  # no home directory can be found; a NUL in the path
            failure = self._describe_failure(error)
        raise failure

    def _describe_failure(self, error: Exception) -> TokenCacheError:
        problem = getattr(error, "strerror", None) or str(error)
        # A path with a NUL in it cannot even be looked at.
        with suppress(ValueError):
            if self._directory is not None and self._directory.is_symlink():
                problem = "it is a symlink, which another user may have put there; name the folder that it leads to"
        folder = "the user's cache directory" if self._directory is None else self._directory
        return TokenCacheError(f"Cannot keep tokens in {folder}: {problem}. Mend it, or name another folder")

    def _make_lock(self, key: str) -> BaseFileLock:
        from filelock import FileLock

        with self._make_folder():
            # A new one each time: one lock object lets every task of the process in. Not filelock's own asyncio lock,
            # whose finalizer starts a task on whichever event loop happens to run.
            return FileLock(
                self.directory / f"{_PREFIX}{_digest(key)}.lock",
                mode=0o600,
                thread_local=False,  # one that is lost is let go of, whichever thread loses it
                fallback_to_soft=False,  # the existence of a file would outlive its maker
            )

    def _read(self, key: str) -> AccessToken | None:
        name, header = _name_and_header(key)
        try:
            with _Folder(self.directory) as folder:
                data = folder.read(name)
        except FileNotFoundError:
            return None
        if not data.startswith(header):
            return None
        with suppress(TokenCacheError):
            return loads(data[len(header) :])
        return None

    def _write(self, key: str, token: AccessToken) -> None:
        name, header = _name_and_header(key)
        data = header + dumps(token)
        if len(data) > _MAX_BYTES:
            raise TokenCacheError(f"The token is too long to be kept: with its file it takes {len(data)} bytes")
        with self._make_folder() as folder:
            folder.replace(name, data)
            # The token is stored, whatever becomes of the litter.
            with suppress(OSError):
                folder.remove_stale_files()

    def _make_folder(self) -> _Folder:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _Folder(self.directory)


def _try_to_lock(lock: BaseFileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except TimeoutError:
        return False
    return True


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _name_and_header(key: str) -> tuple[str, bytes]:
    """Return the file's name, and the line that its content starts with: another key's file, copied, is a miss."""
    digest = _digest(key)
    return f"{_PREFIX}{digest}.json", f"{digest}\n".encode()


class _Folder:
    """An open folder that only its owner can write to, and the file operations in it. All of them raise OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, _OPEN_FOLDER) if _HAS_DIR_FD else None

    def __enter__(self) -> Self:
        if self._descriptor is not None:
            status = os.fstat(self._descriptor)
            problem = _find_fault(status, forbidden_mode=0o022)
            if problem is not None:
                self.__exit__()
                raise PermissionError(errno.EPERM, f"{problem} (a folder of mode 0700 is made where there is none)")
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def read(self, name: str) -> bytes:
        """Return the file's content; nothing if it is missing, too long, or others could have written or read it."""
        try:
            descriptor = self._open(name, os.O_RDONLY)
        except OSError:
            return b""
        status = os.fstat(descriptor)
        is_file = stat.S_ISREG(status.st_mode) and status.st_size <= _MAX_BYTES
        if not is_file or _find_fault(status, forbidden_mode=0o077) is not None:
            os.close(descriptor)
            return b""
        with open(descriptor, "rb") as file:  # noqa: PTH123 - of a descriptor
            return file.read(_MAX_BYTES)

    def replace(self, name: str, data: bytes) -> None:
        """Put a file with *data* in the place of *name*, whatever is there."""
        temporary = f"{name}.{uuid.uuid4().hex}{_TEMPORARY_SUFFIX}"
        try:
            with open(self._open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:  # noqa: PTH123 - as above
                file.write(data)
            try:
                self._rename(temporary, name)
            except IsADirectoryError:
                # Moved aside: what is in that folder is not ours to delete.
                self._rename(name, f"{name}.{uuid.uuid4().hex}.folder")
                self._rename(temporary, name)
        except OSError:
            with suppress(OSError):
                os.unlink(self._locate(temporary), dir_fd=self._descriptor)
            raise

    def remove_stale_files(self) -> None:
        """Remove the temporary files of writers that were killed."""
        oldest = time.time() - _STALE_SECONDS
        with os.scandir(self._path if self._descriptor is None else self._descriptor) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            if name.startswith(_PREFIX) and name.endswith(_TEMPORARY_SUFFIX):
                with suppress(OSError):
                    status = os.stat(self._locate(name), dir_fd=self._descriptor, follow_symlinks=False)
                    if status.st_mtime < oldest:
                        os.unlink(self._locate(name), dir_fd=self._descriptor)

    def _locate(self, name: str) -> str | Path:
        return self._path / name if self._descriptor is None else name

    def _open(self, name: str, flags: int) -> int:
        return os.open(self._locate(name), flags | _OPEN_FILE, 0o600, dir_fd=self._descriptor)

    def _rename(self, old: str, new: str) -> None:
        os.replace(self._locate(old), self._locate(new), src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)


def _find_fault(status: os.stat_result, *, forbidden_mode: int) -> str | None:
    """Return why a file or folder cannot be trusted, if so; always None where the platform has no owners and modes."""
    if not hasattr(os, "geteuid"):
        return None
    if status.st_uid != os.geteuid():
        return "it belongs to another user"
    if status.st_mode & forbidden_mode:
        return f"its mode {stat.S_IMODE(status.st_mode):04o} lets others in"
    return None
