"""Sandbox: faults of both endpoints."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import textwrap
from typing import TYPE_CHECKING, Any
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
from tests.support.clocks import FakeClock
from tests.support.platforms import needs_resets
from tests.support.sandbox_client import FORM, ask, bearer, call, send

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ENDPOINTS = ["token", "api"]
JSON_TYPE = "application/json"


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    # Without keep-alive, so that a fault does not affect the connection of a later request.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session


def endpoint_of(sandbox: Sandbox, name: str) -> SandboxEndpoint:
    return sandbox.token_endpoint if name == "token" else sandbox.api


async def prepare(client: aiohttp.ClientSession, sandbox: Sandbox, name: str) -> tuple[str, str, dict[str, Any]]:
    """Return method, URL and options of a request that succeeds."""
    if name == "token":
        return "POST", sandbox.token_url, {"data": FORM}
    return "GET", sandbox.base_url, {"headers": await bearer(client, sandbox)}


async def connect(sandbox: Sandbox, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request over a raw connection, and return the connection."""
    host, port = sandbox.base_url.removeprefix("http://").split("/")[0].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    if name == "token":
        head, body = "POST /connect/token HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded", urlencode(FORM)
    else:
        head, body = "GET /api/ HTTP/1.1", ""
    writer.write(f"{head}\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    return reader, writer


def length_of(head: bytes) -> int:
    found = re.search(rb"Content-Length: (\d+)", head)
    assert found is not None
    return int(found[1])


def failures(sandbox: Sandbox, name: str) -> int:
    return sandbox.counters.failures if name == "token" else sandbox.counters.api_failures


@pytest.mark.parametrize("name", ENDPOINTS)
class TestBothEndpoints:
    async def test_status(self, client: aiohttp.ClientSession, name: str) -> None:
        """`Status` sends its status and Retry-After for the given number of requests and counts as a failure."""
        async with Sandbox() as sandbox:
            method, url, options = await prepare(client, sandbox, name)
            endpoint_of(sandbox, name).fail_next(2, Status(429, retry_after=7))
            responses = [await send(client, method, url, **options) for _ in range(3)]

        assert [429, 429, 200] == [status for status, _, _ in responses]
        assert ["7", "7", None] == [headers.get("Retry-After") for _, headers, _ in responses]
        assert {"error": "temporarily_unavailable"} == responses[0][2]
        assert 2 == failures(sandbox, name)

    async def test_garbage(self, client: aiohttp.ClientSession, name: str) -> None:
        """`Garbage` sends a 200 with an HTML body and counts as a failure."""
        async with Sandbox() as sandbox:
            method, url, options = await prepare(client, sandbox, name)
            endpoint_of(sandbox, name).fail_next(1, Garbage())
            async with client.request(method, url, **options) as response:
                text = await response.text()

        assert (200, "text/html") == (response.status, response.content_type)
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)
        assert 1 == failures(sandbox, name)

    @needs_resets
    async def test_reset(self, name: str) -> None:
        """`Reset` resets the connection without a response and counts as a failure."""
        async with Sandbox() as sandbox:
            endpoint_of(sandbox, name).fail_next(1, Reset())
            reader, writer = await connect(sandbox, name)
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()

            assert 1 == failures(sandbox, name)
            [request] = sandbox.requests
            assert (None, Reset()) == (request.status, request.fault)

    async def test_truncated(self, name: str) -> None:
        """`Truncated` closes the connection after half of the body and counts like the whole response."""
        async with Sandbox() as sandbox:
            endpoint_of(sandbox, name).fail_next(1, Truncated())
            reader, writer = await connect(sandbox, name)
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()

        assert length_of(head) // 2 == len(body)
        assert body.startswith(b"{")
        assert 0 == failures(sandbox, name)
        assert 1 == sandbox.counters.tokens_issued + sandbox.counters.unauthorized

    async def test_drip(self, client: aiohttp.ClientSession, name: str) -> None:
        """`Drip` sends the normal body with a pause for each byte."""
        async with Sandbox() as sandbox:
            method, url, options = await prepare(client, sandbox, name)
            endpoint_of(sandbox, name).fail_next(1, Drip(0.001))
            loop = asyncio.get_running_loop()
            started_at = loop.time()
            async with client.request(method, url, **options) as response:
                content = await response.json()

        assert loop.time() - started_at >= 0.0009 * int(response.headers["Content-Length"])
        assert (200, JSON_TYPE) == (response.status, response.content_type)
        assert {"access_token", "method"} & content.keys()
        assert 0 == failures(sandbox, name)

    async def test_late(self, client: aiohttp.ClientSession, name: str) -> None:
        """`Late` sends the normal response after its delay."""
        async with Sandbox() as sandbox:
            method, url, options = await prepare(client, sandbox, name)
            endpoint_of(sandbox, name).fail_next(1, Late(0.1))
            loop = asyncio.get_running_loop()
            started_at = loop.time()
            status, _, _ = await send(client, method, url, **options)

        assert loop.time() - started_at >= 0.099  # uvloop's clock has whole milliseconds
        assert 200 == status
        assert 0 == failures(sandbox, name)

    async def test_fail_for(self, client: aiohttp.ClientSession, name: str) -> None:
        """`fail_for()` applies a fault for its time, starting at the first request."""
        clock = FakeClock()
        statuses = []
        async with Sandbox(clock=clock) as sandbox:
            method, url, options = await prepare(client, sandbox, name)
            endpoint_of(sandbox, name).fail_for(10, Status(500))
            for seconds in (100, 9, 1):
                clock.advance(seconds)
                statuses.append((await send(client, method, url, **options))[0])

        assert [500, 500, 200] == statuses

    async def test_rate_limit(self, client: aiohttp.ClientSession, name: str) -> None:
        """Any window admits the given number of requests, Retry-After is the exact wait, and None lifts the limit."""
        clock = FakeClock()
        async with Sandbox(clock=clock) as sandbox:
            method, url, options = await prepare(client, sandbox, name)
            endpoint_of(sandbox, name).limit_rate(2, seconds=10)
            seen: list[tuple[int, str | None]] = []
            # At 0, 4, 5.5, 9, 10, 13 and 14 s: the first request leaves the window at 10 s, the second at 14 s.
            for seconds in (0, 4, 1.5, 3.5, 1, 3, 1):
                clock.advance(seconds)
                status, headers, _ = await send(client, method, url, **options)
                seen.append((status, headers.get("Retry-After")))
            endpoint_of(sandbox, name).limit_rate(None)
            lifted = [(await send(client, method, url, **options))[0] for _ in range(3)]

        assert [(200, None), (200, None), (429, "5"), (429, "1"), (200, None), (429, "1"), (200, None)] == seen
        assert [200, 200, 200] == lifted
        assert 3 == failures(sandbox, name)

    async def test_rate_limit_comes_first(self, client: aiohttp.ClientSession, name: str) -> None:
        """A request over the limit does not consume a scripted fault, and both are recorded."""
        clock = FakeClock()
        async with Sandbox(clock=clock) as sandbox:
            method, url, options = await prepare(client, sandbox, name)
            endpoint = endpoint_of(sandbox, name)
            endpoint.limit_rate(1, seconds=5)
            endpoint.fail_next(2, Status(500))
            endpoint.clear_requests()
            for seconds in (0, 1, 4):
                clock.advance(seconds)
                await send(client, method, url, **options)

            assert [Status(500), Status(429, retry_after=4), Status(500)] == [
                request.fault for request in endpoint.requests
            ]

    @pytest.mark.parametrize("fault", [Truncated(), Drip(0.001)])
    async def test_no_body(self, client: aiohttp.ClientSession, name: str, fault: Fault) -> None:
        """Faults of the body do not affect the response to HEAD."""
        async with Sandbox() as sandbox:
            endpoint_of(sandbox, name).fail_next(1, fault)
            url = sandbox.token_url if name == "token" else sandbox.base_url
            async with client.head(url) as response:
                assert b"" == await response.read()

        assert (405 if name == "token" else 401) == response.status

    @pytest.mark.parametrize("fault", [Late(3600), Drip(3600)])
    async def test_stops_at_once(self, name: str, fault: Fault) -> None:
        """Leaving the sandbox closes a response in flight and leaves no task."""
        tasks = asyncio.all_tasks()
        async with asyncio.timeout(60):
            async with Sandbox() as sandbox:
                endpoint_of(sandbox, name).fail_next(1, fault)
                reader, writer = await connect(sandbox, name)
                while not sandbox.requests:
                    await asyncio.sleep(0)
            with pytest.raises(asyncio.IncompleteReadError):
                await reader.readexactly(1_000)
            writer.close()
        assert tasks == asyncio.all_tasks()

    @pytest.mark.parametrize("fault", [Late(3600), Drip(3600)])
    async def test_client_leaves(self, name: str, fault: Fault) -> None:
        """A client that disconnects ends its delayed response."""
        async with asyncio.timeout(60), Sandbox() as sandbox:
            tasks = asyncio.all_tasks()
            endpoint_of(sandbox, name).fail_next(1, fault)
            _, writer = await connect(sandbox, name)
            while not sandbox.requests:
                await asyncio.sleep(0)
            writer.transport.abort()
            while len(tasks) != len(asyncio.all_tasks()):  # the event loop of Windows has a task for each accept
                await asyncio.sleep(0)


