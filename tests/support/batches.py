"""Request files, results and runners of batches."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from simplestore_async import open_session
from simplestore_async.batch import BatchDatabase, BatchPolicy, BatchRequest, RequestFile, run_batch
from tests.support.command import simplestore, start_simplestore

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable, Sequence
    from pathlib import Path

    from simplestore_async.batch import BatchResult, BatchSummary, Outcome
    from simplestore_async.sandbox import Sandbox
    from tests.support.command import Outcome as CommandOutcome
    from tests.support.command import Process

BASE_URL: Final = "http://127.0.0.1:1/api/"
QUICK: Final = BatchPolicy(concurrency=4, backoff_seconds=0.01)


def make_line(number: int, method: str = "GET", **changes: Any) -> dict[str, Any]:
    body = {} if method in {"GET", "HEAD", "OPTIONS", "DELETE"} else {"json": {"number": number}}
    return {"id": number, "method": method, "path": f"orders/{number}"} | body | changes


def write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    return path


def write_requests(directory: Path, lines: Iterable[dict[str, Any]], *, base_url: str = BASE_URL) -> RequestFile:
    """Write a file of requests and open it."""
    return RequestFile(write_lines(directory / "orders.jsonl", lines), base_url=base_url)


def read_results(path: Path) -> list[dict[str, Any]]:
    """Return the results in a file, all of which must be complete."""
    text = path.read_text("utf-8")
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def requests_of(*methods: str) -> list[BatchRequest]:
    return [BatchRequest(id=n, line=n, method=method, path=f"orders/{n}") for n, method in enumerate(methods, 1)]


async def requests_arrive(sandbox: Sandbox, count: int) -> None:
    async with asyncio.timeout(60):
        while sandbox.counters.api_requests < count:
            await asyncio.sleep(0.005)  # a sandbox sets no event


class Directory:
    """A directory with a file of requests, and `simplestore batch` in it."""

    def __init__(self, path: Path, sandbox: Sandbox) -> None:
        self.file = path / "orders.jsonl"
        self.database = path / "orders.jsonl.batch"
        self.results = path / "results.jsonl"
        self.sandbox = sandbox

    def write(self, *methods: str) -> None:
        write_lines(self.file, (make_line(n, method) for n, method in enumerate(methods, 1)))

    @property
    def command(self) -> list[str]:
        return ["batch", str(self.file), "-o", str(self.results)]

    async def run(self, *options: str, **environment: str) -> CommandOutcome:
        return await simplestore(*self.command, *options, environment=self.sandbox.environment | environment)

    async def start(self, *options: str) -> Process:
        return await start_simplestore(*self.command, *options, environment=self.sandbox.environment)

    async def start_on_stdout(self, stdout: int | None = None) -> Process:
        """Start it without a file for the results."""
        arguments = "batch", str(self.file)
        return await start_simplestore(*arguments, environment=self.sandbox.environment, stdout=stdout)

    async def requests_arrive(self, count: int) -> None:
        await requests_arrive(self.sandbox, count)

    @property
    def lines(self) -> list[int]:
        """The lines with a result, in order."""
        return sorted(result["line"] for result in read_results(self.results))


class Runner:
    """Run batches against a sandbox and record their results and pauses."""

    def __init__(self, sandbox: Sandbox, directory: Path) -> None:
        self.sandbox = sandbox
        self.directory = directory
        self.results: list[BatchResult] = []
        self.pauses: list[tuple[str, float]] = []
        self.has_paused = asyncio.Event()

    async def run(
        self,
        requests: Iterable[BatchRequest] | AsyncIterable[BatchRequest],
        *,
        policy: BatchPolicy = QUICK,
        base_url: str = "",
        **changes: Any,
    ) -> BatchSummary:
        """Run one batch with a new session."""
        options = {"on_result": self.results.append, "on_pause": self._pause} | changes
        async with open_session(self.sandbox.credentials, base_url=base_url or self.sandbox.base_url) as session:
            return await run_batch(requests, session=session, policy=policy, **options)

    async def run_file(
        self, lines: Sequence[dict[str, Any]], *, policy: BatchPolicy = QUICK, base_url: str = "", **changes: Any
    ) -> BatchSummary:
        """Start or resume the batch of a file."""
        with self.open(lines, base_url=base_url, idempotency_key=policy.idempotency_key) as database:
            return await self.run(database.requests, database=database, policy=policy, base_url=base_url, **changes)

    def open(self, lines: Sequence[dict[str, Any]], *, base_url: str = "", **options: Any) -> BatchDatabase:
        requests = write_requests(self.directory, lines, base_url=base_url or self.sandbox.base_url)
        return BatchDatabase(self.directory / "batch", requests=requests, results=self.directory / "results", **options)

    async def requests_arrive(self, count: int) -> None:
        await requests_arrive(self.sandbox, count)

    def _pause(self, reason: str, seconds: float) -> None:
        self.pauses.append((reason, seconds))
        self.has_paused.set()

    @property
    def stored(self) -> list[dict[str, Any]]:
        """The results in the file, by line."""
        return sorted(read_results(self.directory / "results"), key=lambda result: int(result["line"]))

    @property
    def statuses(self) -> list[int | None]:
        """The statuses of the API's responses."""
        return [request.status for request in self.sandbox.api.requests]

    def outcomes(self) -> dict[int, Outcome]:
        return {result.line: result.outcome for result in self.results}


def positive(summary: BatchSummary) -> dict[str, int]:
    return {outcome: count for outcome, count in summary.counts.items() if count}
