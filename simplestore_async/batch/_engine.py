"""A run of a batch. Rule: nothing is sent that is not recorded; whatever ends it, every request in flight has ended."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections import Counter, deque
from collections.abc import AsyncIterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from simplestore_async._core.worker import Worker
from simplestore_async.errors import BatchFileError, ConfigurationError, SimpleStoreError

from ._file import RequestFile
from ._gate import Gate
from ._lines import check_path
from ._sender import Sender, interrupted_result
from ._sending import base_url_of, open_own_session
from ._values import OUTCOMES, BatchPolicy, BatchRequest, BatchResult, BatchSummary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    import aiohttp
    from yarl import URL

    from ._database import BatchDatabase
    from ._values import Outcome

__all__ = ["run_batch"]

_MOST_WAITING: Final = 1_000
_LARGE_RESULT_BYTES: Final = 16 << 10


async def run_batch(  # noqa: PLR0913 - what to send, where to, and whom to report to
    requests: Iterable[BatchRequest] | AsyncIterable[BatchRequest],
    *,
    session: aiohttp.ClientSession,
    database: BatchDatabase | None = None,
    policy: BatchPolicy | None = None,
    on_result: Callable[[BatchResult], object] | None = None,
    on_pause: Callable[[str, float], object] | None = None,
    stop: asyncio.Event | None = None,
) -> BatchSummary:
    """Send many requests, and report the result of each.

    A request that may change something is sent once: again only if it was certainly not carried out, or with an
    idempotency key. Requests that only read are repeated after failures. While the API or the token endpoint fails, the
    whole batch waits. When it returns or raises, no request is in flight.

    Args:
        requests: a `RequestFile`, or an iterable or async iterable, which is read while requests are sent.
        session: from `open_session()`, for example; several batches may share it. It should allow a connection for each
            concurrent request.
        database: records the requests of the same `RequestFile`, so that they survive interruptions.
        policy: limits and retries.
        on_result: gets each result, one at a time, once it is on the disk; a function or a coroutine function. What it
            raises ends the batch.
        on_pause: gets the reason and the seconds of each pause of the whole batch.
        stop: once set, nothing more is begun, and requests in flight have `policy.grace_seconds` to end. Cancellation
            does the same; cancelled again, they end at once.

    Returns:
        The state of the batch.

    Raises:
        ConfigurationError: if the session has no base URL, or a request cannot be sent; of a sequence nothing was sent.
        TokenError: if no token can be obtained.
        BatchError: if the API is unavailable for too long.
        BatchFileError: if the file was changed during the run.
        BatchDatabaseError: if the database cannot be written.
        BrokenPipeError: if the reader of the results has closed the pipe.
        Exception: what *requests* or *on_result* raised, after the requests in flight have ended.
    """
    policy = policy or BatchPolicy()
    base_url = base_url_of(session)
    if database and database.requests is not requests:
        raise ConfigurationError("requests", "must be the RequestFile of the database")
    if database and database.idempotency_key != policy.idempotency_key:
        raise ConfigurationError("idempotency_key", "must be that of the database")
    if isinstance(requests, Sequence):
        checker = _Checker(base_url)
        for each in requests:
            checker.check(each)
    async with open_own_session(session, timeout_seconds=policy.timeout_seconds) as own_session:
        run = _Run(
            own_session,
            gate=Gate(policy, on_pause=on_pause or (lambda _, __: None)),
            base_url=base_url,
            database=database,
            policy=policy,
            on_result=on_result,
        )
        return await run.run(requests, stop or asyncio.Event())


class _Checker:
    """Checks of a program's own requests."""

    def __init__(self, base_url: URL) -> None:
        self._base_url = base_url
        self._ids: set[str | int] = set()

    def check(self, request: object) -> BatchRequest:
        """Return the request; raise `ConfigurationError` if it cannot be sent, or has the id of another."""
        if not isinstance(request, BatchRequest):
            raise ConfigurationError("requests", f"must hold BatchRequest, got {type(request).__name__}")
        check_path(request.path, base_url=self._base_url)
        if request.id in self._ids:
            raise ConfigurationError("id", f"must be unique, and {request.id!r} is there twice")
        self._ids.add(request.id)
        return request


