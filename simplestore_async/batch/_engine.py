"""A run of a batch. Rule: nothing is sent that is not recorded; whatever ends it, every request in flight has ended."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections import Counter, deque
from collections.abc import AsyncIterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import aiohttp

from simplestore_async._core.validation import check_type
from simplestore_async._core.worker import Worker
from simplestore_async.errors import BatchFileError, ConfigurationError

from ._file import RequestFile
from ._gate import Gate
from ._lines import check_path
from ._sending import Sender, base_url_of, copy_session, interrupted_result
from ._values import OUTCOMES, BatchPolicy, BatchRequest, BatchResult, BatchSummary
from ._writer import Writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from yarl import URL

    from ._database import BatchDatabase
    from ._values import Outcome

__all__ = ["run_batch"]

_MOST_WAITING: Final = 500


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
        OSError: if results cannot be written; BrokenPipeError if their reader has closed the pipe, except on Windows.
        Exception: what *requests* or *on_result* raised, after the requests in flight have ended.
    """
    policy = policy or BatchPolicy()
    check_type("session", session, aiohttp.ClientSession, hint="enter it: async with open_session(…) as session")
    base_url = base_url_of(session)
    if database and database.requests is not requests:
        raise ConfigurationError("requests", "must be the RequestFile of the database")
    if database and database.idempotency_key != policy.idempotency_key:
        raise ConfigurationError("idempotency_key", "must be that of the database")
    if isinstance(requests, Sequence):
        ids: set[str | int] = set()
        for each in requests:
            _check(each, base_url=base_url, ids=ids)
    own_session = copy_session(session, timeout_seconds=policy.timeout_seconds)
    try:
        run = _Run(
            own_session,
            gate=Gate(policy, on_pause=on_pause or (lambda _, __: None)),
            database=database,
            policy=policy,
            on_result=on_result,
        )
        return await run.run(requests, stop or asyncio.Event())
    finally:
        own_session.detach()


def _check(request: object, *, base_url: URL, ids: set[str | int]) -> BatchRequest:
    """Return a program's request; raise `ConfigurationError` if it cannot be sent, or if its id is among *ids*."""
    if not isinstance(request, BatchRequest):
        raise ConfigurationError("requests", f"must yield BatchRequest objects, got {type(request).__name__}")
    check_path(request.path, base_url=base_url)
    if request.id in ids:
        raise ConfigurationError("id", f"must be unique, but {request.id!r} occurs twice")
    ids.add(request.id)
    return request


