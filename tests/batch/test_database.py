"""Continuing a batch, identity checks and durability: `simplestore_async.batch.BatchDatabase`."""

from __future__ import annotations

import asyncio
import io
import os
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from simplestore_async.batch import BatchDatabase, BatchPolicy, read_results
from simplestore_async.errors import BatchDatabaseError, BatchFileError, ConfigurationError
from simplestore_async.sandbox import Late, Reset, Status
from tests.support.batches import QUICK, Runner, make_line, positive, write_lines, write_requests
from tests.support.command import TIMEOUT_SECONDS
from tests.support.platforms import needs_linux, needs_posix_files, needs_proc

if TYPE_CHECKING:
    from simplestore_async.batch import BatchResult
    from tests.support.servers import ApiServer

LINES = [make_line(n, "POST" if n % 2 else "GET") for n in range(1, 13)]
POSTS = [make_line(n, "POST") for n in range(1, 201)]


async def test_continue(runner: Runner) -> None:
    """A stopped batch continues: each request is sent once, and the results file has each result once."""
    stop = asyncio.Event()

    def stop_at_fifth(result: BatchResult) -> None:
        if result.line == 5:
            stop.set()

    summary = await runner.run_file(POSTS, on_result=stop_at_fifth, stop=stop)
    assert summary.is_stopped
    assert 5 <= summary.done < 200
    assert 200 - summary.done == summary.remaining

    assert {"succeeded": 200} == positive(await runner.run_file(POSTS))
    assert 200 == runner.sandbox.counters.api_requests
    assert list(range(1, 201)) == [result["line"] for result in runner.stored]
    assert 0 == (await runner.run_file(POSTS)).sent


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:99])])
async def test_results_are_restored(runner: Runner, damage: Any) -> None:
    """The next run restores a lost or truncated results file; `read_results` returns all results."""
    await runner.run_file(LINES)
    expected = runner.stored
    damage(runner.directory / "results")
    await runner.run_file(LINES)
    assert expected == runner.stored
    assert 12 == len([*read_results(runner.directory / "batch")])


async def test_begun_before_sent(runner: Runner, api_server: ApiServer) -> None:
    """An unsafe request is on the disk as begun before it arrives."""
    states: list[str] = []
    directory = runner.directory

    async def handle(_: web.Request) -> web.StreamResponse:
        for suffix in "", "-wal":  # as a crash would leave them
            (directory / f"copy{suffix}").write_bytes((directory / f"batch{suffix}").read_bytes())
        with closing(sqlite3.connect(directory / "copy")) as connection:
            states.extend(state for (state,) in connection.execute("SELECT state FROM requests WHERE line = 1"))
        return web.Response()

    api_server.handler = handle
    await runner.run_file([make_line(1, "POST")], base_url=f"{api_server.url}/")
    assert ["begun"] == states


async def test_cancelled(runner: Runner) -> None:
    """A second cancellation ends a batch at once: unsafe requests in flight are unknown, the rest is not begun."""
    runner.sandbox.api.fail_next(4, Late(3_600))
    running = asyncio.create_task(runner.run_file(LINES))
    await runner.requests_arrive(4)
    running.cancel()
    await asyncio.sleep(0.05)  # so that the grace has begun
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with runner.open(LINES) as database:
        assert (2, 10) == (database.summary().counts["unknown"], database.summary().remaining)

    assert {"succeeded": 10, "unknown": 2} == positive(await runner.run_file(LINES))
    assert 4 + 10 == runner.sandbox.counters.api_requests
    resend = BatchPolicy(resend=frozenset({"unknown"}))
    assert {"succeeded": 12} == positive(await runner.run_file(LINES, policy=resend))
    assert 4 + 12 == runner.sandbox.counters.api_requests
    assert 12 == len(runner.stored)


async def test_interrupted(runner: Runner) -> None:
    """A request begun by an earlier run is unknown; with an idempotency key it is resent."""
    for policy, outcome in (QUICK, "unknown"), (BatchPolicy(idempotency_key="Idempotency-Key"), "succeeded"):
        (runner.directory / "batch").unlink(missing_ok=True)
        (runner.directory / "results").unlink(missing_ok=True)
        with runner.open(LINES[:1], idempotency_key=policy.idempotency_key) as database:
            database.commit([(1, "begun", None, None, 0.0, None, None)])
        summary = await runner.run_file(LINES[:1], policy=policy)
        assert ({outcome: 1}, 1) == (positive(summary), len(runner.stored))
    assert 1 == runner.sandbox.counters.api_requests


async def test_grace(runner: Runner) -> None:
    """A stopped batch waits for requests in flight, at most for the grace period, and not for pauses."""
    lines = [make_line(1, "POST"), make_line(2, "POST"), make_line(3), make_line(4, "POST")]
    runner.sandbox.api.fail_next(1, Late(3_600))
    runner.sandbox.api.fail_next(1, Status(429, retry_after=500))
    stop = asyncio.Event()
    policy = BatchPolicy(concurrency=2, grace_seconds=0.2)
    running = asyncio.create_task(runner.run_file(lines, policy=policy, stop=stop))
    await runner.has_paused.wait()
    stop.set()
    summary = await running
    assert (True, 3, {"unknown": 1}) == (summary.is_stopped, summary.remaining, positive(summary))


