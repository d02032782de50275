"""Single flight. Rule: one flight at a time on an event loop, one outcome for every waiter, and no waiter owns it.

A waiter that is cancelled or times out ends only its own wait. Each awaits a plain future: a queue on a lock serves
waiters one by one, and `asyncio.shield` makes cancelling them quadratic. Outcomes are settled in a done-callback,
because a task that is cancelled before its first step runs none of its own code.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Flight", "SingleFlight"]

T = TypeVar("T")

# At this number of waiters, and each time it has doubled, cancelled ones are removed.
_FIRST_SWEEP: Final = 1000


class Flight(Generic[T]):
    """One run of an operation that a subclass defines: its task, and a future for each waiter.

    Args:
        cancelled: the error for waiters if the task is cancelled by anything but `cancel()`.
    """

    def __init__(self, *, cancelled: Exception) -> None:
        self._cancelled = cancelled
        self._cancel_error: Exception | None = None
        self._task: asyncio.Task[T] | None = None
        # Woken in order. A cancelled waiter stays until the next sweep.
        self._waiters: list[asyncio.Future[T | BaseException]] = []
        self._sweep_at = _FIRST_SWEEP

    async def run(self) -> T:
        """Do the work; return the result for every waiter."""
        raise NotImplementedError

    @property
    def waiter_count(self) -> int:
        """Number of callers waiting for the outcome right now."""
        return sum(not waiter.done() for waiter in self._waiters)

    @property
    def is_stranded(self) -> bool:
        """Whether the event loop was closed during the flight, so that only the coroutine's clean-up runs."""
        return self._task is not None and self._task.get_loop().is_closed()

    def join(self) -> asyncio.Future[T | BaseException]:
        """Return a future for one more waiter, whose result is the outcome, even if that is an error.

        A waiter raises its own copy of an error. An exception set on a future that is then cancelled would be "never
        retrieved".
        """
        if len(self._waiters) >= self._sweep_at:
            self._waiters = [waiter for waiter in self._waiters if not waiter.done()]
            self._sweep_at = 2 * len(self._waiters) + _FIRST_SWEEP
        waiter: asyncio.Future[T | BaseException] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return waiter

    def begin(self, on_settled: Callable[[], object]) -> None:
        """Run in a new task, in an empty `contextvars.Context`; call *on_settled* as the outcome is settled."""

        def settle(task: asyncio.Task[T]) -> None:
            on_settled()
            self._settle(task)

        coroutine = self.run()
        try:
            # Not create_task(context=…): a plain task factory does not accept that argument.
            self._task = Context().run(asyncio.get_running_loop().create_task, coroutine)
        except BaseException:  # from a task factory of the caller's
            coroutine.close()
            raise
        self._task.add_done_callback(settle)
        if self._cancel_error is not None:  # by the operation itself, which an eager factory ran before this line
            self._task.cancel()

    def cancel(self, error: Exception) -> asyncio.Task[T] | None:
        """Cancel the task; waiters get *error*. Return the task, to be awaited, if there is one."""
        # Once only: a second cancellation would interrupt the operation's own clean-up.
        if self._cancel_error is None:
            self._cancel_error = error
            if self._task is not None:
                self._task.cancel()
        return self._task

    def _settle(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            outcome: T | BaseException = self._cancel_error or self._cancelled
        else:
            outcome = task.exception() or task.result()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(outcome)


F = TypeVar("F", bound="Flight[Any]")


class SingleFlight(Generic[F]):
    """The slot for one flight at a time on one event loop. Between two flights it references no loop and no task.

    The slot is an `asyncio.Lock`. The caller that starts a flight acquires it, which does not suspend because only a
    caller that found it free does so; it is released when the outcome is settled. No caller queues on it.

    Attributes:
        is_taken: returns whether an operation is in flight.
        current: that flight.
        join: that flight's `Flight.join`.
    """

    __slots__ = ("_slot", "current", "is_taken", "join")

    def __init__(self) -> None:
        self._slot = asyncio.Lock()
        self.is_taken: Final = self._slot.locked
        self.current: F | None = None
        self.join: Callable[[], asyncio.Future[Any]] = _join_none

    async def start(self, flight: F) -> None:
        """Start *flight*; the slot must be free."""
        await self._slot.acquire()
        # Before it begins: an eager task factory runs the operation's first step inside `begin()`.
        self.current, self.join = flight, flight.join
        try:
            flight.begin(self._free)
        except BaseException:
            self._free()
            raise

    def _free(self) -> None:
        self.current, self.join = None, _join_none
        self._slot.release()


def _join_none() -> NoReturn:
    raise RuntimeError("nothing is in flight")
