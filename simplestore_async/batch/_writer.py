"""The thread that writes. Rule: it commits all that waits in one transaction, in order, and the loop waits for nothing.

Order bounds what a crash leaves unknown: a worker's next request is never on the disk without its last result, so that
at most the requests in flight have none. After a failed write nothing more is written.
"""

from __future__ import annotations

import asyncio
import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from ._json import result_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._values import BatchRequest, BatchResult

__all__ = ["Row", "Writer"]

Row: TypeAlias = tuple[int, str, int | None, int | None, float | None, float | None, str | None]

_GROUP_SECONDS: Final = 0.05
_MOST_ROWS: Final = 1_000


@attrs.frozen
class _Entry:
    """The new state of a line; *row* is None if it is as if it had never been begun."""

    line: int
    row: Row | None
    text: bytes
    future: asyncio.Future[None] | None


class Writer:
    """Write for one event loop.

    Args:
        commit: writes rows by line, then results.
    """

    def __init__(self, commit: Callable[[dict[int, Row | None], list[bytes]], None]) -> None:
        self._commit = commit
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Entry | None] = SimpleQueue()
        self._error: Exception | None = None
        self._ended: asyncio.Future[None] = self._loop.create_future()
        threading.Thread(target=self._run, name="simplestore-batch", daemon=True).start()

    def begin(self, request: BatchRequest) -> asyncio.Future[None]:
        """Record that a request will be sent; the future is done when that is on the disk."""
        row = (request.line, "begun", None, None, time.time(), None, None)
        return self._put(request.line, row)

    def release(self, request: BatchRequest) -> None:
        """Record that a request was certainly not carried out, and will be sent later."""
        self._queue.put(_Entry(request.line, None, b"", None))

    def finish(self, result: BatchResult) -> asyncio.Future[None]:
        """Record a result; the future is done when it is on the disk, and was written to where results go."""
        text = result_line(result)
        ended_at = result.started_at + result.duration_seconds
        row = (
            result.line,
            result.outcome,
            result.status,
            result.attempts,
            result.started_at,
            ended_at,
            text.decode(),
        )
        return self._put(result.line, row, text)

    async def close(self) -> None:
        """Write what is left, even if cancelled meanwhile; the database must not be closed before.

        Raises:
            Exception: what the writing raised, now or before.
        """
        self._queue.put(None)
        cancelled: asyncio.CancelledError | None = None
        while not self._ended.done():
            try:
                await asyncio.wait({self._ended})
            except asyncio.CancelledError as again:
                cancelled = again
        error = cancelled or self._error
        if error:
            raise error

    def _put(self, line: int, row: Row, text: bytes = b"") -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        self._queue.put(_Entry(line, row, text, future))
        return future

    def _run(self) -> None:
        is_over = False
        while not is_over:
            group = self._take_group()
            is_over = group[-1] is None
            entries = [entry for entry in group if entry]
            error = self._error
            if error is None:
                try:
                    rows = {entry.line: entry.row for entry in entries}
                    self._commit(rows, [entry.text for entry in entries if entry.text])
                except Exception as caught:  # noqa: BLE001 - raised where it is waited for
                    self._error = error = caught
            self._loop.call_soon_threadsafe(self._settle, entries, error)
        self._loop.call_soon_threadsafe(self._ended.set_result, None)

    def _take_group(self) -> list[_Entry | None]:
        """Return all that waits; requests are never kept waiting, results may gather for a moment."""
        group = [self._queue.get()]
        ends_at = time.monotonic() + _GROUP_SECONDS
        is_urgent = False
        while group[-1] is not None and len(group) < _MOST_ROWS:
            is_urgent = is_urgent or not group[-1].text
            try:
                if is_urgent:
                    group.append(self._queue.get_nowait())
                else:
                    group.append(self._queue.get(timeout=max(ends_at - time.monotonic(), 0)))
            except Empty:
                break
        return group

    def _settle(self, entries: list[_Entry], error: Exception | None) -> None:
        for entry in entries:
            if entry.future and not entry.future.done():
                if error:
                    entry.future.set_exception(error)
                    entry.future.exception()  # reported once, when the writer is closed
                else:
                    entry.future.set_result(None)