async def test_stopped_while_retrying(runner: Runner) -> None:
    """A request in backoff is left for the next run."""
    runner.sandbox.api.fail_next(1, Reset())
    stop = asyncio.Event()
    running = asyncio.create_task(runner.run_file([make_line(1)], policy=BatchPolicy(backoff_seconds=3_600), stop=stop))
    await runner.requests_arrive(1)
    stop.set()
    assert 1 == (await running).remaining
    assert not (runner.directory / "batch").exists()


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"base_url": "http://127.0.0.1:2/"}, ConfigurationError, "base_url"),
        ({"client_id": "other"}, ConfigurationError, "client_id"),
        ({"idempotency_key": "Key"}, ConfigurationError, "idempotency_key"),
        ({"lines": [make_line(1, "POST", json=2)]}, BatchFileError, "has changed since"),
    ],
    ids=str,
)
async def test_identity(runner: Runner, changes: dict[str, Any], error: type[Exception], says: str) -> None:
    """Another base URL, client, idempotency key or content is refused; `is_restarted` begins a new batch."""
    await runner.run_file([make_line(1, "POST")])
    lines = changes.pop("lines", [make_line(1, "POST")])
    with pytest.raises(error, match=says):
        runner.open(lines, **changes)
    with runner.open(lines, is_restarted=True, **changes) as database:
        assert 1 == database.summary().remaining


async def test_nothing_begun(runner: Runner) -> None:
    """A run that began no request does not prevent a batch of another content."""
    runner.open([make_line(1)]).close()
    assert not (runner.directory / "batch").exists()
    with runner.open([make_line(1)]) as database:
        left = (runner.directory / "batch").read_bytes(), (runner.directory / "batch-wal").read_bytes()
    (runner.directory / "batch").write_bytes(left[0])  # as a kill leaves it
    (runner.directory / "batch-wal").write_bytes(left[1])
    with runner.open([make_line(2)]) as database:
        assert 1 == database.summary().remaining


def test_in_use(runner: Runner) -> None:
    """A database in use is refused to a second run and to `read_results`; both may retry."""
    with runner.open([make_line(1)]):
        for use in lambda: runner.open([make_line(1)]), lambda: next(read_results(runner.directory / "batch")):
            with pytest.raises(BatchDatabaseError) as caught:
                use()
            assert ("batch-in-use", True) == (caught.value.code, caught.value.retryable)


@pytest.mark.parametrize("kind", ["text", "database", "directory"])
def test_other_file(runner: Runner, kind: str) -> None:
    """A file that is no batch database is left unchanged."""
    path = runner.directory / "batch"
    if kind == "text":
        path.write_text("mine" * 1_000)
    elif kind == "database":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE mine (x)")
    else:
        path.mkdir()
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(BatchDatabaseError):
        runner.open([make_line(1)])
    assert before == (path.read_bytes() if path.is_file() else None)


def test_results_file_in_use(runner: Runner) -> None:
    """Results never overwrite another file, the input or the database."""
    (runner.directory / "results").write_text("mine")
    with pytest.raises(ConfigurationError, match="not empty"):
        runner.open([make_line(1)])
    assert "mine" == (runner.directory / "results").read_text()
    requests = write_requests(runner.directory, [make_line(1)])
    for path in requests.path, runner.directory / "other":
        with pytest.raises(ConfigurationError, match="the input, or the database"):
            BatchDatabase(runner.directory / "other", requests=requests, results=path)


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_results_of_another_name(runner: Runner, *, is_restarted: bool) -> None:
    """A later run may name an empty or a missing file for the results, and overwrites no other."""
    lines = [make_line(1), make_line(2)]
    with runner.open(lines) as database:
        await runner.run(database.requests, database=database)
    other = runner.directory / "other"
    other.write_text("mine")
    with pytest.raises(ConfigurationError, match="not empty"):
        BatchDatabase(database.path, requests=database.requests, results=other, is_restarted=is_restarted)
    assert "mine" == other.read_text()
    other.write_text("")
    with BatchDatabase(database.path, requests=database.requests, results=other, is_restarted=is_restarted) as again:
        await runner.run(again.requests, database=again)
    assert 2 == len(other.read_text().splitlines())


@needs_posix_files
async def test_restart_into_a_device(runner: Runner) -> None:
    """A restart may write its results to something that is no regular file."""
    for is_restarted in False, True:
        requests = write_requests(runner.directory, [make_line(1)], base_url=runner.sandbox.base_url)
        with BatchDatabase(
            runner.directory / "batch", requests=requests, results="/dev/null", is_restarted=is_restarted
        ) as database:
            await runner.run(requests, database=database)
            assert 1 == database.summary().counts["succeeded"]


