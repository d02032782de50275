"""Tokens in files. Rule: a file is trusted only if no other user could have written or read it, and is replaced whole.

The directory has mode 0700; each key has a file of mode 0600, which a temporary file replaces: a reader sees the old
token or the new one, never a part. Another, empty file is locked while a token is renewed; the system releases the lock
when its holder ends in any way.
"""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from simplestore_async._core.clock import Clock
from simplestore_async._core.token import AccessToken
from simplestore_async._core.validation import check_type, type_error
from simplestore_async._core.worker import Worker
from simplestore_async.errors import ConfigurationError, TokenCacheError

from ._coding import check_codec
from ._directory import MAX_BYTES, Directory, UnsafeModeError, make_directory
from ._format import FORMAT_VERSION, StoredForm, digest_of
from ._inventory import ANY_PREFIX, TokenFile, clear_files, list_files

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from filelock import BaseFileLock

    from simplestore_async._core.cache import TokenCodec

__all__ = ["FileTokenCache"]

T = TypeVar("T")

_PREFIX: Final = f"{ANY_PREFIX}{FORMAT_VERSION}-"
_LOCK_POLL_SECONDS: Final = 0.02
# `$HOME/x` and `%APPDATA%\x`, which only a shell expands.
_SHELL_VARIABLE: Final = re.compile(r"\$\w|\$\{|%\w+%")


