"""What `simplestore demo` does. Rule: no output, and every number in it was counted.

The server is here, the callers are in processes of their own. The faults follow what these tell, not a timetable: the
outage is armed when the first token has come, so that the first renewal meets it; the revocation waits until every
process that met it is over it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager, suppress
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import attrs
from cattrs import structure, unstructure

from simplestore_async.sandbox import Sandbox

from ._worker import Report, Share, Tally

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["LIFETIME_SECONDS", "Demo", "DemoError", "Plan"]

LIFETIME_SECONDS: Final = 20
_OUTAGE_SECONDS: Final = 1.0
_REVOCATION_AT: Final = 0.7

# From this duration on, a first renewal by the package's own policy leaves time for both faults.
_FULL_DURATION_SECONDS: Final = 30.0
# In a shorter run it is due between these parts of the duration.
_SHORT_RUN_DUE: Final = (0.2, 0.35)


class DemoError(Exception):
    """The demo itself broke."""


@attrs.frozen(kw_only=True)
class Plan:
    """How many requests, how many at once, over how many seconds, from how many processes, and whether these log."""

    requests: int
    concurrency: int
    duration_seconds: float
    processes: int
    is_debug: bool

    def shares(self, folder: str) -> list[Share]:
        """Return what each process is to do; none has less than one request, and one at a time."""
        processes = min(self.processes, self.requests)
        first_due_fractions = None
        if self.duration_seconds < _FULL_DURATION_SECONDS:
            first, last = (part * self.duration_seconds / LIFETIME_SECONDS for part in _SHORT_RUN_DUE)
            first_due_fractions = first, last
        return [
            Share(
                number=number,
                processes=processes,
                requests=self.requests,
                concurrency=max(self.concurrency // processes, 1),
                duration_seconds=self.duration_seconds,
                first_due_fractions=first_due_fractions,
                folder=folder,
                is_debug=self.is_debug,
            )
            for number in range(processes)
        ]


class Demo:
    """Drive a sandbox through two faults from processes that share a token.

    Attributes:
        sandbox: the server, whose counters are the server's view.
        news: what happened, each with its second.
        has_revoked: whether the run got as far as the second fault.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.sandbox = Sandbox(lifetime_seconds=LIFETIME_SECONDS)
        self.news: list[tuple[float, str]] = []
        self.has_revoked = False
        self._reports: dict[int, Report] = {}
        self._has_armed_outage = False
        self._began_at = 0.0
        self._ended_at = 0.0

    @property
    def caller(self) -> Tally:
        """What the callers of all processes saw so far."""
        total = Tally()
        for report in self._reports.values():
            total.add(report.tally)
        return total

    @property
    def elapsed_seconds(self) -> float:
        """How long the requests have been going on; 0 before the first, and standing still after the last."""
        return (self._ended_at or self._now()) - self._began_at if self._began_at else 0.0

    @property
    def problem(self) -> str:
        """Why it failed: empty if no request did."""
        caller = self.caller
        if not caller.failed:
            return ""
        return f"{caller.failed} of {self.plan.requests} requests failed; the first because: {caller.first_problem}"

    def figures(self) -> dict[str, object]:
        """Return what the table at its end shows, for programs."""
        server, caller = self.sandbox.counters, self.caller
        return {
            "processes": self.plan.processes,
            "duration_seconds": self.elapsed_seconds,
            "token_lifetime_seconds": LIFETIME_SECONDS,
            "has_revoked": self.has_revoked,
            "server": {
                "token_requests": server.token_requests,
                "tokens_issued": server.tokens_issued,
                "failures": server.failures,
                "refusals": server.refusals,
                "api_requests": server.api_requests,
                "unauthorized": server.unauthorized,
            },
            "callers": {
                "requests": caller.done,
                "succeeded": caller.succeeded,
                "failed": caller.failed,
                "slowest_seconds": caller.slowest_seconds,
            },
        }

    async def run(self) -> None:
        """Let every process send its share.

        Raises:
            DemoError: if one of them ended before it was done.
        """
        with TemporaryDirectory(prefix="simplestore-demo-") as folder:
            shares = self.plan.shares(folder)
            all_ready = asyncio.Barrier(len(shares))
            async with self.sandbox:
                try:
                    async with asyncio.TaskGroup() as group:
                        for share in shares:
                            group.create_task(self._run_process(share, all_ready))
                except ExceptionGroup as errors:
                    raise errors.exceptions[0] from None
                self._ended_at = self._now()

    async def _run_process(self, share: Share, all_ready: asyncio.Barrier) -> None:
        async with self._start_process(share) as (reader, writer):
            await reader.readline()
            await all_ready.wait()
            self._began_at = self._began_at or self._now()
            writer.write(b"go\n")
            while line := await reader.readline():
                self._take(share.number, structure(json.loads(line), Report))

    @asynccontextmanager
    async def _start_process(self, share: Share) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "simplestore_async.cli._worker"),
            env=os.environ | self.sandbox.environment,
            start_new_session=True,  # Ctrl-C is the first process's to deal with
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None  # noqa: S101 - as asked for above
        assert process.stdout is not None  # noqa: S101 - likewise
        try:
            process.stdin.write(f"{json.dumps(unstructure(share))}\n".encode())
            yield process.stdout, process.stdin
            if await process.wait():
                raise DemoError(f"process {share.number + 1} ended with exit code {process.returncode}")
        finally:
            if process.returncode is None:
                process.kill()
            # Both ends, and then the process: else its transport would outlive the event loop, and complain.
            process.stdin.close()
            with suppress(ConnectionError):
                await process.stdin.wait_closed()
            await process.stdout.read()
            await process.wait()

    def _take(self, number: int, report: Report) -> None:
        self._reports[number] = report
        if report.news:
            self._tell(f"process {number + 1}: {report.news}")
        if report.has_token and not self._has_armed_outage:
            self._has_armed_outage = True
            self.sandbox.fail_for(_OUTAGE_SECONDS)
        if not self.has_revoked and self._may_revoke():
            self.has_revoked = True
            self.sandbox.revoke_all()
            self.sandbox.fail_next(2)
            self._tell("all tokens revoked; the token endpoint will answer 503 twice")

    def _may_revoke(self) -> bool:
        # A process leaves the endpoint alone for a while after a failure, and would let its callers have the 401.
        reports = self._reports.values()
        is_outage_over = any(each.has_recovered for each in reports) and not any(each.is_in_outage for each in reports)
        return is_outage_over and self.caller.done >= self.plan.requests * _REVOCATION_AT

    def _tell(self, text: str) -> None:
        self.news.append((self.elapsed_seconds, text))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