class _Run:
    """State of one run; written by its tasks, on one event loop."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        gate: Gate,
        database: BatchDatabase | None,
        policy: BatchPolicy,
        on_result: Callable[[BatchResult], object] | None,
    ) -> None:
        self._gate = gate
        self._base_url = base_url_of(session)
        self._database = database
        self._policy = policy
        self._on_result = on_result
        self._writer = Writer(database.commit, self._report) if database else None
        batch_id = uuid.UUID(database.batch_id) if database else uuid.uuid4()
        self._sender = Sender(session=session, gate=gate, writer=self._writer, policy=policy, batch_id=batch_id)
        self._now = asyncio.get_running_loop().time
        self._turn = asyncio.Lock()
        self._unsent: deque[BatchRequest] = deque()
        self._is_read = False
        self._source_error: BaseException | None = None
        self._queues: dict[str | int, deque[BatchRequest]] = {}
        # Of the requests that were read and are not reported yet.
        self._open = self._bytes = 0
        self._has_room = asyncio.Event()
        self._results: asyncio.Queue[list[BatchResult]] = asyncio.Queue()
        self._counts: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)
        self._statuses: Counter[int] = Counter()
        self._cancelled: asyncio.CancelledError | None = None

    async def run(self, requests: Any, stop: asyncio.Event) -> BatchSummary:
        """Send everything, or as much as may be sent."""
        began_at = self._now()
        stopping = asyncio.create_task(stop.wait())
        sending = asyncio.create_task(self._send_all(self._read(requests)))
        for task in stopping, sending:
            task.add_done_callback(lambda _: self._gate.close())
        reporting = asyncio.create_task(self._call_back())
        ending = asyncio.create_task(self._end(sending, reporting))
        while not ending.done():
            try:
                await asyncio.wait({ending})
            except asyncio.CancelledError as error:
                self._gate.close()
                if self._cancelled or stop.is_set():  # the second request to end
                    sending.cancel()
                if sending.done():
                    reporting.cancel()
                self._cancelled = error
        stopping.cancel()
        if self._writer:
            self._writer.end()
        if failure := self._gate.error or self._source_error:
            raise failure
        if self._cancelled:
            raise self._cancelled
        ending.result()
        return self._summary(is_stopped=stop.is_set(), elapsed_seconds=self._now() - began_at)

    async def _end(self, sending: asyncio.Task[None], reporting: asyncio.Task[None]) -> None:
        """Wait for the end of the batch, then for what is in flight, and for the last results."""
        await self._gate.closed.wait()
        self._has_room.set()
        await asyncio.wait({sending}, timeout=self._policy.grace_seconds)
        sending.cancel()
        await asyncio.wait({sending})
        if self._writer:
            try:
                await self._writer.close()
            except Exception as error:  # noqa: BLE001 - raised at the end
                self._gate.close(error)
        self._results.put_nowait([])
        await asyncio.wait({reporting}, timeout=self._policy.grace_seconds if self._cancelled else None)
        reporting.cancel()
        await asyncio.wait({reporting})

    def _summary(self, *, is_stopped: bool, elapsed_seconds: float) -> BatchSummary:
        facts: dict[str, Any] = {"is_stopped": is_stopped, "elapsed_seconds": elapsed_seconds}
        facts["sent"] = sum(self._counts.values())
        if self._database is None:
            return BatchSummary(counts=self._counts, statuses=self._statuses, remaining=None, **facts)
        summary = self._database.summary(**facts)
        if summary.remaining and not is_stopped:
            raise BatchFileError(f"{summary.remaining} requests are left although the input ended")
        return summary

    async def _read(self, requests: Any) -> AsyncIterator[list[BatchRequest]]:
        """Yield some requests at a time."""
        if isinstance(requests, RequestFile):
            async for chunk in self._read_file(requests):
                yield chunk
            return
        ids: set[str | int] = set()
        if isinstance(requests, AsyncIterable):
            async for each in cast("AsyncIterable[object]", requests):
                yield [_check(each, base_url=self._base_url, ids=ids)]
        else:
            for each in requests:
                yield [_check(each, base_url=self._base_url, ids=ids)]

    async def _read_file(self, requests: RequestFile) -> AsyncIterator[list[BatchRequest]]:
        """Read a file in a thread, as it may be slow."""
        worker = Worker("simplestore-reader")
        if self._database:
            is_pending = await worker.run(partial(self._database.find_pending, self._policy))
            if is_pending is None:
                return
            chunks = requests.chunks(is_pending)
        else:
            if requests.count is None:
                await worker.run(requests.check)
            chunks = requests.chunks()
        while (chunk := await worker.run(partial(next, chunks, None))) is not None:
            yield chunk

    async def _send_all(self, source: AsyncIterator[list[BatchRequest]]) -> None:
        async with asyncio.TaskGroup() as workers:
            for _ in range(self._policy.concurrency):
                workers.create_task(self._work(source))

    async def _work(self, source: AsyncIterator[list[BatchRequest]]) -> None:
        """Send one request after the other; those of a key that wait for the one before them go first."""
        request: BatchRequest | None = None
        try:
            while request := (request and self._next_of(request.key)) or await self._next(source):
                if result := await self._sender.send(request):
                    self._finish(result)
                else:
                    self._forget(request, 0)
        except Exception as error:  # noqa: BLE001 - whatever it is ends the batch, and is raised then
            self._gate.close(error)

    async def _next(self, source: AsyncIterator[list[BatchRequest]]) -> BatchRequest | None:
        """Return the next request; None if there is none, or if the batch ends."""
        while not self._gate.is_closed:
            if not self._unsent:
                if self._is_read:
                    return None
                await self._read_more(source)
            elif not self._has_room_for(self._unsent[0]):
                self._has_room.clear()
                await self._has_room.wait()
            else:
                request = self._unsent.popleft()
                self._open += 1
                self._bytes += request.size
                if self._is_interrupted(request):
                    self._finish(interrupted_result(request))
                elif not self._hold_back(request):
                    return request
        return None

    async def _read_more(self, source: AsyncIterator[list[BatchRequest]]) -> None:
        """Read some requests, once for all workers; what the source raises is raised when all before have ended."""
        # Only here: workers that queued on a lock for each request would hand it on one by one.
        async with self._turn:
            if self._unsent or self._is_read or self._gate.is_closed:
                return
            try:
                chunk = await anext(source, None)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised at the end
                chunk = None
                if not (self._gate.is_closed and isinstance(error, asyncio.CancelledError)):
                    self._source_error = error
            self._is_read = chunk is None
            self._unsent.extend(chunk or ())

    def _has_room_for(self, request: BatchRequest) -> bool:
        """Return whether memory has room for a request."""
        is_heavy = self._bytes > 0 and self._bytes + request.size > self._policy.bytes_in_flight
        return not is_heavy and self._open < self._policy.concurrency + _MOST_WAITING

    def _is_interrupted(self, request: BatchRequest) -> bool:
        """Return whether an earlier run may have sent a request that must not be repeated."""
        was_begun = self._database is not None and self._database.was_begun(request.line)
        return was_begun and not self._policy.may_repeat(request) and "unknown" not in self._policy.resend

    def _hold_back(self, request: BatchRequest) -> bool:
        """Return whether a request has to wait for another of its key, which goes on with it."""
        if request.key is None:
            return False
        if request.key in self._queues:
            self._queues[request.key].append(request)
            return True
        self._queues[request.key] = deque()
        return False

    def _next_of(self, key: str | int | None) -> BatchRequest | None:
        if key is None or self._gate.is_closed:
            return None
        if not self._queues[key]:
            del self._queues[key]
            return None
        return self._queues[key].popleft()

    def _finish(self, result: BatchResult) -> None:
        self._bytes += len(result.body_text or "")
        if self._writer:
            self._writer.finish(result)
        else:
            self._report([result])

    def _report(self, results: list[BatchResult], error: Exception | None = None) -> None:
        """Pass results on once they are on the disk."""
        if error:
            self._gate.close(error)
        elif results:
            self._results.put_nowait(results)

    def _forget(self, request: BatchRequest, size: int) -> None:
        """Make room for others."""
        self._open -= 1
        self._bytes -= request.size + size
        self._has_room.set()

    async def _call_back(self) -> None:
        """Give each result to the program, one at a time."""
        while results := await self._results.get():
            results.reverse()
            while results:
                result = results.pop()  # so that its memory is free once it is reported
                self._counts[result.outcome] += 1
                if result.status:
                    self._statuses[result.status] += 1
                try:
                    returned = self._on_result(result) if self._on_result else None
                    if returned is not None and inspect.isawaitable(returned):
                        await returned
                except BaseException as error:  # noqa: BLE001 - whatever it is ends the batch, and is raised then
                    self._gate.close(error)
                    return
                self._forget(result.request, len(result.body_text or ""))