class FileTokenCache:
    """A cache in a directory, shared by all processes of one user on one machine.

    Processes that share it renew one after the other, and each finds the token of the one before. File operations run
    in a thread of the cache, never on the event loop. An entry that cannot be trusted (another owner, a wider mode, a
    symlink, a damaged file, another key's token) is a cache miss, and is replaced. A directory of the
    current user that others may write to, and that holds only token files, gets mode 0700, with a warning in the log.
    The cache may be used before and after a fork.

    Args:
        directory: the directory; if it or a parent is missing, it is created with mode 0700. `~` is the home directory.
            By default `simplestore-async` in the user's cache directory, which is determined at first use.
        codec: encrypts the files, such as `simplestore_async.caches.encryption.FernetCodec`; it runs in the cache's
            thread. By default tokens are stored unencrypted. All programs that share the directory need the same codec:
            file names do not depend on it.
        clock: the clock for a token's age until the machine restarts; by default the system clock.

    Raises:
        ConfigurationError: if *directory* is not a path, *codec* not a codec, or *clock* not a clock.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        codec: TokenCodec | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._directory = None if directory is None else _parse_directory(directory)
        check_codec(codec)
        check_type("clock", clock, Clock | None)
        self._form = StoredForm(codec, clock)
        self._worker = Worker("simplestore-cache")

    def __repr__(self) -> str:
        directory = getattr(self, "_directory", None)  # missing in a traceback of the constructor
        return f"{type(self).__name__}({'' if directory is None else repr(str(directory))})"

    @property
    def directory(self) -> Path:
        """The directory that holds the files; it need not exist yet.

        Raises:
            TokenCacheError: if none was named, and there is no home directory.
        """
        if self._directory is None:
            # Imported here: most programs name a directory, or use no files at all.
            from platformdirs import user_cache_path

            try:
                path = user_cache_path("simplestore-async", appauthor=False)
            except RuntimeError:
                path = None
            if path is None or not path.is_absolute():  # from older versions of platformdirs
                raise TokenCacheError(
                    "cannot use the user's cache directory: there is no home directory", "name a directory"
                )
            self._directory = path
        return self._directory

    async def get(self, key: str, /) -> AccessToken | None:
        """Return the token last set for *key*, by any process.

        Raises:
            ConfigurationError: if *key* is not a string.
            TokenCacheError: if the directory cannot be used, or the codec fails.
        """
        digest = digest_of(key)
        return await self._run(lambda: self._read(digest), droppable=True)

    async def set(self, key: str, token: AccessToken, /) -> None:
        """Keep *token* for *key*, for all processes. The token is stored even if the caller is cancelled.

        Raises:
            ConfigurationError: if *key* is not a string, or *token* not an `AccessToken`.
            TokenCacheError: if the codec fails, or the file cannot be written. The old token, if any, is still whole.
        """
        digest = digest_of(key)
        check_type("token", token, AccessToken)
        await self._run(lambda: self._write(digest, token))

    async def list_files(self) -> list[TokenFile]:
        """Return facts about each token file in the directory, ordered by name, without the tokens.

        Files whose tokens are not used are included, with the reason. A missing directory has no files.

        Raises:
            TokenCacheError: if the directory cannot be used, or the codec fails.
        """

        def work() -> list[TokenFile]:
            return self._visit(Directory, lambda directory: list_files(directory, self._form)) or []

        return await self._run(work, droppable=True)

    async def clear(self) -> int:
        """Remove all token files, and temporary files of killed writers; return their number.

        Lock files stay, because a process may be about to lock one. Providers keep their held tokens, and no token is
        revoked.

        Raises:
            TokenCacheError: if the directory cannot be used, or a file cannot be removed.
        """
        return await self._run(lambda: self._visit(Directory, clear_files) or 0)

    @asynccontextmanager
    async def renewal_lock(self, key: str, /) -> AsyncGenerator[None]:
        """Hold *key*'s lock among all processes that share the directory; entering it waits for other holders.

        Raises:
            ConfigurationError: when entered, if *key* is not a string.
            TokenCacheError: when entered, if the directory cannot be used, or its file system has no locks.
        """
        digest = digest_of(key)
        lock = await self._run(lambda: self._make_lock(digest), droppable=True)
        try:
            while not await self._run(lambda: _try_to_lock(lock), droppable=True):
                await asyncio.sleep(_LOCK_POLL_SECONDS)
            yield
        finally:
            # There is one thread: this runs after an attempt whose waiter was cancelled.
            await self._run(lock.release)

    async def _run(self, work: Callable[[], T], *, droppable: bool = False) -> T:
        try:
            return await self._worker.run(lambda: self._explain_failure(work), droppable=droppable)
        except RuntimeError as error:  # no thread can be started
            problem = str(error)
        raise self._failure(problem)

    def _explain_failure(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except OSError as error:
            problem, hint = error.strerror or type(error).__name__, ""
            if self._directory is not None:
                if self._directory.is_symlink():
                    problem = "it is a symlink, which another user may have put there"
                    hint = "name its target"
                elif isinstance(error, UnsafeModeError):
                    hint = f"run `chmod 700 {self._directory}`, or choose another directory"
        except RuntimeError as error:  # file locks that the platform lacks
            problem, hint = str(error) or type(error).__name__, ""
        raise self._failure(problem, hint)

    def _failure(self, problem: str, hint: str = "") -> TokenCacheError:
        place = "the user's cache directory" if self._directory is None else f"cache directory {self._directory}"
        return TokenCacheError(f"cannot use {place}: {problem}", hint or "fix it or choose another directory")

    def _make_lock(self, digest: str) -> BaseFileLock:
        from filelock import FileLock

        with _make_directory(self.directory):
            # A new one each time: one lock object admits every task of the process. Not filelock's asyncio lock, whose
            # finalizer starts a task on any running event loop.
            return FileLock(
                self.directory / f"{_PREFIX}{digest}.lock",
                mode=0o600,
                thread_local=False,  # a lost object releases its lock in any thread
                fallback_to_soft=False,  # a lock that is a file's existence would outlive its holder
            )

    def _read(self, digest: str) -> AccessToken | None:
        data = self._visit(_open_for_use, lambda directory: directory.read(f"{_PREFIX}{digest}.json"))
        return self._form.unpack(digest, data) if isinstance(data, bytes) else None

    def _write(self, digest: str, token: AccessToken) -> None:
        data = self._form.pack(digest, token)
        if len(data) > MAX_BYTES:
            raise TokenCacheError(f"the token is too long to be stored: its file takes {len(data)} bytes")
        with _make_directory(self.directory) as directory:
            directory.replace(f"{_PREFIX}{digest}.json", data)
            # The token is stored, even if old files cannot be removed.
            with suppress(OSError):
                directory.remove_stale_files(_PREFIX)

    def _visit(self, open_directory: Callable[[Path], Directory], work: Callable[[Directory], T]) -> T | None:
        """Return the result of *work* in the directory, or None if there is no directory."""
        try:
            with open_directory(self.directory) as directory:
                return work(directory)
        except FileNotFoundError:
            return None


def _make_directory(path: Path) -> Directory:
    make_directory(path)
    return _open_for_use(path)


def _open_for_use(path: Path) -> Directory:
    return Directory(path, prefix=ANY_PREFIX)


def _parse_directory(value: Any) -> Path:
    if not isinstance(value, str | os.PathLike) or isinstance(value, type):
        raise type_error("directory", value, "a path")
    given = cast("str | os.PathLike[str]", value)
    path = None
    with suppress(TypeError):  # a path of bytes
        path = Path(given)
    if path is None:
        raise type_error("directory", given, "a path of text")
    if not str(given):
        raise ConfigurationError("directory", "is empty", "leave it out for the user's cache directory")
    if "\0" in str(path):
        raise ConfigurationError("directory", "holds a NUL character")
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise ConfigurationError("directory", "holds a character that no file name can have") from None
    if _SHELL_VARIABLE.match(str(path)):
        raise ConfigurationError("directory", "starts with a variable of the shell", "use os.path.expandvars()")
    try:
        return path.expanduser()
    except RuntimeError:
        problem = "starts with ~, and there is no such home directory"
    raise ConfigurationError("directory", problem, "write the whole path")


def _try_to_lock(lock: BaseFileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except TimeoutError:
        return False
    return True
