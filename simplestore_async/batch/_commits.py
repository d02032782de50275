"""Group commit. Rule: many requests share one write to the disk, which never holds up the event loop.

Whoever needs to know waits until what it noted is on the disk; what nobody waits for is written soon, in one go. After
a write that failed nothing is written any more: what is in the file then is what is true.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import attrs

from ._records import State

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Commits", "Group"]

_SOON_SECONDS: Final = 0.1
_MOST_RESULTS: Final = 256


@attrs.define
class Group:
    """What is written together, and who waits for it.

    Attributes:
        marks: how lines stand now.
        results: the results of some of them.
        is_checkpoint: whether the results must be on the disk, too, and the journal say so.
        waiters: who waits.
    """

    marks: dict[State, list[int]] = attrs.field(factory=dict[State, list[int]])
    results: list[bytes] = attrs.field(factory=list[bytes])
    is_checkpoint: bool = False
    waiters: list[asyncio.Future[None]] = attrs.field(factory=list[asyncio.Future[None]])

    def settle(self, error: Exception | None) -> None:
        """Let go of those who wait."""
        for waiter in self.waiters:
            if waiter.done():  # whoever waited was cancelled
                continue
            if error:
                waiter.set_exception(error)
            else:
                waiter.set_result(None)


class Commits:
    """Collect marks and results, and let one thread write them. It belongs to one event loop.

    Ten times a second, at most, there is a checkpoint, which costs the disk a second wait.

    Args:
        write: writes a group, and returns when its marks are on the disk.
    """

    def __init__(self, write: Callable[[Group], None]) -> None:
        self._write = write
        self._group = Group()
        self._has_work = asyncio.Event()
        self._is_urgent = asyncio.Event()
        self._is_closing = False
        self._error: Exception | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="simplestore-journal")
        self._task = asyncio.create_task(self._run())

    def note(self, state: State, number: int, *, result: bytes = b"") -> None:
        """Note how a line stands now, with its result if there is one; it is written soon."""
        self._group.marks.setdefault(state, []).append(number)
        if result:
            self._group.results.append(result)
        self._has_work.set()

    async def flush(self) -> None:
        """Return when everything that was noted is written, and on the disk but for results.

        Raises:
            Exception: what the writing raised, now or before.
        """
        if self._error:
            raise self._error
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._group.waiters.append(waiter)
        self._is_urgent.set()
        self._has_work.set()
        await waiter

    async def make_room(self) -> None:
        """Wait if so many results were noted that they must be written before there are more."""
        if len(self._group.results) >= _MOST_RESULTS:
            await self.flush()

    async def close(self) -> None:
        """Write what is left, unless an earlier write failed, and end; whoever is cancelled waits for that, too.

        Raises:
            Exception: what the writing raised, now or before.
        """
        self._is_closing = True
        self._is_urgent.set()
        self._has_work.set()
        cancelled: asyncio.CancelledError | None = None
        while not self._task.done():
            try:
                await asyncio.wait({self._task})
            except asyncio.CancelledError as again:
                # The thread may be writing, and its file must not be closed meanwhile.
                cancelled = again
        self._executor.shutdown(wait=False)
        error = cancelled or self._error
        if error:
            raise error

    async def _run(self) -> None:
        now = asyncio.get_running_loop().time
        checked_at = now()
        is_done = False
        while self._error is None and not is_done:
            await self._has_work.wait()
            if not self._is_urgent.is_set():  # where every request waits for the disk, it is
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._is_urgent.wait(), _SOON_SECONDS)
            group, self._group = self._group, Group()
            self._has_work.clear()
            self._is_urgent.clear()
            is_done = self._is_closing
            if is_done or now() - checked_at >= _SOON_SECONDS:
                group.is_checkpoint, checked_at = True, now()
            elif group.results:
                self._has_work.set()  # their checkpoint is still to come
            self._error = await self._commit(group)
            group.settle(self._error)
        # Who came while a write failed; after one that did not, nobody waits.
        self._group.settle(self._error)

    async def _commit(self, group: Group) -> Exception | None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._write, group)
        except Exception as error:  # noqa: BLE001 - who waits for the group gets it
            return error
        return None
