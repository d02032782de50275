"""A process of the demo. Rule: it has its environment and its share only, and reports as JSON.

It does what a process of a service does: `open_session()` with a directory that it shares with the others. A line on
its standard output is a `Report`; the first means that it is ready, and a line on its standard input starts it.
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

from ._output import log_to_stderr

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Report", "Share", "Tally"]

_REPORT_SECONDS: Final = 0.1


@attrs.frozen(kw_only=True)
class Share:
    """The requests of one process: every *processes*-th, from its own number on.

    Attributes:
        number: number of the process, from 0.
        processes: number of processes.
        requests: number of requests of all processes.
        concurrency: maximum concurrent requests of this process.
        duration_seconds: time over which all requests are spread.
        first_due_fractions: when the first renewal is due; None for the package's own policy.
        directory: directory of the shared token.
        is_debug: whether to log to the shared standard error.
    """

    number: int
    processes: int
    requests: int
    concurrency: int
    duration_seconds: float
    first_due_fractions: tuple[float, float] | None
    directory: str
    is_debug: bool

    def policy(self) -> RenewalPolicy | None:
        """Return the renewal policy; None for the default."""
        return self.first_due_fractions and RenewalPolicy(first_due_fractions=self.first_due_fractions)


@attrs.define
class Tally:
    """Results of requests so far; a failed one got no 200."""

    succeeded: int = 0
    failed: int = 0
    slowest_seconds: float = 0.0
    first_problem: str = ""

    @property
    def done(self) -> int:
        """The number of finished requests."""
        return self.succeeded + self.failed

    def count(self, problem: str, seconds: float) -> None:
        """Add a request that took *seconds*; it failed if there is a *problem*."""
        self.failed += bool(problem)
        self.succeeded += not problem
        self.slowest_seconds = max(self.slowest_seconds, seconds)
        self.first_problem = self.first_problem or problem

    def add(self, other: Tally) -> None:
        """Add the results of other callers."""
        self.succeeded += other.succeeded
        self.failed += other.failed
        self.slowest_seconds = max(self.slowest_seconds, other.slowest_seconds)
        self.first_problem = self.first_problem or other.first_problem


@attrs.frozen(kw_only=True)
class Report:
    """The state of a process, and its latest event, if any.

    Attributes:
        tally: results of its callers.
        news: the event, in words.
        has_token: whether a token has ever arrived.
        is_in_outage: whether its last renewal failed.
        has_recovered: whether a renewal succeeded after a failed one.
    """

    tally: Tally
    news: str = ""
    has_token: bool = False
    is_in_outage: bool = False
    has_recovered: bool = False


class _Worker:
    def __init__(self, share: Share) -> None:
        self._share = share
        self._tally = Tally()
        self._has_token = False
        self._is_in_outage = False
        self._has_recovered = False

    async def run(self) -> None:
        """Send every request of the share, and count those that fail."""
        share = self._share
        began_at = asyncio.get_running_loop().time()
        numbers = iter(range(share.number, share.requests, share.processes))
        reporting = asyncio.create_task(self._report_regularly())
        async with (
            open_session(
                cache=FileTokenCache(share.directory),
                policy=share.policy(),
                on_event=self._on_event,
                connector=aiohttp.TCPConnector(limit=share.concurrency),
            ) as session,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(share.concurrency):
                group.create_task(self._send(session, numbers, began_at))
        reporting.cancel()
        self.report()

    def report(self, news: str = "") -> None:
        """Report to the first process."""
        report = Report(
            tally=self._tally,
            news=news,
            has_token=self._has_token,
            is_in_outage=self._is_in_outage,
            has_recovered=self._has_recovered,
        )
        sys.stdout.write(f"{json.dumps(unstructure(report))}\n")
        sys.stdout.flush()

    async def _report_regularly(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_SECONDS)
            self.report()

    async def _send(self, session: aiohttp.ClientSession, numbers: Iterator[int], began_at: float) -> None:
        now = asyncio.get_running_loop().time
        pace = self._share.duration_seconds / self._share.requests
        for number in numbers:
            # Each request has its own start time: a stall is caught up.
            await asyncio.sleep(max(began_at + number * pace - now(), 0))
            sent_at = now()
            try:
                async with session.get(f"orders/{number}") as response:
                    await response.read()
                    problem = "" if response.status == 200 else f"the API responded {response.status}"
            except (SimpleStoreError, aiohttp.ClientError, TimeoutError) as error:
                problem = str(error) or type(error).__name__
            self._tally.count(problem, now() - sent_at)

    def _on_event(self, event: Event) -> None:
        match event:
            case TokenReceived(source="cache"):
                self._has_token = True
                self.report("uses the token of another process")
            case TokenReceived(cause="first"):
                self._has_token = True
                self.report("first token received")
            case TokenReceived(cause="due"):
                self.report(f"renewed in the background; {event.waiter_count} requests waited")
            case TokenReceived():
                self.report(
                    f"new token after {event.duration_seconds:.1f} s; {event.waiter_count} requests waited for it"
                )
            case RenewalFailed(error=TokenEndpointError() as error, is_token_alive=True):
                self.report(f"token endpoint responds {error.status}; the current token stays in use")
            case RenewalFailed():
                self.report(f"renewal failed: {event.error}")
            case TokenRejected():
                self.report("the API rejects the token")
            case OutageBegan():
                self._is_in_outage = True
                self.report()
            case OutageEnded():
                self._is_in_outage, self._has_recovered = False, True
                self.report()
            case _:
                pass


def _end_with_the_first_process() -> None:
    """End this process when the other end of its standard input is closed."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


def _main() -> None:
    share = structure(json.loads(sys.stdin.readline()), Share)
    if share.is_debug:
        log_to_stderr(prefix=f"process {share.number + 1}: ")
    worker = _Worker(share)
    worker.report()
    sys.stdin.readline()
    threading.Thread(target=_end_with_the_first_process, daemon=True).start()
    asyncio.run(worker.run())


if __name__ == "__main__":
    try:
        _main()
    except BrokenPipeError:
        os._exit(1)  # the first process has ended
