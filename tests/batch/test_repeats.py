"""Retries of safe requests, and at most one attempt of others."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from simplestore_async import open_session
from simplestore_async.batch import BatchPolicy, run_batch
from simplestore_async.sandbox import Late, Reset, Sandbox, Status, Truncated
from tests.support.batches import QUICK, Runner, make_line, requests_of
from tests.support.raw_server import RawServer

if TYPE_CHECKING:
    from tests.support.servers import ApiServer, TokenServer


@pytest.mark.parametrize("fault", [Status(500), Status(503), Status(408), Reset(), Truncated()], ids=repr)
async def test_safe(runner: Runner, fault: Any) -> None:
    """A safe request has up to four attempts."""
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
async def test_unsafe(runner: Runner, method: str, fault: Any) -> None:
    """An unsafe request without complete response is unknown, and not resent."""
    runner.sandbox.api.fail_next(1, fault)
    await runner.run(requests_of(method))
    (result,) = runner.results
    assert ("unknown", None, 1) == (result.outcome, result.status, result.attempts)
    assert result.error_type
    assert result.error_message
    assert 1 == len(runner.statuses)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(500, "unknown"), (502, "unknown"), (504, "unknown"), (599, "unknown"), (408, "refused"), (503, "refused")],
)
async def test_unsafe_status(runner: Runner, status: int, outcome: str) -> None:
    """500, 502, 504 and 599 leave an unsafe request unknown; 408 and 503 are refused. None is resent."""
    runner.sandbox.api.fail_next(1, Status(status))
    await runner.run(requests_of("POST"))
    assert {1: outcome} == runner.outcomes()
    assert [status] == runner.statuses


@pytest.mark.parametrize("status", [500, 502, 503, None])
async def test_idempotency_key(runner: Runner, api_server: ApiServer, status: int | None) -> None:
    """Unsafe requests with an idempotency key are retried, each with the same key."""
    keys: list[str] = []

    async def note(request: web.Request) -> web.StreamResponse:
        keys.append(request.headers["Idempotency-Key"])
        if status is None and len(keys) < 3:
            assert request.transport
            request.transport.abort()
        return web.Response(status=status or 200 if len(keys) < 3 else 200)

    api_server.handler = note
    policy = BatchPolicy(backoff_seconds=0.01, concurrency=1, idempotency_key="Idempotency-Key")
    lines = [make_line(1, "POST"), make_line(2, "POST"), make_line(3, "POST", headers={"idempotency-key": "mine"})]
    await runner.run_file(lines, policy=policy, base_url=f"{api_server.url}/")
    assert {1: "succeeded", 2: "succeeded", 3: "succeeded"} == runner.outcomes()
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert "mine" == keys[4]


@pytest.mark.parametrize(("method", "expected"), [("GET", ("failed", 2)), ("POST", ("unknown", 1))])
async def test_timeout(runner: Runner, method: str, expected: tuple[str, int]) -> None:
    """A timeout after sending fails a safe request after its retries, and leaves an unsafe one unknown."""
    runner.sandbox.api.fail_next(2, Late(60))
    await runner.run(requests_of(method), policy=BatchPolicy(timeout_seconds=0.3, attempts=2, backoff_seconds=0.01))
    (result,) = runner.results
    assert (*expected, "no complete response within 0.3 s") == (result.outcome, result.attempts, result.error_message)


async def test_token_endpoint_hangs(runner: Runner, token_server: TokenServer) -> None:
    """A timeout of the token request pauses the batch; no request is sent or unknown."""
    token_server.gate.clear()
    policy = BatchPolicy(timeout_seconds=0.3, backoff_seconds=0.01)
    async with open_session(token_server.credentials(), base_url=runner.sandbox.base_url) as session:
        running = asyncio.create_task(
            run_batch(requests_of(*["POST"] * 3), session=session, policy=policy, on_pause=runner._pause)
        )
        await runner.has_paused.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        token_server.gate.set()
    assert 0 == runner.sandbox.counters.api_requests
    assert "no complete response within 0.3 s" == runner.pauses[0][0]


class Keepalive(RawServer):
    """Server that responds to the first request of a connection, and drops the connection at the second."""

    def __init__(self) -> None:
        super().__init__()
        self.accepted: Counter[bytes] = Counter()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            head = await reader.readuntil(b"\r\n\r\n")
            self.accepted[head.split()[1]] += 1
            if _ == 0:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()


async def test_two_batches_share_a_session(sandbox: Sandbox) -> None:
    """The retry of aiohttp for dropped connections is off in both batches."""
    async with Keepalive() as server, open_session(sandbox.credentials, base_url=server.url) as session:
        first = [*requests_of(*["PUT"] * 40)]
        second = [*requests_of(*["DELETE"] * 80)][40:]
        summaries = await asyncio.gather(
            *(run_batch(some, session=session, policy=QUICK) for some in (first, second)), return_exceptions=True
        )
    assert server.accepted
    assert {1} == set(server.accepted.values())
    assert 80 == sum(summary.done for summary in summaries if not isinstance(summary, BaseException))


async def test_concurrency(runner: Runner, api_server: ApiServer) -> None:
    """`concurrency` requests are in flight, and never more."""
    in_flight, most = 0, 0

    async def handle(_: web.Request) -> web.StreamResponse:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0.01)  # so that all of them come together
        in_flight -= 1
        return web.Response()

    api_server.handler = handle
    await runner.run(requests_of(*["POST"] * 40), base_url=api_server.url, policy=BatchPolicy(concurrency=7))
    assert 7 == most
