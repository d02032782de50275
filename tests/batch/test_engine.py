"""Batches as a program runs them: `simplestore_async.batch.run_batch`, against real servers."""

from __future__ import annotations

import asyncio
import base64
import re
import sys
import threading
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from yarl import URL

from simplestore_async import open_session
from simplestore_async.batch import BatchPolicy, BatchRequest, BatchResult, BatchSummary, Journal, run_batch
from simplestore_async.errors import (
    BatchError,
    BatchFileError,
    ConfigurationError,
    InvalidClientError,
    JournalError,
    TokenEndpointError,
)
from simplestore_async.sandbox import Late, Reset, Sandbox, Status, Truncated
from tests.support.api_servers import private_ca, refusing_url
from tests.support.batches import make_line, read_results, write_requests
from tests.support.servers import ApiServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from simplestore_async.batch import Outcome

QUICK = BatchPolicy(concurrency=4, backoff_seconds=0.01)
NONE: dict[Outcome, int] = {"succeeded": 0, "refused": 0, "failed": 0, "unknown": 0}


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


def requests_of(*methods: str) -> list[BatchRequest]:
    return [BatchRequest(id=n, line=n, method=method, path=f"orders/{n}") for n, method in enumerate(methods, 1)]


class Runner:
    """Run batches, and keep what they tell."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.results: list[BatchResult] = []
        self.pauses: list[tuple[str, float]] = []

    async def run(
        self, requests: Iterable[BatchRequest], *, policy: BatchPolicy = QUICK, base_url: str = "", **changes: Any
    ) -> BatchSummary:
        """Run one with a session of its own."""
        async with open_session(
            self.sandbox.credentials,
            base_url=base_url or self.sandbox.base_url,
        ) as session:
            return await run_batch(
                requests,
                session=session,
                policy=policy,
                on_result=self.results.append,
                on_pause=lambda *pause: self.pauses.append(pause),
                **changes,
            )

    @property
    def statuses(self) -> list[int | None]:
        """What the API answered."""
        return [request.status for request in self.sandbox.api.requests]

    def outcomes(self) -> dict[int, Outcome]:
        return {result.line: result.outcome for result in self.results}


@pytest.fixture
def runner(sandbox: Sandbox) -> Runner:
    return Runner(sandbox)


class TestAnswers:
    async def test_all(self, runner: Runner) -> None:
        """Every request is sent, with the token, and has its result; there is no more than one token request."""
        summary = await runner.run(requests_of(*["GET", "POST", "PUT", "DELETE"] * 25), policy=BatchPolicy())

        assert BatchSummary(counts=NONE | {"succeeded": 100}, remaining=None, is_stopped=False) == summary
        assert 100 == summary.done
        assert set(range(1, 101)) == {result.line for result in runner.results}
        assert (1, 100) == (runner.sandbox.counters.token_requests, runner.sandbox.counters.api_requests)

    async def test_nothing(self, runner: Runner) -> None:
        """Nothing to send is sent at once."""
        assert 0 == (await runner.run([])).done

    async def test_what_is_sent(self, runner: Runner) -> None:
        """Method, path, headers and body are those of the request; without a body there is no content type."""
        headers = ("X-One", "1"), ("Content-Type", "text/csv")
        await runner.run(
            [
                BatchRequest(id=1, line=1, method="PATCH", path="//a:b?c=d e", headers=headers, body=b"x,y"),
                BatchRequest(id=2, line=2, method="POST", path=f"{runner.sandbox.base_url}z", body=b""),
            ],
            policy=BatchPolicy(concurrency=1),
        )
        first, second = (result.body for result in runner.results)
        assert ("PATCH", "/api/a:b", {"c": "d e"}, "x,y") == (
            first["method"],
            first["path"],
            first["query"],
            first["body"],
        )
        assert ("1", "text/csv") == (first["headers"]["X-One"], first["headers"]["Content-Type"])
        assert ("/api/z", False) == (second["path"], "Content-Type" in second["headers"])

    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            ({"json": {"é": [1]}}, ({"é": [1]}, "json")),
            ({"text": "[1]", "content_type": "application/problem+json"}, ([1], "json")),
            ({"text": "[1", "content_type": "application/json"}, ("[1", "text")),
            ({"text": "NaN", "content_type": "application/json"}, ("NaN", "text")),
            ({"text": "[1]"}, ("[1]", "text")),
            ({"body": b"\xff\x00"}, (base64.b64encode(b"\xff\x00").decode(), "base64")),
            ({}, (None, None)),
        ],
        ids=str,
    )
    async def test_body(
        self, runner: Runner, api_server: ApiServer, answer: dict[str, Any], expected: tuple[object, str | None]
    ) -> None:
        """A body is JSON if it says so and is, else text, else base64."""

        async def handle(_: web.Request) -> web.StreamResponse:
            if "json" in answer:
                return web.json_response(answer["json"], headers={"Location": "/orders/7"}, status=201)
            return web.Response(headers={"Location": "/orders/7"}, status=201, **answer)

        api_server.handler = handle
        await runner.run(requests_of("POST"), base_url=api_server.url)
        (result,) = runner.results
        assert expected == (result.body, result.body_format)
        assert (201, "/orders/7", "succeeded", 1) == (result.status, result.location, result.outcome, result.attempts)
        assert result.duration_seconds > 0

    async def test_streamed_body(self, runner: Runner, api_server: ApiServer) -> None:
        """A body that comes in parts is put together."""

        async def handle(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "text/plain"})
            await response.prepare(request)
            for part in b"one, ", b"two":
                await response.write(part)
            return response

        api_server.handler = handle
        await runner.run(requests_of("GET"), base_url=api_server.url)
        assert ["one, two"] == [result.body for result in runner.results]

    async def test_endless_body(self, runner: Runner, api_server: ApiServer) -> None:
        """A body that is too long is left out; the request has been answered all the same."""

        async def handle(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            while True:
                await response.write(bytes(1 << 20))

        api_server.handler = handle
        await runner.run(requests_of("POST"), base_url=api_server.url)
        (result,) = runner.results
        assert (200, "succeeded", None) == (result.status, result.outcome, result.body)
        assert "the answer's body is longer than 16 MiB and was left out" == result.error_message

    @pytest.mark.parametrize("status", [301, 400, 404, 409])
    async def test_refused(self, runner: Runner, api_server: ApiServer, status: int) -> None:
        """Any other answer is a result; redirects are not followed."""

        async def handle(_: web.Request) -> web.StreamResponse:
            return web.Response(status=status, headers={"Location": "/elsewhere"})

        api_server.handler = handle
        await runner.run(requests_of("GET", "POST"), base_url=api_server.url)
        assert [("refused", status, 1)] * 2 == [(each.outcome, each.status, each.attempts) for each in runner.results]
        assert 2 == len(api_server.requests)

    async def test_raise_for_status(self, sandbox: Sandbox) -> None:
        """A session that raises for a status does not do so here."""
        sandbox.api.fail_next(1, Status(404))
        async with open_session(sandbox.credentials, base_url=sandbox.base_url, raise_for_status=True) as session:
            summary = await run_batch(requests_of("GET"), session=session)
        assert 1 == summary.counts["refused"]

    async def test_rejected_token(self, runner: Runner) -> None:
        """A token that is rejected is replaced, and the request sent again, whatever its method."""
        runner.sandbox.reject_next(1)
        await runner.run(requests_of("POST"))
        assert [401, 200] == runner.statuses
        assert {1: "succeeded"} == runner.outcomes()


class TestAgain:
    @pytest.mark.parametrize("fault", [Status(500), Status(503), Status(408), Reset(), Truncated()], ids=repr)
    async def test_safe(self, runner: Runner, fault: Any) -> None:
        """What only reads is sent until an answer comes, four times at most."""
        runner.sandbox.api.fail_next(3, fault)
        await runner.run(requests_of("GET"))
        assert [("succeeded", 200, 4)] == [(each.outcome, each.status, each.attempts) for each in runner.results]

        runner.sandbox.api.fail_next(4, fault)
        await runner.run(requests_of("GET"))
        outcome = "refused" if isinstance(fault, Status) else "failed"
        assert (outcome, 4) == (runner.results[1].outcome, runner.results[1].attempts)
        assert 8 == runner.sandbox.counters.api_requests

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
    @pytest.mark.parametrize("fault", [Reset(), Truncated()], ids=repr)
    async def test_unsafe(self, runner: Runner, method: str, fault: Any) -> None:
        """What may have changed something is not sent again, by aiohttp neither; nobody knows its outcome."""
        runner.sandbox.api.fail_next(1, fault)
        await runner.run(requests_of(method))
        (result,) = runner.results
        assert ("unknown", None, 1) == (result.outcome, result.status, result.attempts)
        assert result.error_type
        assert result.error_message
        assert 1 == len(runner.statuses)

    @pytest.mark.parametrize("status", [408, 500, 503])
    async def test_unsafe_status(self, runner: Runner, status: int) -> None:
        """An answer to it is a result, even one that may pass."""
        runner.sandbox.api.fail_next(1, Status(status))
        await runner.run(requests_of("POST"))
        assert {1: "refused"} == runner.outcomes()
        assert [status] == runner.statuses

    @pytest.mark.parametrize(("method", "expected"), [("GET", ("failed", 2)), ("POST", ("unknown", 1))])
    async def test_late(self, runner: Runner, method: str, expected: tuple[str, int]) -> None:
        """An answer that does not come in time is none."""
        runner.sandbox.api.fail_next(2, Late(60))
        await runner.run(requests_of(method), policy=BatchPolicy(timeout_seconds=0.2, attempts=2, backoff_seconds=0.01))
        (result,) = runner.results
        assert (*expected, "no complete answer within 0.2 s") == (result.outcome, result.attempts, result.error_message)

    async def test_session_is_as_before(self, sandbox: Sandbox) -> None:
        """A session's own retries are off for as long as the batch."""
        async with open_session(sandbox.credentials, base_url=sandbox.base_url) as session:
            await run_batch(requests_of("GET"), session=session)
            assert session._retry_connection