class TestTokenEndpoint:
    async def test_shortcuts(self, client: aiohttp.ClientSession) -> None:
        """`Sandbox.fail_next()` and `fail_for()` apply to the token endpoint."""
        async with Sandbox() as sandbox:
            sandbox.fail_next(1, Status(501))
            sandbox.fail_for(60, Status(502))

            assert [501, 502] == [(await ask(client, sandbox))[0] for _ in range(2)]

    async def test_wrong_client(self, client: aiohttp.ClientSession) -> None:
        """A scripted status precedes the check of the client, and a delayed response follows it."""
        wrong = {"data": FORM | {"client_secret": "wrong"}}
        async with Sandbox() as sandbox:
            sandbox.fail_next(1, Status(503))
            sandbox.fail_next(1, Late(0.001))

            assert [503, 400] == [(await ask(client, sandbox, **wrong))[0] for _ in range(2)]
            assert Counters(token_requests=2, failures=1, refusals=1) == sandbox.counters

    async def test_latency_adds_up(self, client: aiohttp.ClientSession) -> None:
        """The endpoint's latency and a fault's delay add up."""
        async with Sandbox(latency_seconds=0.05) as sandbox:
            sandbox.fail_next(1, Late(0.05))
            loop = asyncio.get_running_loop()
            started_at = loop.time()
            await ask(client, sandbox)

        assert loop.time() - started_at >= 0.098

    async def test_endpoints_are_independent(self, client: aiohttp.ClientSession) -> None:
        """Faults and limits of one endpoint do not affect the other."""
        async with Sandbox() as sandbox:
            headers = await bearer(client, sandbox)
            sandbox.fail_for(60)
            sandbox.token_endpoint.limit_rate(1, seconds=60)
            assert [200, 200] == [await call(client, sandbox, headers) for _ in range(2)]

            sandbox.token_endpoint.limit_rate(None)
            sandbox.api.fail_for(60, Status(500))
            assert 503 == (await ask(client, sandbox))[0]
            assert 500 == await call(client, sandbox, headers)


