"""The run of `simplestore demo`. Rule: no output; every number was counted.

The server runs in this process, the callers in processes of their own. Faults follow the callers' reports, not a
timetable: the outage is scripted once the first token has arrived, so that it hits the first renewal; the revocation
waits until every process has recovered from it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress
from tempfile import TemporaryDirectory
from typing import Any, Final, cast

import attrs
from cattrs import structure, unstructure

from simplestore_async.sandbox import Sandbox

from ._demo_worker import LIFETIME_SECONDS, Plan, Report, Share
from ._text import as_line

__all__ = ["LIFETIME_SECONDS", "Demo", "DemoError", "Plan"]

_OUTAGE_SECONDS: Final = 1.0
# Only this process handles Ctrl-C.
_APART: Final[dict[str, Any]] = (
    {"creationflags": 0x200}  # CREATE_NEW_PROCESS_GROUP
    if os.name == "nt"
    else {"start_new_session": True}
)
_REVOCATION_AT: Final = 0.7


class DemoError(Exception):
    """The demo could not run."""


class Demo:
    """Drive a sandbox through two faults from processes that share a token.

    Attributes:
        plan: the requests to send.
        sandbox: the server.
        news: events, each with its second.
        has_revoked: whether the second fault occurred.
    """

    def __init__(self, plan: Plan) -> None:
        # Each process has at least one request.
        self.plan = attrs.evolve(plan, processes=min(plan.processes, plan.requests))
        self.sandbox = Sandbox(lifetime_seconds=LIFETIME_SECONDS)
        self.news: list[tuple[float, str]] = []
        self.has_revoked = False
        self._reports: dict[int, Report] = {}
        self._has_armed_outage = False
        self._began_at = 0.0
        self._ended_at = 0.0

    @property
    def callers(self) -> Report:
        """Results and state of the callers in all processes so far."""
        reports = self._reports.values()
        return Report(
            succeeded=sum(each.succeeded for each in reports),
            failed=sum(each.failed for each in reports),
            slowest_seconds=max((each.slowest_seconds for each in reports), default=0.0),
            first_problem=next((each.first_problem for each in reports if each.first_problem), ""),
            has_token=any(each.has_token for each in reports),
            is_in_outage=any(each.is_in_outage for each in reports),
            has_recovered=any(each.has_recovered for each in reports),
        )

    @property
    def elapsed_seconds(self) -> float:
        """Time from the first request to now, or to the last; 0 before the first."""
        return (self._ended_at or self._now()) - self._began_at if self._began_at else 0.0

    @property
    def rate(self) -> float:
        """Average requests per second so far."""
        return self.callers.done / self.elapsed_seconds if self.elapsed_seconds else 0.0

    @property
    def problem(self) -> str:
        """The reason of the failure; empty if no request failed."""
        callers = self.callers
        if not callers.failed:
            return ""
        return f"{callers.failed} of {self.plan.requests} requests failed; first failure: {callers.first_problem}"

    def figures(self) -> dict[str, object]:
        """Return the numbers of the final table, for `--json`."""
        callers = self.callers
        return {
            "processes": self.plan.processes,
            "duration_seconds": self.elapsed_seconds,
            "token_lifetime_seconds": LIFETIME_SECONDS,
            "has_revoked": self.has_revoked,
            "server": attrs.asdict(self.sandbox.counters, filter=attrs.filters.exclude("api_failures")),
            "callers": {
                "requests": callers.done,
                "succeeded": callers.succeeded,
                "failed": callers.failed,
                "slowest_seconds": callers.slowest_seconds,
            },
        }

    async def run(self) -> None:
        """Run every process to its end.

        Raises:
            DemoError: if one of them ended early.
        """
        with TemporaryDirectory(prefix="simplestore-demo-") as directory:
            all_ready = asyncio.Barrier(self.plan.processes)
            async with self.sandbox:
                try:
                    async with asyncio.TaskGroup() as group:
                        for number in range(self.plan.processes):
                            share = Share(plan=self.plan, number=number, directory=directory)
                            group.create_task(self._run_process(share, all_ready))
                except ExceptionGroup as errors:
                    raise errors.exceptions[0] from None

    async def _run_process(self, share: Share, all_ready: asyncio.Barrier) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "simplestore_async.cli._demo_worker"),
            env=os.environ | self.sandbox.environment,
            **_APART,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        stdin, stdout = cast("asyncio.StreamWriter", process.stdin), cast("asyncio.StreamReader", process.stdout)
        try:
            stdin.write(f"{json.dumps(unstructure(share))}\n".encode())
            await stdout.readline()
            await all_ready.wait()
            self._began_at = self._began_at or self._now()
            stdin.write(b"go\n")
            while line := await stdout.readline():
                self._take(share.number, structure(json.loads(line), Report))
            if await process.wait():
                raise DemoError(f"process {share.number + 1} ended with exit code {process.returncode}")
        finally:
            if process.returncode is None:
                process.kill()
            # Both ends, then the process: its transport must not outlive the event loop.
            stdin.close()
            with suppress(ConnectionError):
                await stdin.wait_closed()
            await stdout.read()
            await process.wait()

    def _take(self, number: int, report: Report) -> None:
        self._reports[number] = report
        if report.news:
            self._add_news(f"process {number + 1}: {report.news}")
        if report.has_token and not self._has_armed_outage:
            self._has_armed_outage = True
            self.sandbox.fail_for(_OUTAGE_SECONDS)
        callers = self.callers
        if callers.done == self.plan.requests and not self._ended_at:
            self._ended_at = self._now()
        # A process backs off after a failure; its callers would get the 401.
        is_outage_over = callers.has_recovered and not callers.is_in_outage
        if is_outage_over and not self.has_revoked and callers.done >= self.plan.requests * _REVOCATION_AT:
            self.has_revoked = True
            self.sandbox.revoke_all()
            self.sandbox.fail_next(2)
            self._add_news("all tokens revoked; the token endpoint will respond 503 twice")

    def _add_news(self, text: str) -> None:
        self.news.append((self.elapsed_seconds, as_line(text)))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
