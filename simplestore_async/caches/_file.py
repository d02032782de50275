"""Tokens in files. Rule: a file is trusted only if nobody else could have written or read it, and is replaced whole.

A folder of one's own (0700), a file for each key (0600 from its first byte) and a temporary file beside it that takes
its place: a reader sees the old token or the new one, never a part. A third, empty file is locked while a token is
renewed; the system lets go of it when its holder ends, however it ends.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from simplestore_async.errors import ConfigurationError, TokenCacheError

from ._coding import check_codec
from ._folder import MAX_BYTES, Folder
from ._format import FORMAT_VERSION, digest_of, pack, unpack
from ._inventory import TokenFile, clear_files, list_files
from ._thread import OwnThread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from filelock import BaseFileLock

    from simplestore_async._core.cache import TokenCodec
    from simplestore_async._core.token import AccessToken

__all__ = ["FileTokenCache"]

T = TypeVar("T")

_PREFIX: Final = f"token-v{FORMAT_VERSION}-"
_LOCK_POLL_SECONDS: Final = 0.02


class FileTokenCache:
    """A cache in a folder, which outlives the process and is shared by every process of one user on one machine.

    Processes that share it renew one after the other, and each finds what the one before it got. File work happens in
    a thread of its own, never on the event loop. What cannot be trusted (another owner, a wider mode, a symlink, a
    damaged file, another key's token) is a miss, and is replaced. It may be used before and after a fork.

    Args:
        directory: the folder; made with mode 0700 if it is missing. By default `simplestore-async` in the user's cache
            directory, which is looked up when it is first needed.
        codec: what encrypts the files, such as `simplestore_async.caches.encryption.FernetCodec`; it runs in the
            cache's thread. By default they hold tokens in clear. The files keep their names, so that one in clear is
            replaced by an encrypted one: whoever shares the folder needs the same codec.

    Raises:
        ConfigurationError: if *directory* is no path, or *codec* no codec.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None, *, codec: TokenCodec | None = None) -> None:
        if not isinstance(directory, str | os.PathLike | None):
            raise ConfigurationError(f"directory must be a path, which {type(directory).__name__} is not")
        check_codec(codec)
        self._directory = None if directory is None else Path(directory)
        self._codec = codec
        self._thread = OwnThread()

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
            TokenCacheError: if the folder cannot be used, or the codec fails; says what to do.
        """
        return await self._run(lambda: self._read(key))

    async def set(self, key: str, token: AccessToken, /) -> None:
        """Keep *token* for *key*, for every process.

        Raises:
            TokenCacheError: if the codec fails, or the file cannot be written; says what to do. The old token, if any,
                is still whole.
        """
        await self._run(lambda: self._write(key, token))

    async def list_files(self) -> list[TokenFile]:
        """Return what is known of each token's file in the folder, in the order of their names, without the tokens.

        A file that no token would be taken from is among them, with the reason. Where there is no folder there are no
        files.

        Raises:
            TokenCacheError: if the folder cannot be used, or the codec fails; says what to do.
        """
        return await self._run(lambda: self._visit(lambda folder: list_files(folder, self._codec)) or [])

    async def clear(self) -> int:
        """Remove every token's file, and what killed writers left; return how many files that were.

        Nothing else in the folder is touched: lock files stay, since a process may be about to take one. Providers go
        on with the tokens that they hold, and no token is revoked by this.

        Raises:
            TokenCacheError: if the folder cannot be used, or a file cannot be removed; says what to do.
        """
        return await self._run(lambda: self._visit(clear_files) or 0)

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

    async def _run(self, work: Callable[[], T]) -> T:
        return await self._thread.run(lambda: self._explain_failure(work))

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
                self.directory / f"{_PREFIX}{digest_of(key)}.lock",
                mode=0o600,
                thread_local=False,  # one that is lost is let go of, whichever thread loses it
                fallback_to_soft=False,  # the existence of a file would outlive its maker
            )

    def _read(self, key: str) -> AccessToken | None:
        digest = digest_of(key)
        data = self._visit(lambda folder: folder.read(f"{_PREFIX}{digest}.json"))
        return unpack(digest, data, self._codec) if isinstance(data, bytes) else None

    def _write(self, key: str, token: AccessToken) -> None:
        digest = digest_of(key)
        data = pack(digest, token, self._codec)
        if len(data) > MAX_BYTES:
            raise TokenCacheError(f"The token is too long to be kept: with its file it takes {len(data)} bytes")
        with self._make_folder() as folder:
            folder.replace(f"{_PREFIX}{digest}.json", data)
            # The token is stored, whatever becomes of the litter.
            with suppress(OSError):
                folder.remove_stale_files(_PREFIX)

    def _visit(self, work: Callable[[Folder], T]) -> T | None:
        """Return what *work* makes of the folder, or None if there is no folder."""
        try:
            with Folder(self.directory) as folder:
                return work(folder)
        except FileNotFoundError:
            return None

    def _make_folder(self) -> Folder:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Folder(self.directory)


def _try_to_lock(lock: BaseFileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except TimeoutError:
        return False
    return True
