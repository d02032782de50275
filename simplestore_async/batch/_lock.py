"""Whose a journal is. Rule: one batch at a time uses it, and none begins where another has been."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simplestore_async.errors import JournalError

if TYPE_CHECKING:
    from pathlib import Path

    from filelock import BaseFileLock

__all__ = ["check_presence", "take_lock"]


def check_presence(path: Path, *, is_resumed: bool) -> None:
    """Raise `JournalError` if there is a journal that should not be there, or none where one should be."""
    is_there = path.exists()
    if is_resumed and not is_there:
        raise JournalError(f"there is no journal {path} to resume: leave out --resume to begin")
    if is_there and not is_resumed:
        raise JournalError(
            f"there is a journal already, {path}: go on with --resume; or remove it, and everything is sent again"
        )


def take_lock(path: Path) -> BaseFileLock:
    """Return a lock that is held until it is released, or the process ends; raise `JournalError` if another has it."""
    from filelock import FileLock

    # Beside the journal, which filelock would open in its own way.
    lock = FileLock(f"{path}.lock", thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except TimeoutError:
        pass
    else:
        return lock
    raise JournalError(f"another batch is at work with the journal {path}: wait until it has ended")