class TestPauses:
    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_put_off(self, runner: Runner, method: str) -> None:
        """429 puts off the whole batch, for as long as it asks; every request has its answer in the end."""
        runner.sandbox.api.fail_next(1, Status(429, retry_after=0.2))
        began_at = asyncio.get_running_loop().time()
        await runner.run(requests_of(*[method] * 3), policy=BatchPolicy(concurrency=1))

        assert asyncio.get_running_loop().time() - began_at >= 0.2
        assert [429, 200, 200, 200] == runner.statuses
        assert [2, 1, 1] == [result.attempts for result in runner.results]
        assert [("the API answers 429", 0.2)] == runner.pauses

    async def test_rate_limit(self, runner: Runner) -> None:
        """A rate limit costs time, and no request."""
        runner.sandbox.api.limit_rate(5, seconds=1)
        summary = await runner.run(requests_of(*["POST"] * 12), policy=BatchPolicy(concurrency=12))
        assert 12 == summary.counts["succeeded"]
        assert 12 == Counter(runner.statuses)[200]

    async def test_busy(self, runner: Runner) -> None:
        """So does Retry-After of a 503; one that changes something has its answer, the others wait."""
        runner.sandbox.api.fail_next(1, Status(503, retry_after=0.2))
        await runner.run(requests_of("POST", "POST"), policy=BatchPolicy(concurrency=1))
        assert {1: "refused", 2: "succeeded"} == runner.outcomes()
        assert [("the API answers 503", 0.2)] == runner.pauses

    @pytest.mark.parametrize(("status", "method"), [(429, "GET"), (429, "POST"), (503, "GET"), (503, "POST")])
    async def test_too_long(self, runner: Runner, tmp_path: Path, status: int, method: str) -> None:
        """A Retry-After beyond all patience ends the batch; what was answered for good is told."""
        runner.sandbox.api.fail_next(1, Status(status, retry_after=601))
        file = write_requests(tmp_path, [make_line(1, method), make_line(2)], base_url=runner.sandbox.base_url)
        with Journal(tmp_path / "journal", requests=file) as journal:
            with pytest.raises(BatchError, match=r"to be left alone for 601 s \(Retry-After\).*longer than 600 s"):
                await runner.run(file, policy=BatchPolicy(concurrency=1), journal=journal)
            has_answer = (status, method) == (503, "POST")
            assert 2 - has_answer == journal.remaining
            assert not journal.may_have_been_sent(1)

    async def test_put_off_for_ever(self, runner: Runner) -> None:
        """An answer that is 429 for longer than patience lasts is the request's result."""
        runner.sandbox.api.fail_for(3_600, Status(429, retry_after=0.05))
        await runner.run(requests_of("POST"), policy=BatchPolicy(patience_seconds=0.2))
        (result,) = runner.results
        assert ("refused", 429) == (result.outcome, result.status)
        assert result.attempts > 1

    async def test_rate(self, runner: Runner) -> None:
        """`rate` spreads the requests."""
        began_at = asyncio.get_running_loop().time()
        await runner.run(requests_of(*["GET"] * 6), policy=BatchPolicy(rate=20))
        assert asyncio.get_running_loop().time() - began_at >= 0.25


