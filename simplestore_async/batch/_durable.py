"""A file that only grows. Rule: what was appended is on the disk when `sync` returns."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["DurableFile"]


class DurableFile:
    """A file, made if there is none, and open until `close()`.

    Attributes:
        path: where it is.
        size: how many bytes are in it.
        synced_size: how many of them are on the disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        self.size = os.fstat(self._descriptor).st_size
        self.synced_size = 0
        if not self.size:
            _sync_folder(path.parent)

    def append(self, data: bytes) -> None:
        """Write all of *data* at the end."""
        os.lseek(self._descriptor, self.size, os.SEEK_SET)
        while data:
            written = os.write(self._descriptor, data)
            self.size += written
            data = data[written:]

    def sync(self) -> None:
        """See on the disk what was written, if anything was."""
        if self.synced_size != self.size:
            os.fsync(self._descriptor)
            self.synced_size = self.size

    def lines(self, start: int = 0) -> Iterator[bytes]:
        """Yield the lines from a byte on, each with its line break; the last one may have none."""
        with self.path.open("rb") as file:
            file.seek(start)
            yield from file

    def cut(self, size: int) -> None:
        """Take off what is beyond *size*."""
        os.ftruncate(self._descriptor, size)
        self.size = size
        self.synced_size = -1

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)


def _sync_folder(path: Path) -> None:
    """See the entry of a new file on the disk."""
    with suppress(PermissionError):  # Windows opens no folders
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
