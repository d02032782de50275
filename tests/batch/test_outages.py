"""Rate limits, Retry-After and outages."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from yarl import URL

from simplestore_async import open_session
from simplestore_async.batch import BatchPolicy, run_batch
from simplestore_async.errors import BatchError, ConfigurationError, InvalidClientError
from simplestore_async.sandbox import Reset, Status
from tests.support.api_servers import refusing_url, silent_url
from tests.support.batches import QUICK, Runner, make_line, positive, requests_of
from tests.support.platforms import needs_linux
from tests.support.servers import ApiServer
from tests.support.tls import private_ca

if TYPE_CHECKING:
    from simplestore_async.sandbox import Fault


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_retry_after(runner: Runner, method: str) -> None:
    """429 pauses the whole batch for its Retry-After; then every request succeeds."""
    runner.sandbox.api.fail_next(1, Status(429, retry_after=0.2))
    began_at = asyncio.get_running_loop().time()
    await runner.run(requests_of(*[method] * 3), policy=BatchPolicy(concurrency=1))

    assert asyncio.get_running_loop().time() - began_at >= 0.2
    assert [429, 200, 200, 200] == runner.statuses
    assert [2, 1, 1] == [result.attempts for result in runner.results]
    assert [("the API responded 429", 0.2)] == runner.pauses


async def test_rate_limit(runner: Runner) -> None:
    """Every request succeeds despite a rate limit of the API."""
    runner.sandbox.api.limit_rate(5, seconds=1)
    summary = await runner.run(requests_of(*["POST"] * 12), policy=BatchPolicy(concurrency=12))
    assert 12 == summary.counts["succeeded"]
    assert 12 == Counter(runner.statuses)[200]


@pytest.mark.parametrize(
    "fault",
    [Status(503), Reset(), *(pytest.param(Status(status), marks=pytest.mark.slow) for status in (500, 401))],
    ids=repr,
)
async def test_short_outage(runner: Runner, fault: Fault) -> None:
    """An outage of a second fails the requests in flight and a few probes; `resend` sends these again."""
    runner.sandbox.api.fail_for(1, fault)
    lines = [make_line(n, "POST") for n in range(1, 101)]
    summary = await runner.run_file(lines, policy=BatchPolicy(concurrency=10, backoff_seconds=0.1))
    lost = summary.done - summary.counts["succeeded"]
    assert 3 <= lost <= 10 + 6
    assert 0 == summary.remaining
    assert runner.pauses

    resend = frozenset({"refused", "unknown"})
    assert {"succeeded": 100} == positive(await runner.run_file(lines, policy=BatchPolicy(resend=resend)))
    assert [{"succeeded"}, 100] == [{result["outcome"] for result in runner.stored}, len(runner.stored)]


async def test_resend_status(runner: Runner) -> None:
    """`resend` accepts statuses, and resends nothing else."""
    runner.sandbox.api.fail_next(1, Status(404))
    runner.sandbox.api.fail_next(1, Status(409))
    lines = [make_line(n, "POST") for n in range(1, 4)]
    one = BatchPolicy(concurrency=1)
    assert {404: 1, 409: 1, 200: 1} == (await runner.run_file(lines, policy=one)).statuses
    summary = await runner.run_file(lines, policy=BatchPolicy(resend=frozenset({409})))
    assert ({404: 1, 200: 2}, 1) == (summary.statuses, summary.sent)
    assert 4 == runner.sandbox.counters.api_requests


async def test_stop_after(runner: Runner) -> None:
    """`stop_after` ends the batch after that number of consecutive failures."""
    runner.sandbox.api.fail_for(3_600, Status(503))
    policy = BatchPolicy(concurrency=1, stop_after=3, backoff_seconds=0.01)
    with pytest.raises(BatchError, match="3 failures in a row: the API responded 503"):
        await runner.run_file([make_line(n, "POST") for n in range(1, 10)], policy=policy)
    assert 3 == runner.sandbox.counters.api_requests


async def test_isolated_failures(runner: Runner, api_server: ApiServer) -> None:
    """Failures that are not consecutive neither pause nor stop the batch."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return web.Response(status=500 if int(request.path.rpartition("/")[2]) % 2 else 200)

    api_server.handler = handle
    policy = BatchPolicy(concurrency=1, stop_after=2)
    summary = await runner.run(requests_of(*["POST"] * 10), base_url=api_server.url, policy=policy)
    assert {"succeeded": 5, "unknown": 5} == positive(summary)
    assert [] == runner.pauses


