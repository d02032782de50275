"""Sandbox: faults of both endpoints."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import textwrap
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode

import aiohttp
import attrs
import pytest
from aiohttp import web

from simplestore_async import open_session
from simplestore_async.sandbox import (
    Counters,
    Drip,
    Fault,
    Garbage,
    Late,
    RejectedToken,
    Reset,
    Sandbox,
    SandboxEndpoint,
    Status,
    Truncated,
)
from simplestore_async.sandbox._responses import deliver
from tests.support.platforms import needs_resets
from tests.support.sandbox_client import FORM, Reply, ask, bearer, call, send

if TYPE_CHECKING:
    from tests.support.clocks import FakeClock


@attrs.frozen
class Target:
    """One endpoint of the sandbox, and requests to it that succeed."""

    sandbox: Sandbox
    client: aiohttp.ClientSession
    name: Literal["token", "api"]
    headers: dict[str, str]

    @property
    def endpoint(self) -> SandboxEndpoint:
        return self.sandbox.token_endpoint if self.name == "token" else self.sandbox.api

    @property
    def failures(self) -> int:
        return self.sandbox.counters.failures if self.name == "token" else self.sandbox.counters.api_failures

    @property
    def request(self) -> tuple[str, str, dict[str, Any]]:
        """Method, URL and options of a request."""
        if self.name == "token":
            return "POST", self.sandbox.token_url, {"data": FORM}
        return "GET", self.sandbox.base_url, {"headers": self.headers}

    async def send(self) -> Reply:
        method, url, options = self.request
        return await send(self.client, method, url, **options)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Send a request over a raw connection, and return the connection."""
        host, port = self.sandbox.base_url.removeprefix("http://").split("/")[0].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head, body = "GET /api/ HTTP/1.1", ""
        if self.name == "token":
            head = "POST /connect/token HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded"
            body = urlencode(FORM)
        writer.write(f"{head}\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        return reader, writer


@pytest.fixture(params=["token", "api"])
async def target(request: pytest.FixtureRequest, sandbox: Sandbox, client: aiohttp.ClientSession) -> Target:
    headers = await bearer(client, sandbox)
    sandbox.clear_requests()
    return Target(sandbox, client, request.param, headers)


class TestBothEndpoints:
    async def test_status(self, target: Target) -> None:
        """`Status` sends its status and Retry-After for the given number of requests and counts as a failure."""
        date = "Fri, 01 Jan 2027 00:00:00 GMT"
        target.endpoint.fail_next(2, Status(429, retry_after=7))
        target.endpoint.fail_next(1, Status(500, retry_after=date))
        responses = [await target.send() for _ in range(4)]

        assert [429, 429, 500, 200] == [status for status, _, _ in responses]
        assert ["7", "7", date, None] == [headers.get("Retry-After") for _, headers, _ in responses]
        assert {"error": "temporarily_unavailable"} == responses[0][2]
        assert 3 == target.failures

    async def test_garbage(self, target: Target) -> None:
        """`Garbage` sends a 200 with an HTML body and counts as a failure."""
        target.endpoint.fail_next(1, Garbage())
        method, url, options = target.request
        async with target.client.request(method, url, **options) as response:
            text = await response.text()

        assert (200, "text/html") == (response.status, response.content_type)
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)
        assert 1 == target.failures

    @needs_resets
    async def test_reset(self, target: Target) -> None:
        """`Reset` resets the connection without a response and counts as a failure."""
        target.endpoint.fail_next(1, Reset())
        reader, writer = await target.connect()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()

        assert 1 == target.failures
        [request] = target.endpoint.requests
        assert (None, Reset()) == (request.status, request.fault)

    async def test_truncated(self, target: Target) -> None:
        """`Truncated` closes the connection after half of the body and counts like the whole response."""
        target.endpoint.fail_next(1, Truncated())
        reader, writer = await target.connect()
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()

        length = re.search(rb"Content-Length: (\d+)", head)
        assert length
        assert int(length[1]) // 2 == len(body)
        assert body.startswith(b"{")
        assert 0 == target.failures
        counters = target.sandbox.counters
        assert 1 == (counters.tokens_issued - 1) + counters.unauthorized

    @pytest.mark.parametrize("fault", [Late(0.1), Drip(0.001)])
    async def test_slow_response(self, target: Target, fault: Fault) -> None:
        """`Late` sends the normal response after its delay, and `Drip` with a pause for each byte of the body."""
        target.endpoint.fail_next(1, fault)
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        status, headers, content = await target.send()

        # uvloop's clock has whole milliseconds.
        least_seconds = 0.099 if isinstance(fault, Late) else 0.0009 * int(headers["Content-Length"])
        assert loop.time() - started_at >= least_seconds
        assert 200 == status
        assert {"access_token", "method"} & content.keys()
        assert 0 == target.failures

    async def test_fail_for(self, target: Target, clock: FakeClock) -> None:
        """`fail_for()` applies a fault for its time, starting at the first request."""
        target.endpoint.fail_for(10, Status(500))
        statuses = []
        for seconds in (100, 9, 1):
            clock.advance(seconds)
            statuses.append((await target.send())[0])
        assert [500, 500, 200] == statuses

    async def test_rate_limit(self, target: Target, clock: FakeClock) -> None:
        """Any window admits the given number of requests, Retry-After is the exact wait, and None lifts the limit."""
        target.endpoint.limit_rate(2, seconds=10)
        seen: list[tuple[int, str | None]] = []
        # At 0, 4, 5.5, 9, 10, 13 and 14 s: the first request leaves the window at 10 s, the second at 14 s.
        for seconds in (0, 4, 1.5, 3.5, 1, 3, 1):
            clock.advance(seconds)
            status, headers, _ = await target.send()
            seen.append((status, headers.get("Retry-After")))
        target.endpoint.limit_rate(None)
        lifted = [(await target.send())[0] for _ in range(3)]

        assert [(200, None), (200, None), (429, "5"), (429, "1"), (200, None), (429, "1"), (200, None)] == seen
        assert [200, 200, 200] == lifted
        assert 3 == target.failures

    async def test_rate_limit_comes_first(self, target: Target, clock: FakeClock) -> None:
        """A request over the limit does not consume a scripted fault, and both are recorded."""
        target.endpoint.limit_rate(1, seconds=5)
        target.endpoint.fail_next(2, Status(500))
        for seconds in (0, 1, 4):
            clock.advance(seconds)
            await target.send()
        expected = [Status(500), Status(429, retry_after=4), Status(500)]
        assert expected == [request.fault for request in target.endpoint.requests]

    @pytest.mark.parametrize("fault", [Truncated(), Drip(0.001)])
    async def test_no_body(self, target: Target, fault: Fault) -> None:
        """Faults of the body do not affect the response to HEAD."""
        target.endpoint.fail_next(1, fault)
        async with target.client.head(target.request[1]) as response:
            assert b"" == await response.read()
        assert (405 if target.name == "token" else 401) == response.status

    @pytest.mark.parametrize("fault", [Late(3600), Drip(3600)])
    async def test_sandbox_ends(self, target: Target, fault: Fault) -> None:
        """Leaving the sandbox closes a response in flight and leaves no task of its connection."""
        target.endpoint.fail_next(1, fault)
        async with asyncio.timeout(60):
            reader, writer = await target.connect()
            while not target.endpoint.requests:
                await asyncio.sleep(0)
            await target.sandbox.__aexit__()
            with pytest.raises(asyncio.IncompleteReadError):
                await reader.readexactly(1_000)
        writer.close()
        assert {asyncio.current_task()} == asyncio.all_tasks()

    @pytest.mark.parametrize("fault", [Late(3600), Drip(3600)])
    async def test_client_leaves(self, target: Target, fault: Fault) -> None:
        """A client that disconnects ends its delayed response."""
        before = asyncio.all_tasks()
        target.endpoint.fail_next(1, fault)
        async with asyncio.timeout(60):
            _, writer = await target.connect()
            while not target.endpoint.requests:
                await asyncio.sleep(0)
            handlers = {task for task in asyncio.all_tasks() - before if "aiohttp" in repr(task)}
            assert handlers
            writer.transport.abort()
            await asyncio.wait(handlers)


