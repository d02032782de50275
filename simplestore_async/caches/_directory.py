"""A private directory. Rule: only its owner can write to it; a file that others could have changed is not trusted.

The directory is opened once per operation, and files relative to it, so that it cannot be replaced in between. Checks
that a platform does not support are skipped.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self, TypeVar

from simplestore_async._core.redaction import conceal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["MAX_BYTES", "Directory", "UnsafeModeError", "make_directory"]

T = TypeVar("T")

MAX_BYTES: Final = 64 * 1024
_TEMPORARY_SUFFIX: Final = ".tmp"
# No write takes this long: the writer was killed.
_STALE_SECONDS: Final = 60.0
# Windows refuses to replace, remove or open a file while another process is reading or replacing it.
_SHARING_SECONDS: Final = 1.0
_SHARING_POLL_SECONDS: Final = 0.005
# Names that the root of a volume may have besides the cache's files.
_FOREIGN_NAMES: Final = frozenset({"lost+found"})

_HAS_DIR_FD: Final = {os.open, os.unlink, os.rename} <= os.supports_dir_fd and os.scandir in os.supports_fd

_logger: Final = logging.getLogger("simplestore_async")


class UnsafeModeError(PermissionError):
    """The directory belongs to this user, and its mode gives other users access."""


def _flags(*names: str) -> int:
    """Return the flags for `os.open()` that the platform supports."""
    return sum(getattr(os, name, 0) for name in names)


_OPEN_DIRECTORY: Final = _flags("O_DIRECTORY", "O_NOFOLLOW")
# O_NOFOLLOW: refuse symlinks. O_NONBLOCK: do not wait for the other end of a FIFO.
_OPEN_FILE: Final = _flags("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY")


def make_directory(path: Path) -> None:
    """Create the directory and its missing parents with mode 0700, whatever the umask.

    Raises:
        OSError: if one cannot be created.
    """
    if not path.is_dir():
        for parent in reversed(path.parents):
            if not parent.exists():
                parent.mkdir(0o700, exist_ok=True)
        path.mkdir(0o700, exist_ok=True)


class Directory:
    """An open directory that only its owner can write to, and the file operations in it, which raise OSError.

    Args:
        path: the directory.
        prefix: common prefix of its file names. If set, a directory of this user that others may write to is made
            private if it has no other files, and otherwise refused.
    """

    def __init__(self, path: Path, *, prefix: str | None = None) -> None:
        self._path = path
        self._prefix = prefix
        self._descriptor = os.open(path, _OPEN_DIRECTORY) if _HAS_DIR_FD else None

    def __enter__(self) -> Self:
        try:
            self._check()
        except OSError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def names(self) -> list[str]:
        """Return the names of all entries, unordered."""
        with os.scandir(self._path if self._descriptor is None else self._descriptor) as entries:
            return [entry.name for entry in entries]

    def read(self, name: str) -> bytes | str:
        """Return the file's content, redacted, or the reason why it cannot be read or trusted."""
        try:
            descriptor = _share(lambda: self._open(name, os.O_RDONLY))
        except OSError as error:
            return "it is a symlink" if error.errno == errno.ELOOP else error.strerror or str(error)
        status = os.fstat(descriptor)
        problem = _find_fault(status, forbidden_mode=0o077)
        if not stat.S_ISREG(status.st_mode):
            problem = "it is not a regular file"
        elif status.st_size > MAX_BYTES:
            problem = "it is too long for a token"
        if problem is not None:
            os.close(descriptor)
            return problem
        with os.fdopen(descriptor, "rb") as file:
            return conceal(file.read(MAX_BYTES))

    def replace(self, name: str, data: bytes) -> None:
        """Replace *name*, whatever it is, with a file that contains *data*."""
        temporary = f"{name}.{uuid.uuid4().hex}{_TEMPORARY_SUFFIX}"
        try:
            with os.fdopen(self._open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                file.write(data)
            if self._is_directory(name):
                # Renamed, not deleted: its contents may be valuable.
                self._rename(name, f"{name}.{uuid.uuid4().hex}.directory")
            self._rename(temporary, name)
        except OSError:
            with suppress(OSError):
                os.unlink(self._locate(temporary), dir_fd=self._descriptor)
            raise

    def remove(self, name: str) -> bool:
        """Remove the file or symlink; return False if it is a directory or missing."""
        with suppress(FileNotFoundError):  # another process removed it
            if not stat.S_ISDIR(self._status(name).st_mode):
                _share(lambda: os.unlink(self._locate(name), dir_fd=self._descriptor))
                return True
        return False

    def remove_stale_files(self, prefix: str) -> int:
        """Remove the temporary files of killed writers whose names start with *prefix*; return their number."""
        oldest = time.time() - _STALE_SECONDS
        removed = 0
        for name in self.names():
            if name.startswith(prefix) and name.endswith(_TEMPORARY_SUFFIX):
                with suppress(OSError):
                    removed += self._status(name).st_mtime < oldest and self.remove(name)
        return removed

    def _check(self) -> None:
        status = self._path.stat() if self._descriptor is None else os.fstat(self._descriptor)
        problem = _find_fault(status, forbidden_mode=0o022)
        if problem is not None and not self._make_private(status):
            is_ours = status.st_uid == os.geteuid()
            raise (UnsafeModeError if is_ours else PermissionError)(errno.EPERM, problem)

    def _make_private(self, status: os.stat_result) -> bool:
        """Remove other users' access to a directory of this user; return whether that was safe and possible."""
        # A sticky directory, such as /tmp for root, or one with files of other programs, is shared on purpose.
        if self._prefix is None or status.st_uid != os.geteuid() or status.st_mode & stat.S_ISVTX:
            return False
        if not all(name.startswith(self._prefix) or name in _FOREIGN_NAMES for name in self.names()):
            return False
        try:
            os.chmod(self._path if self._descriptor is None else self._descriptor, 0o700)  # noqa: PTH101 - of a descriptor
        except OSError:
            return False
        mode = stat.S_IMODE(status.st_mode)
        _logger.warning("cache directory %s: mode %04o gave other users access; changed to 0700", self._path, mode)
        return True

    def _locate(self, name: str) -> str | Path:
        return self._path / name if self._descriptor is None else name

    def _open(self, name: str, flags: int) -> int:
        return os.open(self._locate(name), flags | _OPEN_FILE, 0o600, dir_fd=self._descriptor)

    def _status(self, name: str) -> os.stat_result:
        return os.stat(self._locate(name), dir_fd=self._descriptor, follow_symlinks=False)

    def _is_directory(self, name: str) -> bool:
        try:
            return stat.S_ISDIR(self._status(name).st_mode)
        except FileNotFoundError:
            return False

    def _rename(self, old: str, new: str) -> None:
        _share(
            lambda: os.replace(
                self._locate(old), self._locate(new), src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor
            )
        )


def _share(operation: Callable[[], T]) -> T:
    """Run *operation*; on Windows, retry briefly while another process has the file open."""
    ends_at = time.monotonic() + _SHARING_SECONDS
    while sys.platform == "win32" and time.monotonic() < ends_at:
        try:
            return operation()
        except PermissionError:
            time.sleep(_SHARING_POLL_SECONDS)
    return operation()


def _find_fault(status: os.stat_result, *, forbidden_mode: int) -> str | None:
    """Return why a file or directory cannot be trusted, or None; always None without owners and modes."""
    if not hasattr(os, "geteuid"):
        return None
    if status.st_uid != os.geteuid():
        return "it belongs to another user"
    if status.st_mode & forbidden_mode:
        return f"mode {stat.S_IMODE(status.st_mode):04o} gives other users access"
    return None
