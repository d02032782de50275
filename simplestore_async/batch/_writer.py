"""The writer of a batch. Rule: all that waits is committed in one transaction, in order, in a thread.

Order bounds what a crash leaves unknown: a worker's next request is never on the disk without its last result, so that
at most the requests in flight have none. A row begun ahead of its request would be one more of them: that bound is why
each unsafe request waits for a commit. After a failed write nothing more is written.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, TypeAlias

from ._json import result_line
from ._values import BatchResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._values import BatchRequest

__all__ = ["READY", "Row", "Writer"]

Row: TypeAlias = tuple[int, str, int | None, int | None, float | None, float | None, str | None]
"""Line, state, status, attempts, start and end as POSIX time, result."""

READY: Final = "ready"
"""State of a request that was begun, and certainly not carried out."""

_GROUP_SECONDS: Final = 0.05
_MOST_ROWS: Final = 250
_Entry: TypeAlias = tuple[Row, asyncio.Future[None] | BatchResult | None]


class Writer:
    """Write for one event loop.

    A group is all that waits while the one before it is written. Requests are never kept waiting; results may gather
    for a moment. The thread is woken once a group: each time it competes with the event loop for the interpreter.

    Args:
        commit: writes rows.
        on_written: gets the results of a group once they are on the disk, or the error that prevented that.
    """

    def __init__(
        self,
        commit: Callable[[list[Row]], None],
        on_written: Callable[[list[BatchResult], Exception | None], object],
    ) -> None:
        self._commit = commit
        self._on_written = on_written
        self._loop = asyncio.get_running_loop()
        self._groups: SimpleQueue[list[_Entry] | None] = SimpleQueue()
        self._entries: list[_Entry] = []
        self._is_due = self._is_writing = False
        self._written = asyncio.Event()
        self._error: Exception | None = None
        threading.Thread(target=self._run, name="simplestore-batch", daemon=True).start()

    def begin(self, request: BatchRequest) -> asyncio.Future[None]:
        """Record that a request will be sent; the future is done when that is on the disk."""
        begun: asyncio.Future[None] = self._loop.create_future()
        self._entries.append(((request.line, "begun", None, None, time.time(), None, None), begun))
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._write)  # with all that begin in this turn of the event loop
        return begun

    def release(self, request: BatchRequest) -> None:
        """Record that a request was certainly not carried out, and will be sent later."""
        self._add(((request.line, READY, None, None, None, None, None), None))

    def finish(self, result: BatchResult) -> None:
        """Record a result."""
        began_at = result.started_at
        ended_at = began_at + result.duration_seconds
        facts = result.line, result.outcome, result.status, result.attempts, began_at, ended_at
        self._add(((*facts, result_line(result).decode()), result))

    async def close(self) -> None:
        """Write what is left.

        Raises:
            Exception: what the writing raised, now or before.
        """
        while self._entries or self._is_writing:
            self._written.clear()
            self._write()
            await self._written.wait()
        if self._error:
            raise self._error

    def end(self) -> None:
        """End the thread."""
        self._groups.put(None)

    def _add(self, entry: _Entry) -> None:
        self._entries.append(entry)
        if len(self._entries) == 1:
            self._loop.call_later(_GROUP_SECONDS, self._write)

    def _write(self) -> None:
        """Write what waits; at once, or after the group that is being written."""
        self._is_due = bool(self._entries)
        if self._is_due and not self._is_writing:
            group, self._entries = self._entries[:_MOST_ROWS], self._entries[_MOST_ROWS:]
            self._is_writing, self._is_due = True, bool(self._entries)
            self._groups.put(group)

    def _run(self) -> None:
        error: Exception | None = None
        while group := self._groups.get():
            try:
                if error is None:
                    self._commit([row for row, _ in group])
            except Exception as caught:  # noqa: BLE001 - raised where it is waited for
                error = caught
            with suppress(RuntimeError):  # the event loop is closed, and nothing waits there
                self._loop.call_soon_threadsafe(self._settle, group, error)

    def _settle(self, group: list[_Entry], error: Exception | None) -> None:
        self._error, self._is_writing = error, False
        if self._is_due:
            self._write()
        self._on_written([waiter for _, waiter in group if isinstance(waiter, BatchResult)], error)
        for _, waiter in group:
            if not isinstance(waiter, asyncio.Future) or waiter.done():
                continue
            if error:
                waiter.set_exception(error)
            else:
                waiter.set_result(None)
        self._written.set()
