"""Single flight. Rule: one operation at a time, one outcome for everybody who waits, and nobody owns it but the flight.

A caller that is cancelled, or whose deadline passes, ends its own wait and nothing else. Each awaits a plain future of
its own (a queue on a lock serves them one by one, and `asyncio.shield` makes cancelling them quadratic). Outcomes are
settled in a done-callback, because a task that is cancelled before its first step runs none of its own code.
"""

from __future__ import annotations

import asyncio
import copy
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Outcome", "SingleFlight"]

T = TypeVar("T")

# With so many waiters, and then each time they have doubled, those who wait no more are dropped.
_FIRST_SWEEP: Final = 1000


class Outcome(Generic[T]):
    """How an operation ended, for everybody who waited."""

    __slots__ = ("_error", "_task")

    def __init__(self, task: asyncio.Task[T], error: BaseException | None) -> None:
        self._task = task
        self._error = error

    def result(self) -> T:
        """Return the result, or raise the caller's own copy of the error."""
        # The error travels as a result: an exception set on a future that is then cancelled is "never retrieved".
        if self._error is not None:
            raise copy.copy(self._error)
        return self._task.result()


class SingleFlight(Generic[T]):
    """One running operation on one event loop, and everyone who waits for it.

    Used from one loop only. Between two flights it refers to no loop and no task.

    Attributes:
        is_running: whether an operation is under way; to be read only.

    Args:
        cancelled: what waiters are told if the operation's task is cancelled by somebody other than `cancel()`.
    """

    __slots__ = ("_cancel_error", "_cancelled", "_sweep_at", "_task", "_waiters", "is_running")

    def __init__(self, *, cancelled: Exception) -> None:
        self._cancelled = cancelled
        self.is_running = False
        self._task: asyncio.Task[T] | None = None
        self._cancel_error: Exception | None = None
        # Who came first is woken first. Who waits no more stays until the list is swept, or the flight over.
        self._waiters: list[asyncio.Future[Outcome[T]]] = []
        self._sweep_at = _FIRST_SWEEP

    @property
    def waiter_count(self) -> int:
        """How many callers wait for the outcome right now."""
        return sum(not waiter.done() for waiter in self._waiters)

    def start(self, operation: Callable[[], Coroutine[Any, Any, T]]) -> None:
        """Start *operation* in a task of its own, in an empty `contextvars.Context`; no-op while one runs."""
        if self.is_running:
            return
        coroutine = operation()
        # An eager task factory runs the operation before create_task returns: by then the slot must be taken.
        self.is_running = True
        # Not create_task(context=…): a plain task factory does not know that argument.
        try:
            self._task = Context().run(asyncio.get_running_loop().create_task, coroutine)
        except BaseException:  # a task factory of the caller's own
            self.is_running = False
            coroutine.close()
            raise
        self._task.add_done_callback(self._settle)
        if self._cancel_error is not None:  # by the operation itself, which an eager factory ran before this line
            self._task.cancel()

    def join(self) -> asyncio.Future[Outcome[T]]:
        """Return a future of the caller's own for the outcome of the running operation."""
        if len(self._waiters) >= self._sweep_at:
            self._waiters = [waiter for waiter in self._waiters if not waiter.done()]
            self._sweep_at = 2 * len(self._waiters) + _FIRST_SWEEP
        waiter: asyncio.Future[Outcome[T]] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return waiter

    async def wait(self) -> T:
        """Return the outcome of the running operation, or raise the caller's own copy of its error."""
        return (await self.join()).result()

    def cancel(self, error: Exception) -> asyncio.Task[T] | None:
        """Cancel the running operation; its waiters get *error*. Return its task, to be awaited, if there is one."""
        # Once only: a second cancellation would interrupt the operation's own cleaning up.
        if self.is_running and self._cancel_error is None:
            self._cancel_error = error
            if self._task is not None:
                self._task.cancel()
        return self._task

    def _settle(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            error: BaseException | None = self._cancel_error or self._cancelled
        else:
            error = task.exception()
        outcome = Outcome(task, error)
        waiters, self._waiters, self._sweep_at = self._waiters, [], _FIRST_SWEEP
        self._task, self._cancel_error, self.is_running = None, None, False
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(outcome)