@needs_linux
async def test_name_that_is_no_text(runner: Runner) -> None:
    """Files may have names that are not UTF-8."""
    requests = write_requests(runner.directory, [make_line(1)], base_url=runner.sandbox.base_url)
    path, results = (runner.directory / os.fsdecode(name) for name in (b"batch\xff", b"results\xff"))
    for _ in range(2):
        with BatchDatabase(path, requests=requests, results=results) as database:
            await runner.run(requests, database=database)
    assert [*read_results(path)] == results.read_bytes().splitlines(keepends=True)


async def test_restart_without_a_request(runner: Runner) -> None:
    """A restart keeps the earlier batch and its results until it records its first request."""
    lines = [make_line(1), make_line(2)]
    with runner.open(lines) as database:
        await runner.run(database.requests, database=database)
    results = runner.directory / "results"
    before = results.read_bytes()
    unwritable: Any = 1, None, None, None, None, None, None
    with runner.open(lines, is_restarted=True) as again:
        assert 2 == again.summary().remaining
        with pytest.raises(BatchDatabaseError):
            again.commit([unwritable])
    assert before == results.read_bytes()
    assert sorted(before.splitlines(keepends=True)) == sorted(read_results(database.path))
    with runner.open(lines, is_restarted=True) as again:
        await runner.run(again.requests, database=again)
        assert 0 == again.summary().remaining
    assert before != results.read_bytes()
    assert 2 == len(results.read_bytes().splitlines())
    assert 4 == runner.sandbox.counters.api_requests


async def test_changed_file(runner: Runner) -> None:
    """A file truncated during the run is an error, raised after the requests in flight have ended."""
    requests = write_requests(
        runner.directory, [make_line(n, "POST") for n in range(1, 1_001)], base_url=runner.sandbox.base_url
    )

    def cut(_: object) -> None:
        write_lines(requests.path, [make_line(n, "POST") for n in range(1, 201)])

    with BatchDatabase(runner.directory / "batch", requests=requests) as database:
        with pytest.raises(BatchFileError, match="changed"):
            await runner.run(requests, database=database, on_result=cut)
        assert 0 == database.summary().counts["unknown"]
        assert database.summary().remaining == 1_000 - runner.sandbox.counters.api_requests > 0


async def test_other_requests(runner: Runner) -> None:
    """Requests other than the RequestFile of the database are refused."""
    with runner.open([make_line(1)]) as database, pytest.raises(ConfigurationError, match="requests"):
        await runner.run([*database.requests], database=database)


@needs_proc
async def test_results_on_full_disk(runner: Runner) -> None:
    """A full disk under the results file ends the batch; every sent request is recorded."""
    requests = write_requests(
        runner.directory, [make_line(n, "POST") for n in range(1, 2_001)], base_url=runner.sandbox.base_url
    )
    with BatchDatabase(runner.directory / "batch", requests=requests, results="/dev/full") as database:
        with pytest.raises(OSError, match="No space left"):
            await runner.run(requests, database=database)
        sent = runner.sandbox.counters.api_requests
        assert sent <= database.summary().done <= sent + QUICK.concurrency


async def test_slow_disk(runner: Runner) -> None:
    """While a write blocks, the event loop runs on."""
    is_writing, may_end, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()

    class SlowFile(io.BytesIO):
        def write(self, data: Any) -> int:
            loop.call_soon_threadsafe(is_writing.set)
            assert may_end.wait(TIMEOUT_SECONDS)
            return super().write(data)

    requests = write_requests(runner.directory, LINES, base_url=runner.sandbox.base_url)
    with BatchDatabase(runner.directory / "batch", requests=requests, results=SlowFile()) as database:
        batch = asyncio.create_task(runner.run(requests, database=database))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await is_writing.wait()
            may_end.set()
            assert {"succeeded": 12} == positive(await batch)


async def test_key_order(runner: Runner, api_server: ApiServer) -> None:
    """Requests of one key are sent in order, one at a time, and do not block other keys."""
    arrived: list[int] = []
    in_flight: set[str] = set()

    async def handle(request: web.Request) -> web.StreamResponse:
        number = int(request.path.rpartition("/")[2])
        key = str(number % 3)
        assert key not in in_flight
        in_flight.add(key)
        arrived.append(number)
        await asyncio.sleep(0.001 * (number % 5))  # so that a later one could overtake
        in_flight.remove(key)
        return web.Response()

    api_server.handler = handle
    lines = [make_line(n, "POST", key=str(n % 3)) for n in range(1, 61)]
    summary = await runner.run_file(lines, base_url=f"{api_server.url}/", policy=BatchPolicy(concurrency=10))
    assert 60 == summary.counts["succeeded"]
    for key in range(3):
        assert [n for n in range(1, 61) if n % 3 == key] == [n for n in arrived if n % 3 == key]
