"""A process of the demo. Rule: it has its environment and its share only, and reports as JSON.

It works like a process of a service: `open_session()` with a directory that it shares with the others. Each line on
standard output is a `Report`, the first when it is ready. Standard input has the share, then a line that starts it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from typing import TYPE_CHECKING, Final

import aiohttp
import attrs
from cattrs import structure, unstructure

from simplestore_async import FileTokenCache, RenewalPolicy, open_session
from simplestore_async.errors import SimpleStoreError, TokenEndpointError
from simplestore_async.events import Event, OutageBegan, OutageEnded, RenewalFailed, TokenReceived, TokenRejected

from ._output import is_closed_pipe, log_to_stderr

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LIFETIME_SECONDS", "Plan", "Report", "Share"]

LIFETIME_SECONDS: Final = 20
_REPORT_SECONDS: Final = 0.1
# From this duration on the package's own policy leaves time for both faults.
_FULL_DURATION_SECONDS: Final = 30.0
# In a shorter run the first renewal is due between these fractions of the duration.
_SHORT_RUN_DUE: Final = (0.2, 0.35)


@attrs.frozen(kw_only=True)
class Plan:
    """The requests of all processes.

    Attributes:
        requests: their number.
        concurrency: maximum concurrent requests.
        duration_seconds: time over which they are spread.
        processes: number of processes.
        is_debug: whether the processes log to the shared standard error.
    """

    requests: int
    concurrency: int
    duration_seconds: float
    processes: int
    is_debug: bool

    def policy(self) -> RenewalPolicy | None:
        """Return the renewal policy; None for the default."""
        if self.duration_seconds >= _FULL_DURATION_SECONDS:
            return None
        first, last = (part * self.duration_seconds / LIFETIME_SECONDS for part in _SHORT_RUN_DUE)
        return RenewalPolicy(first_due_fractions=(first, last))


@attrs.frozen(kw_only=True)
class Share:
    """The requests of one process: every *processes*-th, from *number* on; and the directory of the shared token."""

    plan: Plan
    number: int
    directory: str


@attrs.define
class Report:
    """Results and state of the callers of one process, or of all.

    Attributes:
        succeeded: number of requests that got 200.
        failed: number of other requests.
        slowest_seconds: duration of the slowest request.
        first_problem: reason of the first failure.
        news: the latest event, if any.
        has_token: whether a token has ever arrived.
        is_in_outage: whether the last renewal failed.
        has_recovered: whether a renewal succeeded after a failed one.
    """

    succeeded: int = 0
    failed: int = 0
    slowest_seconds: float = 0.0
    first_problem: str = ""
    news: str = ""
    has_token: bool = False
    is_in_outage: bool = False
    has_recovered: bool = False

    @property
    def done(self) -> int:
        """The number of finished requests."""
        return self.succeeded + self.failed


class _Worker:
    def __init__(self, share: Share) -> None:
        self._share = share
        self._state = Report()

    async def run(self) -> None:
        """Send every request of the share, and count those that fail."""
        plan, began_at = self._share.plan, asyncio.get_running_loop().time()
        concurrency = max(plan.concurrency // plan.processes, 1)
        numbers = iter(range(self._share.number, plan.requests, plan.processes))
        reporting = asyncio.create_task(self._report_regularly())
        async with (
            open_session(
                cache=FileTokenCache(self._share.directory),
                policy=plan.policy(),
                on_event=self._on_event,
                connector=aiohttp.TCPConnector(limit=concurrency),
            ) as session,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(concurrency):
                group.create_task(self._send(session, numbers, began_at))
        reporting.cancel()
        self.report()

    def report(self, news: str = "") -> None:
        """Report to the first process."""
        self._state.news = news
        sys.stdout.write(f"{json.dumps(unstructure(self._state))}\n")
        sys.stdout.flush()

    async def _report_regularly(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_SECONDS)
            self.report()

    async def _send(self, session: aiohttp.ClientSession, numbers: Iterator[int], began_at: float) -> None:
        now = asyncio.get_running_loop().time
        state, plan = self._state, self._share.plan
        for number in numbers:
            # Each request has its own start time: a stall is caught up.
            await asyncio.sleep(max(began_at + number * plan.duration_seconds / plan.requests - now(), 0))
            sent_at = now()
            try:
                async with session.get(f"orders/{number}") as response:
                    await response.read()
                    problem = "" if response.status == 200 else f"the API responded {response.status}"
            except (SimpleStoreError, aiohttp.ClientError, TimeoutError) as error:
                problem = str(error) or type(error).__name__
            state.failed += bool(problem)
            state.succeeded += not problem
            state.slowest_seconds = max(state.slowest_seconds, now() - sent_at)
            state.first_problem = state.first_problem or problem

    def _on_event(self, event: Event) -> None:
        match event:
            case TokenReceived():
                self._state.has_token = True
                self.report(_describe(event))
            case RenewalFailed(error=TokenEndpointError() as error, is_token_alive=True):
                self.report(f"token endpoint responds {error.status}; the current token stays in use")
            case RenewalFailed():
                self.report(f"renewal failed: {event.error}")
            case TokenRejected():
                self.report("the API rejects the token")
            case OutageBegan():
                self._state.is_in_outage = True
                self.report()
            case OutageEnded():
                self._state.is_in_outage, self._state.has_recovered = False, True
                self.report()
            case _:
                pass


def _describe(event: TokenReceived) -> str:
    if event.source == "cache":
        return "uses the token of another process"
    if event.cause == "first":
        return "first token received"
    if event.cause == "due":
        return f"renewed in the background; {event.waiter_count} requests waited"
    return f"new token after {event.duration_seconds:.1f} s; {event.waiter_count} requests waited for it"


def _end_with_the_first_process() -> None:
    """End this process when the other end of its standard input is closed."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


def _main() -> None:
    share = structure(json.loads(sys.stdin.readline()), Share)
    if share.plan.is_debug:
        log_to_stderr(prefix=f"process {share.number + 1}: ")
    worker = _Worker(share)
    worker.report()
    sys.stdin.readline()
    threading.Thread(target=_end_with_the_first_process, daemon=True).start()
    asyncio.run(worker.run())


if __name__ == "__main__":
    try:
        _main()
    except OSError as error:
        if not is_closed_pipe(error):
            raise
        os._exit(1)  # the first process has ended
