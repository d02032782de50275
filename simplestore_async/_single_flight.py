"""Single flight. Rule: one operation at a time, one outcome for everybody who waits, and nobody owns it but the flight.

A caller that is cancelled, or whose deadline passes, ends its own wait and nothing else. Waiters hold a plain future
each (a queue on a lock serves them one by one, and `asyncio.shield` makes cancelling them quadratic). Outcomes are
settled in a done-callback, because a task that is cancelled before its first step runs none of its own code.
"""

from __future__ import annotations

import asyncio
import copy
from contextvars import Context
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Outcome", "SingleFlight"]

T = TypeVar("T")


@attrs.frozen(eq=False, repr=False)
class Outcome(Generic[T]):
    """How an operation ended, for everybody who waited."""

    task: asyncio.Task[T]
    error: BaseException | None

    def result(self) -> T:
        """Return the result, or raise the caller's own copy of the error."""
        # The error travels as a result: an exception set on a future that is then cancelled is "never retrieved".
        if self.error is not None:
            raise copy.copy(self.error)
        return self.task.result()


class SingleFlight(Generic[T]):
    """One running operation on one event loop, and everyone who waits for it.

    Used from one loop only. Between two flights it refers to no loop and no task.

    Args:
        cancelled: what waiters are told if the operation's task is cancelled by somebody other than `cancel()`.
    """

    __slots__ = ("_cancel_error", "_cancelled", "_is_running", "_task", "_waiters")

    def __init__(self, *, cancelled: Exception) -> None:
        self._cancelled = cancelled
        self._is_running = False
        self._task: asyncio.Task[T] | None = None
        self._cancel_error: Exception | None = None
        # A dict, as a set that keeps its order: who came first is woken first.
        self._waiters: dict[asyncio.Future[Outcome[T]], None] = {}

    @property
    def is_running(self) -> bool:
        """Whether an operation is under way."""
        return self._is_running

    @property
    def waiter_count(self) -> int:
        """How many callers wait for the outcome right now."""
        return len(self._waiters)

    def start(self, operation: Callable[[], Coroutine[Any, Any, T]]) -> None:
        """Start *operation* in a task of its own, in an empty `contextvars.Context`; no-op while one runs."""
        if self._is_running:
            return
        coroutine = operation()
        # An eager task factory runs the operation before create_task returns: by then the slot must be taken.
        self._is_running = True
        # Not create_task(context=…): a plain task factory does not know that argument.
        try:
            self._task = Context().run(asyncio.get_running_loop().create_task, coroutine)
        except BaseException:  # a task factory of the caller's own
            self._is_running = False
            coroutine.close()
            raise
        self._task.add_done_callback(self._settle)
        if self._cancel_error is not None:  # by the operation itself, which an eager factory ran before this line
            self._task.cancel()

    def join(self) -> asyncio.Future[Outcome[T]]:
        """Return a future of the caller's own for the outcome of the running operation."""
        waiter: asyncio.Future[Outcome[T]] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        return waiter

    def leave(self, waiter: asyncio.Future[Outcome[T]]) -> None:
        """Forget *waiter*, whose caller waits no more."""
        self._waiters.pop(waiter, None)

    async def wait(self) -> T:
        """Return the outcome of the running operation, or raise the caller's own copy of its error."""
        waiter = self.join()
        try:
            outcome = await waiter
        except asyncio.CancelledError:
            self.leave(waiter)
            raise
        return outcome.result()

    def cancel(self, error: Exception) -> asyncio.Task[T] | None:
        """Cancel the running operation; its waiters get *error*. Return its task, to be awaited, if there is one."""
        # Once only: a second cancellation would interrupt the operation's own cleaning up.
        if self._is_running and self._cancel_error is None:
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
        waiters, self._waiters = self._waiters, {}
        self._task, self._cancel_error, self._is_running = None, None, False
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(outcome)
