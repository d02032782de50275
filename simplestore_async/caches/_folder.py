"""A folder of one's own. Rule: a file is trusted only if nobody else could have written or read it, and replaced whole.

Everything is opened relative to the folder, which is opened once for each operation, so that it cannot be swapped in
between. What a platform lacks is skipped there.
"""

from __future__ import annotations

import errno
import os
import stat
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from simplestore_async._core.redaction import conceal

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MAX_BYTES", "Folder"]

MAX_BYTES: Final = 64 * 1024
_TEMPORARY_SUFFIX: Final = ".tmp"
# No write takes this long: whoever began it was killed.
_STALE_SECONDS: Final = 60.0

_HAS_DIR_FD: Final = {os.open, os.unlink, os.rename} <= os.supports_dir_fd and os.scandir in os.supports_fd


def _flags(*names: str) -> int:
    """Return the flags for `os.open()` that have these names, as many as the platform has."""
    return sum(getattr(os, name, 0) for name in names)


_OPEN_FOLDER: Final = _flags("O_DIRECTORY", "O_NOFOLLOW")
# Not through a symlink; not waiting for the other end of a FIFO.
_OPEN_FILE: Final = _flags("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY")


class Folder:
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

    def names(self) -> list[str]:
        """Return the names of all that is in it, in no order."""
        with os.scandir(self._path if self._descriptor is None else self._descriptor) as entries:
            return [entry.name for entry in entries]

    def read(self, name: str) -> bytes | str:
        """Return what the file holds, redacted; or, as text, why not: it is missing, or is not trusted."""
        try:
            descriptor = self._open(name, os.O_RDONLY)
        except OSError as error:
            return "it is a symlink" if error.errno == errno.ELOOP else error.strerror or str(error)
        status = os.fstat(descriptor)
        problem = _find_fault(status, forbidden_mode=0o077)
        if not stat.S_ISREG(status.st_mode):
            problem = "it is no regular file"
        elif status.st_size > MAX_BYTES:
            problem = "it is too long to hold a token"
        if problem is not None:
            os.close(descriptor)
            return problem
        with open(descriptor, "rb") as file:  # noqa: PTH123 - of a descriptor
            return conceal(file.read(MAX_BYTES))

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

    def remove(self, name: str) -> bool:
        """Remove what is there unless it is a folder, of a symlink the link itself; return whether that was done."""
        with suppress(FileNotFoundError):  # another process was quicker
            if not stat.S_ISDIR(self._status(name).st_mode):
                os.unlink(self._locate(name), dir_fd=self._descriptor)
                return True
        return False

    def remove_stale_files(self, prefix: str) -> int:
        """Remove the temporary files of writers that were killed, and return how many.

        Args:
            prefix: what their names start with.
        """
        oldest = time.time() - _STALE_SECONDS
        removed = 0
        for name in self.names():
            if name.startswith(prefix) and name.endswith(_TEMPORARY_SUFFIX):
                with suppress(OSError):
                    removed += self._status(name).st_mtime < oldest and self.remove(name)
        return removed

    def _locate(self, name: str) -> str | Path:
        return self._path / name if self._descriptor is None else name

    def _open(self, name: str, flags: int) -> int:
        return os.open(self._locate(name), flags | _OPEN_FILE, 0o600, dir_fd=self._descriptor)

    def _status(self, name: str) -> os.stat_result:
        return os.stat(self._locate(name), dir_fd=self._descriptor, follow_symlinks=False)

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
