"""`Worker` and `work_timeout()`."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from simplestore_async._core import worker as module
from simplestore_async._core.worker import Worker, work_timeout
from tests.support.platforms import needs_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def worker() -> Worker:
    return Worker("test-worker")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """An event that jobs wait for; set when the test ends."""
    gate = threading.Event()
    yield gate
    gate.set()


async def block(worker: Worker, gate: threading.Event) -> asyncio.Task[bool]:
    """Start a job that waits for *gate*, and return its caller's task once it runs."""
    loop, is_running = asyncio.get_running_loop(), asyncio.Event()

    def work() -> bool:
        loop.call_soon_threadsafe(is_running.set)
        return gate.wait(30)

    task = asyncio.create_task(worker.run(work))
    await is_running.wait()
    return task


class TestRun:
    @pytest.mark.parametrize(
        "error", [ZeroDivisionError, StopIteration, asyncio.CancelledError, SystemExit, KeyboardInterrupt]
    )
    async def test_error(self, worker: Worker, error: type[BaseException]) -> None:
        """The caller gets the job's exception, or a RuntimeError that names one that would end its task or loop."""

        def work() -> None:
            raise error(error.__name__)

        with pytest.raises(error if error is ZeroDivisionError else RuntimeError, match=error.__name__):
            await worker.run(work)
        assert await worker.run(lambda: True)

    async def test_one_job_at_a_time(self, worker: Worker) -> None:
        """Jobs of concurrent callers run in order in one daemon thread."""
        ran: list[int] = []
        threads: set[threading.Thread] = set()

        def work(number: int) -> None:
            ran.append(number)
            threads.add(threading.current_thread())

        def job(number: int) -> Callable[[], None]:
            return lambda: work(number)

        await asyncio.gather(*(worker.run(job(number)) for number in range(100)))
        assert list(range(100)) == ran
        assert [("test-worker", True)] == [(thread.name, thread.daemon) for thread in threads]

    async def test_thread_ends_when_idle(self, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
        """The thread of an idle worker ends, and the next job starts another."""
        monkeypatch.setattr(module, "_IDLE_SECONDS", 0.01)
        for _ in range(2):
            thread = await worker.run(threading.current_thread)
            thread.join(10)
            assert not thread.is_alive()

    async def test_thread_cannot_start(self, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
        """If no thread can be started, the caller gets the error and the next job runs."""

        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start"):
                await worker.run(lambda: None)
        assert await worker.run(lambda: True)

    async def test_pickle(self, worker: Worker) -> None:
        """An unpickled worker has its own thread."""
        own = await worker.run(threading.get_ident)
        copy = pickle.loads(pickle.dumps(worker))
        assert own != await copy.run(threading.get_ident)


class TestCancellation:
    async def test_queued_job_is_done(self, worker: Worker, gate: threading.Event) -> None:
        """A queued job whose caller was cancelled still runs, unless it is droppable."""
        done: list[str] = []
        blocked = await block(worker, gate)
        abandoned = [
            asyncio.create_task(worker.run(lambda: done.append("kept"))),
            asyncio.create_task(worker.run(lambda: done.append("dropped"), droppable=True)),
        ]
        await asyncio.sleep(0)
        for task in abandoned:
            task.cancel()
        await asyncio.wait(abandoned)
        gate.set()
        assert await blocked
        await worker.run(lambda: None)
        assert ["kept"] == done


class TestLoops:
    def test_loop_closed_while_a_job_runs(self, worker: Worker, gate: threading.Event) -> None:
        """If the loop is closed while a job runs, the worker still works for the next loop."""

        async def leave() -> None:
            task = await block(worker, gate)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

        asyncio.run(leave())
        gate.set()
        assert asyncio.run(worker.run(lambda: True))


class TestTimeout:
    async def test_queue_is_not_counted(self, worker: Worker) -> None:
        """The wait for other jobs does not count towards the limit, as long as each ends within it."""

        async def use() -> None:
            async with work_timeout(0.2, queue_seconds=30):
                await worker.run(lambda: time.sleep(0.02))

        began_at = time.monotonic()
        await asyncio.gather(*(use() for _ in range(12)))
        assert time.monotonic() - began_at > 0.2

    async def test_job_is_counted(self, worker: Worker, gate: threading.Event) -> None:
        """A job that runs longer than the limit times out, whether or not it was queued."""

        async def use() -> bool:
            scope = None
            with suppress(TimeoutError):
                async with work_timeout(0.05, queue_seconds=30) as scope:
                    await worker.run(lambda: gate.wait(0.5))
            return scope is not None and scope.expired()

        assert [True, True] == [*await asyncio.gather(use(), use())]

    async def test_job_behind_a_blocked_one(self, worker: Worker, gate: threading.Event) -> None:
        """A queued job times out when the job before it has run for longer than the limit."""
        blocked = await block(worker, gate)
        scope = None
        with pytest.raises(TimeoutError):
            async with work_timeout(0.05, queue_seconds=30) as scope:
                await worker.run(lambda: None)
        assert scope is not None
        assert not scope.is_queued
        assert not blocked.done()
        gate.set()
        await blocked

    async def test_busy_event_loop(self, worker: Worker) -> None:
        """A job that ended within the limit does not time out, even if the event loop was blocked at the limit."""
        has_ended = threading.Event()

        async def use() -> bool:
            async with work_timeout(0.1, queue_seconds=30):
                return await worker.run(lambda: True)

        task = asyncio.create_task(use())
        next_job = asyncio.create_task(worker.run(has_ended.set))
        await asyncio.sleep(0)
        # Block the event loop until the next job runs, and past the limit.
        has_ended.wait()
        time.sleep(0.1)  # noqa: ASYNC251 - blocks on purpose
        assert await task
        await next_job

    async def test_queue_limit(self, worker: Worker) -> None:
        """The wait for other jobs has its own limit."""
        jobs = [asyncio.create_task(worker.run(lambda: time.sleep(0.01))) for _ in range(25)]
        await asyncio.sleep(0)
        scope = None
        with pytest.raises(TimeoutError):
            async with work_timeout(10, queue_seconds=0.1) as scope:
                await worker.run(lambda: None)
        assert scope is not None
        assert scope.is_queued
        assert not jobs[-1].done()
        await asyncio.gather(*jobs)

    async def test_task_outlives_the_limit(self, worker: Worker, gate: threading.Event) -> None:
        """A task that was started within a limit may use the worker after it."""
        blocked = await block(worker, gate)
        async with work_timeout(0.05, queue_seconds=30):
            task = asyncio.create_task(worker.run(lambda: True))
        await asyncio.sleep(0)
        gate.set()
        assert await task
        await blocked


_FORK = """
import asyncio, os, threading
from simplestore_async._core.worker import Worker

worker, is_running = Worker("w"), threading.Event()

async def main():
    task = asyncio.create_task(worker.run(lambda: (is_running.set(), threading.Event().wait())))
    queued = asyncio.create_task(worker.run(lambda: print("done twice", flush=True)))
    await asyncio.sleep(0)
    is_running.wait()
    task.cancel()

try:
    asyncio.run(main())
except asyncio.CancelledError:
    pass
if not os.fork():
    asyncio.run(worker.run(lambda: print("child", flush=True)))
    os._exit(0)
os.wait()
"""


@needs_fork
def test_fork() -> None:
    """A forked child starts its own thread and does not inherit the parent's jobs."""
    # Python 3.12 and later warn of forks in a process with threads.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _FORK]
    assert "child\n" == subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
