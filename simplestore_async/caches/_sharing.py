"""File operations where an open file cannot be replaced or removed: Windows. Rule: one process at a time does them.

Retries alone do not suffice: while many processes read a file, it may never be closed in all of them at once.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["share"]

T = TypeVar("T")

# A holder takes milliseconds; if it hangs, the operation runs without the mutex.
_MUTEX_SECONDS: Final = 10.0
# Other programs, such as virus scanners, do not take the mutex.
_RETRY_SECONDS: Final = 1.0
_RETRY_POLL_SECONDS: Final = 0.005


def share(directory: Path, operation: Callable[[], T]) -> T:
    """Run *operation* on files of *directory*; on Windows, while no other process of the session does.

    Raises:
        OSError: from *operation*; on Windows, PermissionError if it persists.
    """
    with _exclusive(directory):
        ends_at = time.monotonic() + _RETRY_SECONDS
        while sys.platform == "win32" and time.monotonic() < ends_at:
            try:
                return operation()
            except PermissionError:
                time.sleep(_RETRY_POLL_SECONDS)
        return operation()


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _OWNED: Final = {0, 0x80}  # WAIT_OBJECT_0, and WAIT_ABANDONED: its holder was killed

    _kernel = ctypes.WinDLL("kernel32")
    _kernel.CreateMutexW.argtypes = wintypes.LPVOID, wintypes.BOOL, wintypes.LPCWSTR
    _kernel.CreateMutexW.restype = wintypes.HANDLE
    _kernel.WaitForSingleObject.argtypes = wintypes.HANDLE, wintypes.DWORD
    _kernel.ReleaseMutex.argtypes = _kernel.CloseHandle.argtypes = (wintypes.HANDLE,)

    @contextmanager
    def _exclusive(directory: Path) -> Iterator[None]:
        """Hold the directory's mutex, for which the system queues all threads of the session."""
        status = directory.stat()  # the same directory by any name
        mutex = _kernel.CreateMutexW(None, 0, f"Local\\simplestore-async-{status.st_dev}-{status.st_ino}")
        is_owned = _kernel.WaitForSingleObject(mutex, int(_MUTEX_SECONDS * 1000)) in _OWNED
        try:
            yield
        finally:
            if is_owned:
                _kernel.ReleaseMutex(mutex)
            _kernel.CloseHandle(mutex)

else:
    _exclusive = nullcontext