async def test_shortcuts(client: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    """`Sandbox.fail_next()` and `fail_for()` apply to the token endpoint, in their order, and not to the API."""
    headers = await bearer(client, sandbox)
    sandbox.fail_next(1, Status(501))
    sandbox.fail_for(60, Status(502))
    sandbox.api.limit_rate(1, seconds=60)
    assert 200 == await call(client, sandbox, headers)
    assert [501, 502] == [(await ask(client, sandbox))[0] for _ in range(2)]


async def test_wrong_client(client: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    """A scripted status precedes the check of the client, and a delayed response follows it."""
    wrong = {"data": FORM | {"client_secret": "wrong"}}
    sandbox.fail_next(1, Status(503))
    sandbox.fail_next(1, Late(0.001))
    assert [503, 400] == [(await ask(client, sandbox, **wrong))[0] for _ in range(2)]
    assert Counters(token_requests=2, failures=1, refusals=1) == sandbox.counters


async def test_reject_next(client: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    """reject_next() rejects the next requests with 401 invalid_token, and the token stays valid."""
    headers = await bearer(client, sandbox)
    sandbox.reject_next(2)
    responses = [await send(client, "GET", sandbox.base_url, headers=headers) for _ in range(3)]

    assert [401, 401, 200] == [status for status, _, _ in responses]
    assert 'Bearer error="invalid_token"' == responses[0][1]["WWW-Authenticate"]
    assert Counters(token_requests=1, tokens_issued=1, api_requests=3, unauthorized=2) == sandbox.counters
    assert [RejectedToken(), RejectedToken(), None] == [request.fault for request in sandbox.api.requests]


async def test_documented_example() -> None:
    """The example in the docstring of `Sandbox` runs."""
    documentation = textwrap.dedent((Sandbox.__doc__ or "").partition("\n")[2])
    _, start, rest = documentation.partition("    async with Sandbox()")
    code = (start + rest).partition("\n\n")[0]
    names: dict[str, Any] = {"Sandbox": Sandbox, "Reset": Reset, "Late": Late, "open_session": open_session}
    exec(f"async def scenario():\n{code}", names)  # noqa: S102 - the package's documentation
    await names["scenario"]()


@pytest.mark.parametrize("fault", [Reset(), Truncated(), Drip(0.001)])
async def test_client_has_left(fault: Fault, caplog: pytest.LogCaptureFixture) -> None:
    """A connection that the client closed before the response causes no error in the log."""
    delivered = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        while request.transport is not None:
            await asyncio.sleep(0)
        try:
            return await deliver(web.Response(body=b"{}"), request, fault)
        finally:
            delivered.set()

    app = web.Application()
    app.router.add_get("/", handle)
    # The server of a sandbox would cancel the handler.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    with caplog.at_level(logging.DEBUG, logger="aiohttp.server"):
        _, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        await writer.drain()
        writer.close()
        async with asyncio.timeout(60):
            await delivered.wait()
        await runner.cleanup()

    assert [] == [record for record in caplog.records if record.name == "aiohttp.server"]


def test_faults_are_values() -> None:
    """Faults compare by value, are immutable and have a readable repr."""
    assert Late(1) == Late(1.0) != Late(2)
    assert {Reset()} == {Reset(), Reset()}
    assert "Status(status=429, retry_after=7)" == repr(Status(429, retry_after=7))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Late(1).seconds = 2  # type: ignore[misc]  # it must fail
    assert "<SandboxApi 'api'>" == repr(Sandbox().api)