class TestOutages:
    async def test_token_endpoint(self, runner: Runner) -> None:
        """While no token can be had everybody waits; nothing is sent without, and nothing is lost."""
        runner.sandbox.fail_next(4, Status(503, retry_after=0))
        summary = await runner.run(requests_of(*["POST"] * 8))
        assert 8 == summary.counts["succeeded"]
        assert [200] * 8 == runner.statuses
        assert {1} == {result.attempts for result in runner.results}
        assert "503" in runner.pauses[0][0]

    @pytest.mark.parametrize("patience_seconds", [0.001, 600])
    async def test_refused_credentials(self, runner: Runner, tmp_path: Path, patience_seconds: float) -> None:
        """Credentials that are refused end the batch at once, with the one error; nothing was begun."""
        file = write_requests(tmp_path, [make_line(n, "POST") for n in range(1, 51)], base_url=runner.sandbox.base_url)
        credentials = runner.sandbox.credentials
        runner.sandbox.rotate_secret(credentials.client_id, new_secret="another")
        with Journal(tmp_path / "journal", requests=file) as journal:
            async with open_session(credentials, base_url=runner.sandbox.base_url) as session:
                policy = BatchPolicy(patience_seconds=patience_seconds)
                with pytest.raises(InvalidClientError, match="Control Panel"):
                    await run_batch(file, session=session, journal=journal, policy=policy)
            assert 50 == journal.remaining
            assert not any(map(journal.may_have_been_sent, range(1, 51)))
        assert [] == runner.statuses

    async def test_no_patience(self, runner: Runner) -> None:
        """An outage that outlasts patience ends the batch with its error."""
        runner.sandbox.fail_for(3_600, Status(400))
        runner.sandbox.fail_for(3_600)
        with pytest.raises(TokenEndpointError):
            await runner.run(requests_of("GET"), policy=BatchPolicy(patience_seconds=0.001))

    async def test_api(self, runner: Runner) -> None:
        """While the API cannot be reached everybody waits, too."""
        url = refusing_url()
        async with open_session(runner.sandbox.credentials, base_url=url) as session:
            is_waiting = asyncio.Event()
            running = asyncio.create_task(
                run_batch(requests_of("POST"), session=session, policy=QUICK, on_pause=lambda *_: is_waiting.set())
            )
            await is_waiting.wait()
            async with ApiServer() as server:
                server.handler = lambda request: asyncio.sleep(0, web.Response())
                site = web.TCPSite(server._runner, "127.0.0.1", URL(url).port)  # type: ignore[arg-type]  # it runs
                await site.start()
                assert 1 == (await running).counts["succeeded"]

    async def test_api_stays_away(self, runner: Runner) -> None:
        """If it does not come back the batch ends, and says why."""
        with pytest.raises(BatchError, match=r"the API cannot be reached: Cannot connect .*\. Nothing more was sent"):
            await runner.run(requests_of("POST"), base_url=refusing_url(), policy=BatchPolicy(patience_seconds=0.001))

    async def test_certificate(self, runner: Runner) -> None:
        """A certificate that is not trusted is not waited for."""
        async with ApiServer(ssl_context=private_ca().server) as server:
            with pytest.raises(BatchError, match="the API cannot be reached"):
                await runner.run(requests_of("POST"), base_url=server.url)


