"""When attempts end that take too long. Rule: one timer for all of them.

All may take equally long, so that the oldest is the first to end. A timer of its own for each, nearly all of which are
set for nothing, costs a sixth of what it takes to send a request; an `asyncio.Timeout` for each, without a timer, a
fifteenth. So the tasks are cancelled as `asyncio.timeout()` does it, by what all of them share.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Deadlines"]


class Deadlines:
    """The deadlines of attempts on one event loop, each after *seconds*.

    A context manager, which each task enters for one attempt after the other: it raises TimeoutError if what is within
    takes too long.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        # Oldest first; those that are overdue are not among them.
        self._ends_at: dict[asyncio.Task[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self._ends_at[_running_task()] = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._end_overdue)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task = _running_task()
        if self._ends_at.pop(task, None) is not None:
            return
        # As in `asyncio.timeout()`: whoever cancelled the task besides wants it to end.
        if not task.uncancel() and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def close(self) -> None:
        """Forget the timer."""
        if self._timer:
            self._timer.cancel()

    def _end_overdue(self) -> None:
        self._timer = None
        now = self._loop.time()
        for task, ends_at in [*self._ends_at.items()]:
            if ends_at > now:
                self._timer = self._loop.call_at(ends_at, self._end_overdue)
                break
            del self._ends_at[task]
            task.cancel()


def _running_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - attempts are made by tasks
    return task
