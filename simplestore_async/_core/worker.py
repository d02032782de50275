"""Daemon threads for work that may block. Rule: blocked work delays neither the event loop nor the exit.

Not `concurrent.futures`, whose threads are joined when the interpreter exits; nor the loop's default executor, whose
threads may all be waiting for the token that the work is for.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

__all__ = ["WorkTimeout", "Worker", "work_timeout"]

T = TypeVar("T")

# A renewal has several jobs within milliseconds, and the next renewal is an hour later.
_IDLE_SECONDS: Final = 1.0


class Worker:
    """At most one daemon thread, which runs jobs in order, for any number of event loops and threads.

    The thread starts with a job and ends when it is idle. A forked process starts its own, without the jobs that its
    parent has queued.

    Args:
        name: name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        # By process: a forked one does not inherit the thread, and its copy of a lock may stay locked.
        self._queues: dict[int, _Queue] = {}

    async def run(self, work: Callable[[], T], *, droppable: bool = False) -> T:
        """Run *work* in the thread and return its result.

        Cancelling a caller ends only its wait. Work that has started continues to its end.

        Args:
            work: a blocking callable without arguments.
            droppable: skip the work if its caller is cancelled before it starts; by default it is still done.

        Returns:
            The result of *work*.

        Raises:
            Exception: any that *work* raises.
            RuntimeError: if it raises an exception that would end the caller's task or event loop, such as SystemExit.
        """
        loop = asyncio.get_running_loop()
        job = _Job(work, loop.create_future(), droppable=droppable)
        queue = self._queues.setdefault(os.getpid(), _Queue(self._name))
        queue.put(job)
        limit = _limit.get()
        if limit is None or not limit.is_active or limit.loop is not loop:
            return await job.result  # type: ignore[no-any-return]
        limit.pause(job, queue)
        try:
            return await job.result  # type: ignore[no-any-return]
        finally:
            limit.resume(job)

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (self._name,)


class WorkTimeout:
    """A time limit that does not count the wait for other jobs of a `Worker`.

    Attributes:
        is_queued: whether the limit of the wait was reached before the job started.
        is_dropped: whether the job will therefore be skipped.
    """

    def __init__(self, scope: asyncio.Timeout, seconds: float, queue_seconds: float) -> None:
        self.is_queued = False
        self.is_dropped = False
        self.is_active = True
        self.loop = asyncio.get_running_loop()
        self._scope = scope
        self._seconds = seconds
        self._latest = time.monotonic() + queue_seconds
        self._left = seconds  # to count when there is no job
        self._has_run = False
        self._timer: asyncio.TimerHandle | None = None

    def expired(self) -> bool:
        """Return whether the limit was reached, as `asyncio.Timeout.expired()` does."""
        return self._scope.expired()

    def pause(self, job: _Job, queue: _Queue) -> None:
        """Stop counting until the *job* starts, but end the wait when another job has run for the limit."""
        self._left = (self._scope.when() or 0.0) - self.loop.time()
        self._reschedule(None)
        self._check(job, queue)

    def resume(self, job: _Job) -> None:
        """Start counting again, with the time left after the *job*'s own."""
        if self._timer is not None:
            self._timer.cancel()
        if job.began_at is not None:
            self._has_run = True
            self._left -= time.monotonic() - job.began_at
        self._reschedule(self.loop.time() + self._left)

    def _check(self, job: _Job, queue: _Queue) -> None:
        # Called only when a limit may be reached: with thousands of waiting callers, a check at the start of each job
        # would be quadratic.
        if job.is_done:  # and the event loop is late
            return
        is_waiting = job.began_at is None
        blocked_at = queue.began_at + self._seconds if job.began_at is None else job.began_at + self._left
        ends_at = min(blocked_at, self._latest) if is_waiting else blocked_at
        left = ends_at - time.monotonic()
        if left > 0:
            self._timer = self.loop.call_later(left, self._check, job, queue)
        else:
            self.is_queued = ends_at < blocked_at and not self._has_run
            self.is_dropped = self.is_queued and job.is_droppable
            self._reschedule(self.loop.time())

    def _reschedule(self, when: float | None) -> None:
        if self.is_active and not self.expired():
            self._scope.reschedule(when)


@asynccontextmanager
async def work_timeout(seconds: float, *, queue_seconds: float) -> AsyncGenerator[WorkTimeout]:
    """Limit the time of the block like `asyncio.timeout(seconds)`, not counting the wait for other jobs of a `Worker`.

    The wait also ends when one of those jobs has run for *seconds*, because the thread is blocked.

    Args:
        seconds: the limit, from the start of the job.
        queue_seconds: the limit of the wait for other jobs.
    """
    async with asyncio.timeout(seconds) as scope:
        limit = WorkTimeout(scope, seconds, queue_seconds)
        token = _limit.set(limit)
        try:
            yield limit
        finally:
            limit.is_active = False
            _limit.reset(token)


class _Job:
    def __init__(self, work: Callable[[], Any], result: asyncio.Future[Any], *, droppable: bool) -> None:
        self.result = result
        self.began_at: float | None = None
        self.is_done = False
        self._work = work
        self.is_droppable = droppable

    def run(self) -> None:
        if self.is_droppable and self.result.cancelled():
            return
        try:
            self._settle(self._work(), None)
        except Exception as error:  # noqa: BLE001 - it is the caller's
            # asyncio cannot put StopIteration into a future: its waiter would wait forever.
            self._settle(None, RuntimeError("it raised StopIteration") if isinstance(error, StopIteration) else error)
        except BaseException as error:  # noqa: BLE001 - it must not end this thread
            self._settle(None, RuntimeError(f"it raised {type(error).__name__}"))

    def _settle(self, value: object, error: Exception | None) -> None:
        self.is_done = True

        def settle() -> None:
            if self.result.done():
                return
            if error is None:
                self.result.set_result(value)
            else:
                self.result.set_exception(error)

        with suppress(RuntimeError):  # the event loop is closed, and no task waits there
            self.result.get_loop().call_soon_threadsafe(settle)


class _Queue:
    """The jobs of one process, and its thread."""

    def __init__(self, name: str) -> None:
        self.began_at = 0.0
        self._name = name
        self._jobs: deque[_Job] = deque()
        self._is_running = False
        self._changed = threading.Condition()
        self._pending = 0  # jobs that are queued or running

    def put(self, job: _Job) -> None:
        with self._changed:
            self._jobs.append(job)
            self._pending += 1
            if self._pending == 1:
                self.began_at = time.monotonic()  # it starts within microseconds
            if self._is_running:
                self._changed.notify()
            else:
                # If no thread can be started, the caller gets the error and the job is removed.
                try:
                    threading.Thread(target=self._work, name=self._name, daemon=True).start()
                except BaseException:
                    self._jobs.pop()
                    self._pending -= 1
                    raise
                self._is_running = True

    def _work(self) -> None:
        while (job := self._take()) is not None:
            job.began_at = self.began_at = time.monotonic()
            job.run()
            del job  # not kept while idle: it references the caller's values
            with self._changed:
                self._pending -= 1

    def _take(self) -> _Job | None:
        with self._changed:
            if not self._jobs:
                self._changed.wait(_IDLE_SECONDS)
            if self._jobs:
                return self._jobs.popleft()
            self._is_running = False
            return None


_limit: ContextVar[WorkTimeout | None] = ContextVar("simplestore_work_limit", default=None)