class TestJournal:
    """With a journal, through every way in which a batch may end."""

    @pytest.fixture
    def lines(self) -> list[dict[str, Any]]:
        return [make_line(n, "POST" if n % 2 else "GET") for n in range(1, 13)]

    async def test_resume(self, runner: Runner, tmp_path: Path, lines: list[dict[str, Any]]) -> None:
        """What was stopped goes on: each request is sent once, and the file has each result once."""
        file = write_requests(tmp_path, lines, base_url=runner.sandbox.base_url)
        stop = asyncio.Event()
        names = {"requests": file, "results": tmp_path / "results"}
        with Journal(tmp_path / "journal", **names) as journal:  # type: ignore[arg-type]  # as they are
            on_result = runner.results.append

            def count(result: BatchResult) -> None:
                on_result(result)
                if len(runner.results) == 5:
                    stop.set()

            async with open_session(runner.sandbox.credentials, base_url=runner.sandbox.base_url) as session:
                summary = await run_batch(
                    file, session=session, journal=journal, policy=QUICK, on_result=count, stop=stop
                )
            assert summary.is_stopped
            assert 5 <= summary.done < 12
            assert 12 - summary.done == summary.remaining
        with Journal(tmp_path / "journal", is_resumed=True, **names) as journal:  # type: ignore[arg-type]  # as they are
            assert BatchSummary(counts=NONE | {"succeeded": 12}, remaining=0, is_stopped=False) == await runner.run(
                file, journal=journal
            )
        assert 12 == runner.sandbox.counters.api_requests
        assert list(range(1, 13)) == sorted(result["line"] for result in read_results(tmp_path / "results"))

    async def test_cancelled(self, runner: Runner, tmp_path: Path, lines: list[dict[str, Any]]) -> None:
        """A batch that is cancelled ends at once; what it had begun and may have changed something is unknown then.

        With leave it is sent again.
        """
        file = write_requests(tmp_path, lines, base_url=runner.sandbox.base_url)
        runner.sandbox.api.fail_next(4, Late(3_600))
        with Journal(tmp_path / "journal", requests=file) as journal:
            running = asyncio.create_task(runner.run(file, journal=journal))
            while runner.sandbox.counters.api_requests < 4:
                await asyncio.sleep(0.01)  # neither sandbox nor pause sets an event
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        with Journal(tmp_path / "journal", requests=file, is_resumed=True) as journal:
            assert {"succeeded": 10, "unknown": 2} == _positive(await runner.run(file, journal=journal))
        unknown = [result for result in runner.results if result.outcome == "unknown"]
        assert {("InterruptedError", 0)} == {(result.error_type, result.attempts) for result in unknown}
        assert 4 + 10 == runner.sandbox.counters.api_requests

        with Journal(tmp_path / "journal", requests=file, is_resumed=True) as journal:
            assert {"succeeded": 10, "unknown": 2} == _positive(await runner.run(file, journal=journal))
            with_leave = BatchPolicy(has_leave_to_resend=True)
            assert {"succeeded": 12} == _positive(await runner.run(file, journal=journal, policy=with_leave))
        assert 4 + 12 == runner.sandbox.counters.api_requests

    async def test_resend_at_once(self, runner: Runner, tmp_path: Path) -> None:
        """With leave what was begun is sent again without being told as unknown first."""
        file = write_requests(tmp_path, [make_line(1, "POST")], base_url=runner.sandbox.base_url)
        with Journal(tmp_path / "journal", requests=file) as journal:
            journal.start()
            await journal.begin(next(iter(file)))
            await journal.settle()
            await runner.run(file, journal=journal, policy=BatchPolicy(has_leave_to_resend=True))
        assert {1: "succeeded"} == runner.outcomes()

    async def test_grace(self, runner: Runner, tmp_path: Path) -> None:
        """Who is asked to stop waits for what is under way, but not for ever, and not for pauses."""
        lines = [make_line(1, "POST"), make_line(2, "POST"), make_line(3), make_line(4, "POST")]
        file = write_requests(tmp_path, lines, base_url=runner.sandbox.base_url)
        runner.sandbox.api.fail_next(1, Late(3_600))
        runner.sandbox.api.fail_next(1, Status(429, retry_after=500))
        stop = asyncio.Event()
        policy = BatchPolicy(concurrency=2, grace_seconds=0.2)
        with Journal(tmp_path / "journal", requests=file) as journal:
            running = asyncio.create_task(runner.run(file, journal=journal, policy=policy, stop=stop))
            while not runner.pauses:
                await asyncio.sleep(0.01)  # neither sandbox nor pause sets an event
            stop.set()
            assert (await running).is_stopped
            assert 4 == journal.remaining
            assert 1 == sum(map(journal.may_have_been_sent, range(1, 5)))

    async def test_stopped_in_a_pause(self, runner: Runner, api_server: ApiServer, tmp_path: Path) -> None:
        """What was begun ahead, and never sent because of a pause, is as if it had never been begun."""
        file = write_requests(tmp_path, [make_line(n, "POST") for n in range(1, 9)], base_url=api_server.url)
        are_both_here, has_paused, stop = (asyncio.Event() for _ in range(3))
        loop, numbers = asyncio.get_running_loop(), count()

        async def handle(_: web.Request) -> web.StreamResponse:
            if next(numbers) == 0:
                await are_both_here.wait()
                return web.Response(status=429, headers={"Retry-After": "500"})
            are_both_here.set()
            await has_paused.wait()
            return web.Response()

        api_server.handler = handle
        async with open_session(runner.sandbox.credentials, base_url=api_server.url) as session:
            with Journal(tmp_path / "journal", requests=file) as journal:
                summary = await run_batch(
                    file,
                    session=session,
                    journal=journal,
                    policy=BatchPolicy(concurrency=2),
                    on_result=lambda _: loop.call_soon(stop.set),  # after the next one was taken
                    on_pause=lambda *_: has_paused.set(),
                    stop=stop,
                )
                assert [] == [*filter(journal.may_have_been_sent, range(1, 9))]
        assert BatchSummary(counts=NONE | {"succeeded": 1}, remaining=7, is_stopped=True) == summary
        assert 2 == len(api_server.requests)

    async def test_stopped_while_trying_again(self, runner: Runner, tmp_path: Path) -> None:
        """A request that waits for its next attempt is left for the next run."""
        file = write_requests(tmp_path, [make_line(1)], base_url=runner.sandbox.base_url)
        runner.sandbox.api.fail_next(1, Reset())
        stop = asyncio.Event()
        with Journal(tmp_path / "journal", requests=file) as journal:
            policy = BatchPolicy(backoff_seconds=3_600)
            running = asyncio.create_task(runner.run(file, journal=journal, policy=policy, stop=stop))
            while not runner.sandbox.counters.api_requests:
                await asyncio.sleep(0.01)  # neither sandbox nor pause sets an event
            stop.set()
            await running
            assert (1, False) == (journal.remaining, journal.may_have_been_sent(1))

    async def test_cancelled_before_it_was_sent(self, runner: Runner, tmp_path: Path) -> None:
        """Whoever is cancelled while a request is being noted has not sent it."""
        file = write_requests(tmp_path, [make_line(1, "POST")], base_url=runner.sandbox.base_url)
        with Journal(tmp_path / "journal", requests=file) as journal:
            is_writing, may_write = threading.Event(), threading.Event()
            append = journal._file.append

            def append_slowly(data: bytes) -> None:
                is_writing.set()
                may_write.wait()
                append(data)

            journal._file.append = append_slowly  # type: ignore[method-assign]  # a disk that takes its time
            running = asyncio.create_task(runner.run(file, journal=journal))
            await asyncio.to_thread(is_writing.wait)
            for _ in range(2):  # the second one comes while it waits for the disk
                running.cancel()
                await asyncio.sleep(0.05)  # so that the cancellation arrives before the disk does
            assert not running.done()
            may_write.set()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert (1, False) == (journal.remaining, journal.may_have_been_sent(1))
        assert 0 == runner.sandbox.counters.api_requests

    async def test_changed_file(self, runner: Runner, tmp_path: Path, lines: list[dict[str, Any]]) -> None:
        """A file that changes meanwhile ends the batch, which can say what it sent."""
        file = write_requests(tmp_path, lines, base_url=runner.sandbox.base_url)
        file.path.write_text("oops\n")
        with Journal(tmp_path / "journal", requests=file) as journal:
            with pytest.raises(BatchFileError, match="was changed"):
                await runner.run(file, journal=journal)
            assert 12 == journal.remaining

    async def test_own_requests(self, runner: Runner, tmp_path: Path, lines: list[dict[str, Any]]) -> None:
        """Any iterable will do beside a journal, as long as its lines are the file's."""
        file = write_requests(tmp_path, lines, base_url=runner.sandbox.base_url)
        with Journal(tmp_path / "journal", requests=file) as journal:
            await runner.run([request for request in file if request.line < 3], journal=journal)
            await runner.run(iter(file), journal=journal)
            assert 0 == journal.remaining
        assert 12 == runner.sandbox.counters.api_requests

    @pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
    async def test_full_disk(self, runner: Runner, tmp_path: Path) -> None:
        """Where results can no longer be written nothing more is sent."""
        lines = [make_line(number) for number in range(1, 2_001)]
        file = write_requests(tmp_path, lines, base_url=runner.sandbox.base_url)
        with (
            open("/dev/full", "wb", buffering=0) as full,  # noqa: ASYNC230, PTH123 - no file
            Journal(tmp_path / "journal", requests=file, results=full) as journal,
        ):
            with pytest.raises(JournalError, match="No space left on device"):
                await runner.run(file, journal=journal)
            assert 2_000 == journal.remaining
        assert runner.sandbox.counters.api_requests < 2_000


