"""The batch at work. Rule: nothing is begun that the journal does not have; whatever ends it, it can be resumed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from simplestore_async.errors import SimpleStoreError

from ._ahead import Ahead
from ._file import RequestFile
from ._sender import Sender
from ._sending import without_own_retries
from ._values import OUTCOMES, BatchPolicy, BatchResult, BatchSummary

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    import aiohttp

    from ._ahead import Next
    from ._journal import Journal
    from ._values import BatchRequest, Outcome

__all__ = ["run_batch"]

_BEGUN_BEFORE: Final = (
    "it was sent, or was about to be, when an earlier run ended: look whether it was done; --resend-unknown sends it"
)


async def run_batch(  # noqa: PLR0913 - what to send, where to, and whom to tell
    requests: Iterable[BatchRequest],
    *,
    session: aiohttp.ClientSession,
    journal: Journal | None = None,
    policy: BatchPolicy | None = None,
    on_result: Callable[[BatchResult], object] | None = None,
    on_pause: Callable[[str, float], object] | None = None,
    stop: asyncio.Event | None = None,
) -> BatchSummary:
    """Send many requests, and tell what came of each.

    A request that may change something is sent once: again only if it certainly was not sent, or the API put it off
    (429). Requests that only read are sent again when no complete answer comes, or one of 408 or 5xx. When no token or
    no connection can be had, or the API asks for quiet, the whole batch waits. However it ends, requests under way
    are over when it returns or raises.

    Args:
        requests: what to send; a `RequestFile`, or any other iterable, which is read while the batch goes on.
        session: from `open_session()`, say; its `raise_for_status` does not apply. It should have a connection for
            each request under way.
        journal: about the same `RequestFile`. Without one nothing can be resumed.
        policy: the numbers.
        on_result: is given each result, in the order in which they come, before the journal has it. What it raises
            ends the batch.
        on_pause: is told why the whole batch waits, and for how many seconds.
        stop: when it is set nothing more is begun, and what is under way has `policy.grace_seconds` to end. Whoever
            cancels the call instead gives it none.

    Returns:
        How the batch stands.

    Raises:
        TokenError: if no token can be had, not even with patience.
        BatchError: if the API cannot be reached, or asks for more patience than there is.
        BatchFileError: if the file was changed meanwhile.
        JournalError: if the journal or the results cannot be written.
        BrokenPipeError: if whoever read the results went away.
    """
    batch = _Batch(
        requests,
        session=session,
        journal=journal,
        policy=policy or BatchPolicy(),
        on_result=on_result or (lambda _: None),
        on_pause=on_pause or (lambda _, __: None),
    )
    with without_own_retries(session):
        return await batch.run(stop or asyncio.Event())


class _Batch:
    """All the state of one run; written by its tasks, on one event loop."""

    def __init__(  # noqa: PLR0913 - those of `run_batch`
        self,
        requests: Iterable[BatchRequest],
        *,
        session: aiohttp.ClientSession,
        journal: Journal | None,
        policy: BatchPolicy,
        on_result: Callable[[BatchResult], object],
        on_pause: Callable[[str, float], object],
    ) -> None:
        self._requests = _select(requests, journal, policy)
        self._ahead = Ahead(
            self._requests,
            journal=journal,
            is_unknown=self._is_unknown,
            # A rate says when a request may be begun.
            count=0 if policy.rate else (policy.concurrency + 1) // 2,
            most=4 * policy.concurrency,
        )
        self._journal = journal
        self._policy = policy
        self._on_result = on_result
        self._sender = Sender(session, policy=policy, on_pause=on_pause)
        self._counts: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)

    async def run(self, stop: asyncio.Event) -> BatchSummary:
        """Send everything, or as much as may be."""
        if self._journal:
            self._journal.start()
        workers = [asyncio.create_task(self._work()) for _ in range(self._policy.concurrency)]
        all_ended = asyncio.create_task(asyncio.wait(workers))
        stopped = asyncio.create_task(stop.wait())
        halted = asyncio.create_task(self._sender.stopping.wait())
        try:
            await asyncio.wait({all_ended, stopped, halted}, return_when=asyncio.FIRST_COMPLETED)
            self._sender.stopping.set()
            await asyncio.wait({all_ended}, timeout=self._policy.grace_seconds)
        finally:
            tasks: list[asyncio.Task[Any]] = [*workers, all_ended, stopped, halted]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._ahead.close()
            self._sender.close()
            self._requests.close()
            await self._settle()
        if self._sender.error:
            raise self._sender.error
        journal = self._journal
        return BatchSummary(
            counts=journal.counts if journal else self._counts,
            remaining=journal.remaining if journal else None,
            is_stopped=stop.is_set(),
        )

    async def _settle(self) -> None:
        try:
            if self._journal:
                await self._journal.settle()
        except (SimpleStoreError, OSError) as error:
            self._sender.halt(error)

    async def _work(self) -> None:
        try:
            while not self._sender.stopping.is_set() and (found := await self._ahead.take()):
                await self._handle(found)
        except Exception as error:  # noqa: BLE001 - whatever it is ends the batch, and is raised then
            self._sender.halt(error)

    async def _handle(self, found: Next) -> None:
        request = found.request
        if found.is_unknown:
            result = BatchResult(
                id=request.id,
                line=request.line,
                outcome="unknown",
                error_type="InterruptedError",
                error_message=_BEGUN_BEFORE,
            )
        elif not await self._may_send(found):
            return
        else:
            sent = await self._sender.send(request)
            if sent is None:
                self._keep(request)
                return
            result = sent
        self._counts[result.outcome] += 1
        self._on_result(result)
        if self._journal:
            await self._journal.finish(result)

    async def _may_send(self, found: Next) -> bool:
        """Wait for a request's turn; return False if the batch ends first, which the journal then knows."""
        is_begun, may_send = found.is_begun, False
        try:
            if not self._sender.stopping.is_set() and await self._sender.wait_for_turn():
                if self._journal and not is_begun:
                    is_begun = True
                    await self._journal.begin(found.request)
                may_send = True
            return may_send
        finally:
            if is_begun and not may_send:
                self._keep(found.request)

    def _keep(self, request: BatchRequest) -> None:
        if self._journal:
            self._journal.keep(request)

    def _is_unknown(self, request: BatchRequest) -> bool:
        if self._journal is None or request.is_safe or self._policy.has_leave_to_resend:
            return False
        return self._journal.may_have_been_sent(request.line)


def _select(requests: Iterable[BatchRequest], journal: Journal | None, policy: BatchPolicy) -> Generator[BatchRequest]:
    """Yield the requests for which something is left to do."""

    def is_wanted(number: int) -> bool:
        return journal is None or journal.is_pending(number, has_leave_to_resend=policy.has_leave_to_resend)

    if isinstance(requests, RequestFile):
        return requests.select(is_wanted)
    return (request for request in requests if is_wanted(request.line))