class TestRejection:
    async def test_reject_next(self, client: aiohttp.ClientSession) -> None:
        """reject_next() rejects the next requests with 401 invalid_token, and the token stays valid."""
        async with Sandbox() as sandbox:
            headers = await bearer(client, sandbox)
            sandbox.reject_next(2)
            status, response_headers, _ = await send(client, "GET", sandbox.base_url, headers=headers)
            later = [await call(client, sandbox, headers) for _ in range(2)]

        assert (401, 'Bearer error="invalid_token"') == (status, response_headers["WWW-Authenticate"])
        assert [401, 200] == later
        assert Counters(token_requests=1, tokens_issued=1, api_requests=3, unauthorized=2) == sandbox.counters
        assert [RejectedToken(), RejectedToken(), None] == [request.fault for request in sandbox.api.requests]

    async def test_revoke(self, client: aiohttp.ClientSession) -> None:
        """revoke() revokes only the given token and returns whether it was valid."""
        clock = FakeClock()
        async with Sandbox(clock=clock) as sandbox:
            one, other = [await bearer(client, sandbox) for _ in range(2)]
            value = one["Authorization"].removeprefix("Bearer ")
            assert [True, False] == [sandbox.revoke(value) for _ in range(2)]
            assert not sandbox.revoke("unknown")
            assert [401, 200] == [await call(client, sandbox, headers) for headers in (one, other)]
            clock.advance(3600)
            assert not sandbox.revoke(other["Authorization"].removeprefix("Bearer "))


class TestSession:
    async def test_documented_example(self) -> None:
        """The example in the docstring of `Sandbox` runs."""
        documentation = textwrap.dedent((Sandbox.__doc__ or "").partition("\n")[2])
        _, start, rest = documentation.partition("    async with Sandbox()")
        code = (start + rest).partition("\n\n")[0]
        names: dict[str, Any] = {"Sandbox": Sandbox, "Reset": Reset, "Late": Late, "open_session": open_session}
        exec(f"async def scenario():\n{code}", names)  # noqa: S102 - the package's documentation
        await names["scenario"]()


class TestDelivery:
    @pytest.mark.parametrize("fault", [Reset(), Truncated(), Drip(0.001)])
    async def test_client_has_left(self, fault: Fault, caplog: pytest.LogCaptureFixture) -> None:
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


class TestArguments:
    def test_faults_are_values(self) -> None:
        """Faults compare by value, are immutable and have a readable repr."""
        assert Late(1) == Late(1.0)
        assert Late(1) != Late(2)
        assert {Reset()} == {Reset(), Reset()}
        assert "Status(status=429, retry_after=7)" == repr(Status(429, retry_after=7))
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            Late(1).seconds = 2  # type: ignore[misc]  # it must fail
        assert "<SandboxApi 'api'>" == repr(Sandbox().api)