async def test_stopped_before_its_turn(runner: Runner, tmp_path: Path) -> None:
    """A request whose turn has not come is not begun, also not ahead."""
    file = write_requests(tmp_path, [make_line(1, "POST"), make_line(2, "POST")], base_url=runner.sandbox.base_url)
    stop = asyncio.Event()
    async with open_session(runner.sandbox.credentials, base_url=runner.sandbox.base_url) as session:
        with Journal(tmp_path / "journal", requests=file) as journal:
            summary = await run_batch(
                file,
                session=session,
                journal=journal,
                policy=BatchPolicy(rate=0.001),
                on_result=lambda _: stop.set(),
                stop=stop,
            )
    assert BatchSummary(counts=NONE | {"succeeded": 1}, remaining=1, is_stopped=True) == summary
    assert [200] == runner.statuses
    assert b'"begun":[1]' in (tmp_path / "journal").read_bytes()
    assert not re.search(rb'"begun":\[[^]]*2', (tmp_path / "journal").read_bytes())


async def test_callback_raises(runner: Runner) -> None:
    """What a callback raises ends the batch, and comes out of it."""

    def fail(_: BatchResult) -> None:
        raise KeyError("mine")

    async with open_session(runner.sandbox.credentials, base_url=runner.sandbox.base_url) as session:
        with pytest.raises(KeyError, match="mine"):
            await run_batch(requests_of(*["GET"] * 9), session=session, policy=QUICK, on_result=fail)
    assert runner.sandbox.counters.api_requests <= 4