@pytest.mark.parametrize(("status", "method"), [(429, "GET"), (429, "POST"), (503, "GET"), (503, "POST")])
async def test_retry_after_too_long(runner: Runner, status: int, method: str) -> None:
    """A Retry-After beyond `patience_seconds` ends the batch; a 503 to a POST is recorded as its result."""
    runner.sandbox.api.fail_next(1, Status(status, retry_after=601))
    lines = [make_line(1, method), make_line(2)]
    with pytest.raises(BatchError) as caught:
        await runner.run_file(lines, policy=BatchPolicy(concurrency=1))
    assert 601 == caught.value.retry_after
    has_result = (status, method) == (503, "POST")
    with runner.open(lines) as database:
        assert 2 - has_result == database.summary().remaining


async def test_one_request_rate_limited(runner: Runner, api_server: ApiServer) -> None:
    """A single request that gets 429 beyond `patience_seconds` is refused; the others succeed."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return web.Response(status=429 if request.path.endswith("/1") else 200, headers={"Retry-After": "0"})

    api_server.handler = handle
    policy = BatchPolicy(patience_seconds=0.1, concurrency=2)
    summary = await runner.run(requests_of(*["POST"] * 100), base_url=api_server.url, policy=policy)
    assert {"refused": 1, "succeeded": 99} == positive(summary)


async def test_rate(runner: Runner) -> None:
    """`rate` spaces requests evenly."""
    began_at = asyncio.get_running_loop().time()
    await runner.run(requests_of(*["GET"] * 6), policy=BatchPolicy(rate=20))
    assert asyncio.get_running_loop().time() - began_at >= 0.24


async def test_token_endpoint_outage(runner: Runner) -> None:
    """The batch pauses while no token can be obtained; then every request succeeds at its first attempt."""
    runner.sandbox.fail_next(4, Status(503, retry_after=0))
    summary = await runner.run(requests_of(*["POST"] * 8))
    assert 8 == summary.counts["succeeded"]
    assert [200] * 8 == runner.statuses
    assert {1} == {result.attempts for result in runner.results}
    assert "503" in runner.pauses[0][0]


async def test_refused_credentials(runner: Runner) -> None:
    """Refused credentials end the batch before any request, and leave no database."""
    credentials = runner.sandbox.credentials
    runner.sandbox.rotate_secret(credentials.client_id, new_secret="another")
    with runner.open([make_line(n, "POST") for n in range(1, 51)]) as database:
        async with open_session(credentials, base_url=runner.sandbox.base_url) as session:
            with pytest.raises(InvalidClientError):
                await run_batch(database.requests, session=session, database=database)
        assert 50 == database.summary().remaining
    assert [] == runner.statuses
    assert not (runner.directory / "batch").exists()


async def test_api_returns(runner: Runner) -> None:
    """The batch pauses while the API refuses connections."""
    url = refusing_url()
    async with open_session(runner.sandbox.credentials, base_url=url) as session:
        running = asyncio.create_task(
            run_batch(requests_of("POST"), session=session, policy=QUICK, on_pause=runner._pause)
        )
        await runner.has_paused.wait()
        async with ApiServer() as server:
            server.handler = lambda request: asyncio.sleep(0, web.Response())
            site = web.TCPSite(server._runner, "127.0.0.1", URL(url).port)  # type: ignore[arg-type]  # it runs
            await site.start()
            assert 1 == (await running).counts["succeeded"]


async def test_api_unreachable(runner: Runner) -> None:
    """Refused connections beyond `patience_seconds` end the batch with a retryable error."""
    with pytest.raises(BatchError, match=r"unavailable for longer than .*cannot connect") as caught:
        await runner.run(requests_of("POST"), base_url=refusing_url(), policy=BatchPolicy(patience_seconds=0.001))
    assert caught.value.retryable


@needs_linux
async def test_no_handshake(runner: Runner) -> None:
    """Connection timeouts leave no request unknown, and end the batch with a retryable error."""
    policy = BatchPolicy(concurrency=4, timeout_seconds=0.1, backoff_seconds=0.01, patience_seconds=0.15)
    with silent_url() as url, pytest.raises(BatchError, match="unavailable for longer than") as caught:
        await runner.run_file([make_line(n, "POST") for n in range(1, 9)], base_url=url, policy=policy)
    assert caught.value.retryable
    assert [] == runner.results
    assert not (runner.directory / "batch").exists()


async def test_certificate(runner: Runner) -> None:
    """An untrusted certificate ends the batch at once."""
    async with ApiServer(ssl_context=private_ca().server) as server:
        with pytest.raises(ConfigurationError) as caught:
            await runner.run(requests_of("POST"), base_url=server.url)
    assert "ssl" == caught.value.field
