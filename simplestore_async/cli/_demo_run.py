"""The run of `simplestore demo`. Rule: no output; every number was counted.

The server runs here, the callers in processes of their own. Faults follow their reports, not a timetable: the outage is
scripted once the first token has arrived, so that the first renewal meets it; the revocation waits until every process
has recovered from it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager, suppress
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import attrs
from cattrs import structure, unstructure

from simplestore_async.sandbox import Sandbox

from ._demo_worker import Report, Share, Tally
from ._text import as_line

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["LIFETIME_SECONDS", "Demo", "DemoError", "Plan"]

LIFETIME_SECONDS: Final = 20
_OUTAGE_SECONDS: Final = 1.0
# Ctrl-C is handled by this process.
_APART: Final[dict[str, Any]] = (
    {"creationflags": 0x200}  # CREATE_NEW_PROCESS_GROUP
    if os.name == "nt"
    else {"start_new_session": True}
)
_REVOCATION_AT: Final = 0.7

# From this duration on the package's own policy leaves time for both faults.
_FULL_DURATION_SECONDS: Final = 30.0
# In a shorter run the first renewal is due between these fractions of the duration.
_SHORT_RUN_DUE: Final = (0.2, 0.35)


class DemoError(Exception):
    """The demo could not run."""


@attrs.frozen(kw_only=True)
class Plan:
    """The requests to send: number, concurrency, duration, processes, and whether these log."""

    requests: int
    concurrency: int
    duration_seconds: float
    processes: int
    is_debug: bool

    def shares(self, directory: str) -> list[Share]:
        """Return the share of each process; at least one request each."""
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
                directory=directory,
                is_debug=self.is_debug,
            )
            for number in range(processes)
        ]


class Demo:
    """Drive a sandbox through two faults from processes that share a token.

    Attributes:
        sandbox: the server.
        news: events, each with its second.
        has_revoked: whether the second fault occurred.
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
        """Results of the callers in all processes so far."""
        total = Tally()
        for report in self._reports.values():
            total.add(report.tally)
        return total

    @property
    def elapsed_seconds(self) -> float:
        """Time from the first request to now, or to the last; 0 before the first."""
        return (self._ended_at or self._now()) - self._began_at if self._began_at else 0.0

    @property
    def rate(self) -> float:
        """Average requests per second so far."""
        return self.caller.done / self.elapsed_seconds if self.elapsed_seconds else 0.0

    @property
    def problem(self) -> str:
        """Why it failed; empty if no request did."""
        caller = self.caller
        if not caller.failed:
            return ""
        return f"{caller.failed} of {self.plan.requests} requests failed; first failure: {caller.first_problem}"

    def figures(self) -> dict[str, object]:
        """Return the numbers of the final table, for `--json`."""
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
        """Run every process to its end.

        Raises:
            DemoError: if one of them ended early.
        """
        with TemporaryDirectory(prefix="simplestore-demo-") as directory:
            shares = self.plan.shares(directory)
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
            *(sys.executable, "-m", "simplestore_async.cli._demo_worker"),
            env=os.environ | self.sandbox.environment,
            **_APART,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None  # noqa: S101 - as asked for above
        assert process.stdout is not None  # noqa: S101 - as asked for above
        try:
            process.stdin.write(f"{json.dumps(unstructure(share))}\n".encode())
            yield process.stdout, process.stdin
            if await process.wait():
                raise DemoError(f"process {share.number + 1} ended with exit code {process.returncode}")
        finally:
            if process.returncode is None:
                process.kill()
            # Both ends, then the process: its transport must not outlive the event loop.
            process.stdin.close()
            with suppress(ConnectionError):
                await process.stdin.wait_closed()
            await process.stdout.read()
            await process.wait()

    def _take(self, number: int, report: Report) -> None:
        self._reports[number] = report
        if report.news:
            self._add_news(f"process {number + 1}: {report.news}")
        if report.has_token and not self._has_armed_outage:
            self._has_armed_outage = True
            self.sandbox.fail_for(_OUTAGE_SECONDS)
        if not self.has_revoked and self._may_revoke():
            self.has_revoked = True
            self.sandbox.revoke_all()
            self.sandbox.fail_next(2)
            self._add_news("all tokens revoked; the token endpoint will respond 503 twice")

    def _may_revoke(self) -> bool:
        # A process backs off after a failure; its callers would get the 401.
        reports = self._reports.values()
        is_outage_over = any(each.has_recovered for each in reports) and not any(each.is_in_outage for each in reports)
        return is_outage_over and self.caller.done >= self.plan.requests * _REVOCATION_AT

    def _add_news(self, text: str) -> None:
        self.news.append((self.elapsed_seconds, as_line(text)))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
