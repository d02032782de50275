"""The requests that are next. Rule: the journal has them, many at once, while those before them are under way.

To wait for the disk with each request would leave the network idle. So some are noted as begun ahead of their turn, in
one write; those that are not sent after all are given back. As few as will do: if the batch is killed they are what is
unknown without need. But where the API answers faster than the disk, everybody waits for it, and more are noted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

import attrs

from ._values import BatchRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._journal import Journal

__all__ = ["Ahead", "Next"]


@attrs.define
class Next:
    """A request that is next.

    Attributes:
        request: the request.
        is_begun: whether the journal says that it was begun.
        is_unknown: whether an earlier run began it, and it must not be sent.
    """

    request: BatchRequest
    is_begun: bool = False
    is_unknown: bool = False


class Ahead:
    """Give requests to the workers of one event loop.

    Args:
        requests: what to send.
        journal: where they are noted, if anywhere.
        is_unknown: tells whether an earlier run began a request that must not be sent again.
        count: how many are noted at once, at first; 0 for none.
        most: how many are noted at once where requests end faster than they are noted.
    """

    def __init__(
        self,
        requests: Iterator[BatchRequest],
        *,
        journal: Journal | None,
        is_unknown: Callable[[BatchRequest], bool],
        count: int,
        most: int,
    ) -> None:
        self._requests = requests
        self._journal = journal
        self._is_unknown = is_unknown
        self._count = count if journal else 0
        self._most = most
        self._ready: deque[Next] = deque()
        self._filling: asyncio.Task[None] | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._is_over = False
        self._error: BaseException | None = None

    async def take(self) -> Next | None:
        """Return what is next; None if nothing is.

        Raises:
            JournalError: if it cannot be noted; nothing that was not noted is given out.
        """
        if not self._count:
            request = next(self._requests, None)
            return Next(request, is_unknown=self._is_unknown(request)) if request else None
        while not self._ready and not self._is_over:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            self._fill()
            await waiter
            if self._error:
                raise self._error
        if not self._ready:
            return None
        taken = self._ready.popleft()
        if len(self._ready) <= self._count // 2 and not self._is_over:
            self._fill()
        return taken

    async def close(self) -> None:
        """Give back what was not taken."""
        if self._filling:
            self._filling.cancel()
            await asyncio.wait({self._filling})
        for each in self._ready:
            self._give_back(each)

    def _fill(self) -> None:
        if self._filling is None or self._filling.done():
            self._filling = asyncio.create_task(self._note_more(is_early=bool(self._ready)))
            self._filling.add_done_callback(self._settle)

    def _settle(self, task: asyncio.Task[None]) -> None:
        self._error = None if task.cancelled() else task.exception()
        # No more of them than there is for: those who wait are many.
        left = len(self._waiters) if self._is_over or self._error else len(self._ready)
        while self._waiters and left:
            waiter = self._waiters.popleft()
            if not waiter.done():  # as it is once whoever waited was cancelled
                waiter.set_result(None)
                left -= 1

    async def _note_more(self, *, is_early: bool) -> None:
        found: list[Next] = []
        for request in islice(self._requests, self._count):
            is_unknown = self._is_unknown(request)
            found.append(Next(request, is_begun=not is_unknown, is_unknown=is_unknown))
        if not found:
            self._is_over = True
            return
        assert self._journal is not None  # noqa: S101 - without one nothing is noted ahead
        try:
            await self._journal.begin(*[each.request for each in found if each.is_begun])
        except asyncio.CancelledError:
            for each in found:
                self._give_back(each)
            raise
        self._ready.extend(found)
        if is_early and self._waiters:
            self._count = min(2 * self._count, self._most)

    def _give_back(self, each: Next) -> None:
        if self._journal and each.is_begun:
            self._journal.keep(each.request)
