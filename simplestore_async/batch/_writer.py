"""The task that writes. Rule: it commits all that waits in one transaction, in order, in a thread.

Order bounds what a crash leaves unknown: a worker's next request is never on the disk without its last result, so that
at most the requests in flight have none. After a failed write nothing more is written.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from ._json import result_line
from ._values import BatchResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._values import BatchRequest

__all__ = ["READY", "Row", "Writer"]

Row: TypeAlias = tuple[int, str, int | None, int | None, float | None, float | None, str | None]

READY: Final = "ready"
"""State of a request that was begun, and certainly not carried out."""

_GROUP_SECONDS: Final = 0.05
_MOST_ROWS: Final = 250


@attrs.frozen
class _Entry:
    """The new state of a line, and what waits for it to be on the disk."""

    row: Row
    begun: asyncio.Future[None] | None = None
    result: BatchResult | None = None
    text: bytes = b""


class Writer:
    """Write for one event loop.

    A group is all that waits while the one before it is written. Requests are never kept waiting; results may gather
    for a moment. The thread is woken once a group: each time it competes with the event loop for the interpreter.

    Args:
        commit: writes rows, then results.
        on_written: gets each result once it is on the disk, or with the error that prevented that.
    """

    def __init__(
        self,
        commit: Callable[[list[Row], bytes], None],
        on_written: Callable[[BatchResult, Exception | None], object],
    ) -> None:
        self._commit = commit
        self._on_written = on_written
        self._loop = asyncio.get_running_loop()
        self._groups: SimpleQueue[list[_Entry] | None] = SimpleQueue()
        self._entries: list[_Entry] = []
        self._has_work, self._written = asyncio.Event(), asyncio.Event()
        self._is_closing = False
        self._error: Exception | None = None
        self._writing = asyncio.create_task(self._write_all())
        threading.Thread(target=self._run, name="simplestore-batch", daemon=True).start()

    def begin(self, request: BatchRequest) -> asyncio.Future[None]:
        """Record that a request will be sent; the future is done when that is on the disk."""
        begun: asyncio.Future[None] = self._loop.create_future()
        self._entries.append(_Entry((request.line, "begun", None, None, time.time(), None, None), begun))
        self._has_work.set()
        return begun

    def release(self, request: BatchRequest) -> None:
        """Record that a request was certainly not carried out, and will be sent later."""
        self._add(_Entry((request.line, READY, None, None, None, None, None)))

    def finish(self, result: BatchResult) -> None:
        """Record a result."""
        text = result_line(result)
        began_at = result.started_at
        ended_at = began_at + result.duration_seconds
        row = (result.line, result.outcome, result.status, result.attempts, began_at, ended_at, text.decode())
        self._add(_Entry(row, None, result, text))

    async def close(self) -> None:
        """Write what is left.

        Raises:
            Exception: what the writing raised, now or before.
        """
        self._is_closing = True
        self._has_work.set()
        await self._writing
        if self._error:
            raise self._error

    def _add(self, entry: _Entry) -> None:
        self._entries.append(entry)
        if len(self._entries) == 1:
            self._loop.call_later(_GROUP_SECONDS, self._has_work.set)

    async def _write_all(self) -> None:
        try:
            while self._entries or not self._is_closing:
                await self._has_work.wait()
                group, self._entries = self._entries[:_MOST_ROWS], self._entries[_MOST_ROWS:]
                if not self._entries and not self._is_closing:
                    self._has_work.clear()
                if group:
                    self._written.clear()
                    self._groups.put(group)
                    await self._written.wait()
        finally:
            self._groups.put(None)

    def _run(self) -> None:
        error: Exception | None = None
        while group := self._groups.get():
            try:
                if error is None:
                    self._commit([entry.row for entry in group], b"".join(entry.text for entry in group))
            except Exception as caught:  # noqa: BLE001 - raised where it is waited for
                error = caught
            with suppress(RuntimeError):  # the event loop is closed, and nothing waits there
                self._loop.call_soon_threadsafe(self._settle, group, error)

    def _settle(self, group: list[_Entry], error: Exception | None) -> None:
        self._error = error
        self._written.set()
        for entry in group:
            if entry.result:
                self._on_written(entry.result, error)
            if entry.begun is None or entry.begun.done():
                continue
            if error:
                entry.begun.set_exception(error)
            else:
                entry.begun.set_result(None)