class _Run:
    """State of one run; written by its tasks, on one event loop."""

    def __init__(  # noqa: PLR0913 - the arguments of `run_batch`
        self,
        session: aiohttp.ClientSession,
        *,
        gate: Gate,
        base_url: URL,
        database: BatchDatabase | None,
        policy: BatchPolicy,
        on_result: Callable[[BatchResult], object] | None,
    ) -> None:
        self._gate = gate
        self._base_url = base_url
        self._database = database
        self._policy = policy
        self._on_result = on_result
        self._writer = database.start() if database else None
        self._sender = Sender(
            session,
            gate=gate,
            writer=self._writer,
            policy=policy,
            batch_id=uuid.UUID(database.batch_id) if database else uuid.uuid4(),
        )
        self._now = asyncio.get_running_loop().time
        self._slots = asyncio.Semaphore(policy.concurrency)
        self._tasks: set[asyncio.Task[None]] = set()
        self._has_room = asyncio.Event()
        self._bytes = self._unwritten = self._held_back = self._sent = 0
        self._queues: dict[str | int, deque[BatchRequest]] = {}
        self._results: asyncio.Queue[BatchResult | None] = asyncio.Queue()
        self._counts: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)
        self._statuses: Counter[int] = Counter()

    async def run(self, requests: Any, stop: asyncio.Event) -> BatchSummary:
        """Send everything, or as much as may be sent."""
        began_at = self._now()
        reporting = asyncio.create_task(self._report())
        sending = asyncio.create_task(self._send_all(requests))
        others = {asyncio.create_task(stop.wait()), asyncio.create_task(self._gate.closed.wait())}
        cancelled: asyncio.CancelledError | None = None
        grace_seconds = self._policy.grace_seconds
        try:
            await asyncio.wait({sending, *others}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError as error:
            cancelled = error
            if stop.is_set():  # the second request to end, although the first was not noticed yet
                grace_seconds = 0
        self._gate.close()
        try:
            await asyncio.wait({sending}, timeout=grace_seconds)
        except asyncio.CancelledError as error:
            cancelled = error
        cancelled = await _end({sending, *others, *self._tasks}) or cancelled
        try:
            if self._writer:
                await self._writer.close()
            self._results.put_nowait(None)
            await asyncio.wait({reporting}, timeout=self._policy.grace_seconds if cancelled else None)
        except asyncio.CancelledError as error:
            cancelled = error
        except (SimpleStoreError, OSError) as error:
            self._gate.close(error)
        await _end({reporting})
        if failure := self._gate.error or (None if sending.cancelled() else sending.exception()):
            raise failure
        if cancelled:
            raise cancelled
        return self._summary(is_stopped=stop.is_set(), elapsed_seconds=self._now() - began_at)

    def _summary(self, *, is_stopped: bool, elapsed_seconds: float) -> BatchSummary:
        if self._database is None:
            return BatchSummary(
                counts=self._counts,
                statuses=self._statuses,
                remaining=None,
                is_stopped=is_stopped,
                elapsed_seconds=elapsed_seconds,
                sent=self._sent,
            )
        summary = self._database.summary(is_stopped=is_stopped, elapsed_seconds=elapsed_seconds, sent=self._sent)
        if summary.remaining and not is_stopped:
            raise BatchFileError(f"{summary.remaining} requests are left although the input ended")
        return summary

    async def _send_all(self, requests: Any) -> None:
        """Read the requests, and return when all of them have ended; what the reading raises is raised then."""
        error: Exception | None = None
        try:
            async for request in self._read(requests):
                await self._make_room(request)
                if self._gate.is_closed:
                    break
                if self._is_interrupted(request):
                    await self._finish(interrupted_result(request))
                elif not self._hold_back(request):
                    self._bytes += request.size
                    await self._slots.acquire()
                    task = asyncio.create_task(self._work(request))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
        except Exception as caught:  # noqa: BLE001 - raised below
            error = caught
        while self._tasks:
            await asyncio.wait(self._tasks)
        if error:
            raise error

    async def _read(self, requests: Any) -> AsyncIterator[BatchRequest]:
        if isinstance(requests, RequestFile):
            async for request in self._read_file(requests):
                yield request
            return
        checker = _Checker(self._base_url)
        if isinstance(requests, AsyncIterable):
            async for each in cast("AsyncIterable[object]", requests):
                yield checker.check(each)
        else:
            for each in requests:
                yield checker.check(each)

    async def _read_file(self, requests: RequestFile) -> AsyncIterator[BatchRequest]:
        """Read a file in a thread, as it may be slow."""
        worker = Worker("simplestore-reader")
        if self._database:
            if self._database.is_finished and not self._policy.resend:
                return
            pending = await worker.run(partial(self._database.find_pending, self._policy))
            chunks = requests.chunks(pending.__getitem__)
        else:
            if requests.count is None:
                await worker.run(requests.check)
            chunks = requests.chunks()
        read = partial(next, chunks, None)
        while (chunk := await worker.run(read)) is not None:
            for request in chunk:
                yield request

    async def _make_room(self, request: BatchRequest) -> None:
        """Wait until memory has room for a request."""
        while (
            (self._bytes and self._bytes + request.size > self._policy.bytes_in_flight)
            or max(self._unwritten, self._held_back, self._results.qsize()) >= _MOST_WAITING
        ) and not self._gate.is_closed:
            self._has_room.clear()
            await self._has_room.wait()

    def _is_interrupted(self, request: BatchRequest) -> bool:
        """Return whether an earlier run may have sent a request that must not be repeated."""
        if self._database is None or self._policy.may_repeat(request) or "unknown" in self._policy.resend:
            return False
        return self._database.was_begun(request.line)

    def _hold_back(self, request: BatchRequest) -> bool:
        """Return whether a request has to wait for another of its key, which goes on with it."""
        if request.key is None:
            return False
        if request.key in self._queues:
            self._queues[request.key].append(request)
            self._held_back += 1
            self._bytes += request.size
            return True
        self._queues[request.key] = deque()
        return False

    def _next_of(self, key: str | int | None) -> BatchRequest | None:
        if key is None or self._gate.is_closed:
            return None
        if not self._queues[key]:
            del self._queues[key]
            return None
        self._held_back -= 1
        return self._queues[key].popleft()

    async def _work(self, first: BatchRequest) -> None:
        """Carry out a request, and those of its key that wait for it."""
        request: BatchRequest | None = first
        try:
            while request:
                if result := await self._sender.carry_out(request):
                    await self._finish(result)
                self._bytes -= request.size
                request = self._next_of(request.key)
        except Exception as error:  # noqa: BLE001 - whatever it is ends the batch, and is raised then
            self._gate.close(error)
        finally:
            self._slots.release()
            self._has_room.set()

    async def _finish(self, result: BatchResult) -> None:
        """Record a result, and report it once that is on the disk; wait for that if it is large."""
        if self._writer is None:
            self._tell(result)
            return
        self._unwritten += 1
        is_large = result.body_text is not None and len(result.body_text) > _LARGE_RESULT_BYTES
        written = asyncio.Event() if is_large else None
        self._writer.finish(result, partial(self._written, result, written))
        if written:
            await written.wait()

    def _written(self, result: BatchResult, written: asyncio.Event | None, error: Exception | None) -> None:
        self._unwritten -= 1
        self._has_room.set()
        if written:
            written.set()
        if error:
            self._gate.close(error)
        else:
            self._tell(result)

    def _tell(self, result: BatchResult) -> None:
        self._sent += 1
        if self._database is None:
            self._counts[result.outcome] += 1
            if result.status:
                self._statuses[result.status] += 1
        if self._on_result:
            self._results.put_nowait(result)

    async def _report(self) -> None:
        """Give each result to the program, one at a time."""
        while result := await self._results.get():
            self._has_room.set()
            try:
                assert self._on_result is not None  # noqa: S101 - nothing else fills the queue
                returned = self._on_result(result)
                if inspect.isawaitable(returned):
                    await returned
            except Exception as error:  # noqa: BLE001 - whatever it is ends the batch, and is raised then
                self._gate.close(error)
                return


async def _end(tasks: set[asyncio.Task[Any]]) -> asyncio.CancelledError | None:
    """Cancel tasks, and return when they have ended; a cancellation meanwhile is returned."""
    cancelled: asyncio.CancelledError | None = None
    for task in tasks:
        task.cancel()
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled
