"""The thread that writes. Rule: it commits all that waits in one transaction, in order, and the loop waits for nothing.

Order bounds what a crash leaves unknown: a worker's next request is never on the disk without its last result, so that
at most the requests in flight have none. After a failed write nothing more is written.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from ._json import result_line

if TYPE_CHECKING:
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
    text: bytes = b""
    on_written: Callable[[Exception | None], object] | None = None


class Writer:
    """Write for one event loop.

    A group is all that waits while the one before it is written. Requests are never kept waiting; results may gather
    for a moment. The thread is woken once a group: each time it competes with the event loop for the interpreter.

    Args:
        commit: writes rows by line, then results.
    """

    def __init__(self, commit: Callable[[dict[int, Row | None], list[bytes]], None]) -> None:
        self._commit = commit
        self._loop = asyncio.get_running_loop()
        self._groups: SimpleQueue[list[_Entry] | None] = SimpleQueue()
        self._entries: list[_Entry] = []
        self._is_urgent = self._is_writing = False
        self._error: Exception | None = None
        self._ended: asyncio.Future[None] | None = None
        threading.Thread(target=self._run, name="simplestore-batch", daemon=True).start()

    def begin(self, request: BatchRequest) -> asyncio.Future[None]:
        """Record that a request will be sent; the future is done when that is on the disk."""
        future: asyncio.Future[None] = self._loop.create_future()

        def settle(error: Exception | None) -> None:
            if future.done():
                return
            if error:
                future.set_exception(error)
            else:
                future.set_result(None)

        row = (request.line, "begun", None, None, time.time(), None, None)
        self._entries.append(_Entry(request.line, row, b"", settle))
        self._is_urgent = True
        self._loop.call_soon(self._write)  # with those that begin in the same turn of the loop
        return future

    def release(self, request: BatchRequest) -> None:
        """Record that a request was certainly not carried out, and will be sent later."""
        self._add(_Entry(request.line, None))

    def finish(self, result: BatchResult, on_written: Callable[[Exception | None], object]) -> None:
        """Record a result.

        Args:
            result: the result of a request.
            on_written: called when it is on the disk and was written to where results go, or with what prevented that.
        """
        text = result_line(result)
        started_at = result.started_at
        ended_at = started_at + result.duration_seconds
        row = (result.line, result.outcome, result.status, result.attempts, started_at, ended_at, text.decode())
        self._add(_Entry(result.line, row, text, on_written))

    async def close(self) -> None:
        """Write what is left, even if cancelled meanwhile; the database must not be closed before.

        Raises:
            Exception: what the writing raised, now or before.
        """
        self._ended = self._loop.create_future()
        self._write()
        cancelled: asyncio.CancelledError | None = None
        while not self._ended.done():
            try:
                await asyncio.wait({self._ended})
            except asyncio.CancelledError as again:
                cancelled = again
        error = cancelled or self._error
        if error:
            raise error

    def _add(self, entry: _Entry) -> None:
        self._entries.append(entry)
        if len(self._entries) == 1:
            self._loop.call_later(_GROUP_SECONDS, self._write)

    def _write(self) -> None:
        """Hand all that waits to the thread, unless it is busy."""
        if self._is_writing:
            return
        if self._entries:
            self._is_writing = True
            group, self._entries = self._entries[:_MOST_ROWS], self._entries[_MOST_ROWS:]
            self._is_urgent = bool(self._entries)
            self._groups.put(group)
        elif self._ended and not self._ended.done():
            self._groups.put(None)
            self._ended.set_result(None)

    def _run(self) -> None:
        while group := self._groups.get():
            if self._error is None:
                try:
                    rows = {entry.line: entry.row for entry in group}
                    self._commit(rows, [entry.text for entry in group if entry.text])
                except Exception as error:  # noqa: BLE001 - raised where it is waited for
                    self._error = error
            with suppress(RuntimeError):  # the event loop is closed, and nothing waits there
                self._loop.call_soon_threadsafe(self._settle, group)

    def _settle(self, group: list[_Entry]) -> None:
        self._is_writing = False
        for entry in group:
            if entry.on_written:
                entry.on_written(self._error)
        if self._is_urgent or self._ended:
            self._write()
        elif self._entries:
            self._loop.call_later(_GROUP_SECONDS, self._write)