async def test_concurrency(runner: Runner, api_server: ApiServer) -> None:
    """There are never more requests under way than allowed, and as many as that."""
    under_way, most = 0, 0

    async def handle(_: web.Request) -> web.StreamResponse:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)  # so that all of them come together
        under_way -= 1
        return web.Response()

    api_server.handler = handle
    await runner.run(requests_of(*["POST"] * 40), base_url=api_server.url, policy=BatchPolicy(concurrency=7))
    assert 7 == most


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("concurrency", 0, "concurrency is 0: set a whole number, 1 or more"),
        ("attempts", True, "attempts is True"),
        ("rate", 0, "rate is 0: set a number above 0"),
        ("timeout_seconds", float("nan"), "timeout_seconds is nan"),
        ("patience_seconds", "1", "patience_seconds is '1'"),
    ],
)
def test_policy(field: str, value: Any, says: str) -> None:
    """A number that cannot be is refused by its name."""
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        BatchPolicy(**{field: value})


def test_repr() -> None:
    """A result shows no body."""
    result = BatchResult(id=1, line=1, outcome="succeeded", body="s3cr3t", location="s3cr3t")
    assert "s3cr3t" not in repr(result)


def _positive(summary: BatchSummary) -> dict[str, int]:
    return {outcome: count for outcome, count in summary.counts.items() if count}
