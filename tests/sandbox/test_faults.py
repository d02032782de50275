"""Faults of both endpoints of a sandbox."""

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
    # Without keep-alive, so that no test meets the end of another's connection.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session


def endpoint_of(sandbox: Sandbox, name: str) -> SandboxEndpoint:
    return sandbox.token_endpoint if name == "token" else sandbox.api


async def prepare(client: aiohttp.ClientSession, sandbox: Sandbox, name: str) -> tuple[str, str, dict[str, Any]]:
    """Return a request with response 200: method, address, options."""
    if name == "token":
        return "POST", sandbox.token_url, {"data": FORM}
    return "GET", sandbox.base_url, {"headers": await bearer(client, sandbox)}


async def connect(sandbox: Sandbox, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send such a request by hand and return the connection."""
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
        """A `Status` responds with it and with Retry-After, counts as a failure, and ends after its requests."""
        async with Sandbox() as sandbox:
            method, url, options = await prepare(client, sandbox, name)
            endpoint_of(sandbox, name).fail_next(2, Status(429, retry_after=7))
            replies = [await send(client, method, url, **options) for _ in range(3)]

        assert [429, 429, 200] == [status for status, _, _ in replies]
        assert ["7", "7", None] == [headers.get("Retry-After") for _, headers, _ in replies]
        assert {"error": "temporarily_unavailable"} == replies[0][2]
        assert 2 == failures(sandbox, name)

    async def test_garbage(self, client: aiohttp.ClientSession, name: str) -> None:
        """`Garbage` is a 200 whose body is HTML, and counts as a failure."""
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
        """A `Reset` ends the connection with RST, without a byte of a response, and counts as a failure."""
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
        """`Truncated` promises the whole body, sends half of it and closes; it counts as what it would have been."""
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
        """`Drip` sends the right body, and takes its time for each byte."""
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
        """`Late` sends the right response, not before its time."""
        async with Sandbox() as sandbox:
            method, url, options = await prepare(client, sandbox, name)
            endpoint_of(sandbox, name).fail_next(1, Late(0.1))
            loop = asyncio.get_running_loop()
            started_at = loop.time()
            status, _, _ = await send(client, method, url, **options)

        assert loop.time() - started_at >= 0.099  # uvloop's clock counts whole milliseconds
        assert 200 == status
        assert 0 == failures(sandbox, name)

    async def test_for_a_while(self, client: aiohttp.ClientSession, name: str) -> None:
        """`fail_for()` takes a fault, and counts its time from the first request that meets it."""
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
        """Any window lets so many requests pass; Retry-After is the least wait after which one does; None lifts it."""
        clock = FakeClock()
        async with Sandbox(clock=clock) as sandbox:
            method, url, options = await prepare(client, sandbox, name)
            endpoint_of(sandbox, name).limit_rate(2, seconds=10)
            seen: list[tuple[int, str | None]] = []
            # At 0, 4, 5.5, 9, 10, 13, 14 seconds: the first one's place is free at 10, the second one's at 14.
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
        """What the limit stops meets no scripted fault; both show in the log."""
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
        """The response to HEAD has no body that could be slow or missing."""
        async with Sandbox() as sandbox:
            endpoint_of(sandbox, name).fail_next(1, fault)
            url = sandbox.token_url if name == "token" else sandbox.base_url
            async with client.head(url) as response:
                assert b"" == await response.read()

        assert (405 if name == "token" else 401) == response.status

    @pytest.mark.parametrize("fault", [Late(3600), Drip(3600)])
    async def test_stops_at_once(self, name: str, fault: Fault) -> None:
        """Leaving the sandbox ends a response in flight, and leaves no task behind."""
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
        """A client that gives up ends its response: no work is left."""
        async with asyncio.timeout(60), Sandbox() as sandbox:
            tasks = asyncio.all_tasks()
            endpoint_of(sandbox, name).fail_next(1, fault)
            _, writer = await connect(sandbox, name)
            while not sandbox.requests:
                await asyncio.sleep(0)
            writer.transport.abort()
            while len(tasks) != len(asyncio.all_tasks()):  # Windows' event loop has a task for each accept
                await asyncio.sleep(0)


class TestTokenEndpoint:
    async def test_short_forms_take_faults(self, client: aiohttp.ClientSession) -> None:
        """`Sandbox.fail_next()` and `fail_for()` are the token endpoint's."""
        async with Sandbox() as sandbox:
            sandbox.fail_next(1, Status(501))
            sandbox.fail_for(60, Status(502))

            assert [501, 502] == [(await ask(client, sandbox))[0] for _ in range(2)]

    async def test_failures_look_at_nothing(self, client: aiohttp.ClientSession) -> None:
        """A scripted failure meets a wrong client as a right one; a spoilt delivery refuses it all the same."""
        wrong = {"data": FORM | {"client_secret": "wrong"}}
        async with Sandbox() as sandbox:
            sandbox.fail_next(1, Status(503))
            sandbox.fail_next(1, Late(0.001))

            assert [503, 400] == [(await ask(client, sandbox, **wrong))[0] for _ in range(2)]
            assert Counters(token_requests=2, failures=1, refusals=1) == sandbox.counters

    async def test_latency_adds_up(self, client: aiohttp.ClientSession) -> None:
        """The endpoint's latency comes before a fault's own delay."""
        async with Sandbox(latency_seconds=0.05) as sandbox:
            sandbox.fail_next(1, Late(0.05))
            loop = asyncio.get_running_loop()
            started_at = loop.time()
            await ask(client, sandbox)

        assert loop.time() - started_at >= 0.098

    async def test_endpoints_are_apart(self, client: aiohttp.ClientSession) -> None:
        """A script or limit of one endpoint spares the other."""
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
        """The next requests get 401 invalid_token with any token; the token stays valid."""
        async with Sandbox() as sandbox:
            headers = await bearer(client, sandbox)
            sandbox.reject_next(2)
            status, reply_headers, _ = await send(client, "GET", sandbox.base_url, headers=headers)
            later = [await call(client, sandbox, headers) for _ in range(2)]

        assert (401, 'Bearer error="invalid_token"') == (status, reply_headers["WWW-Authenticate"])
        assert [401, 200] == later
        assert Counters(token_requests=1, tokens_issued=1, api_requests=3, unauthorized=2) == sandbox.counters
        assert [RejectedToken(), RejectedToken(), None] == [request.fault for request in sandbox.api.requests]

    async def test_revoke(self, client: aiohttp.ClientSession) -> None:
        """revoke() revokes one token and no other, and returns whether there was one to revoke."""
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
        """The example in the docstring of `Sandbox` is true."""
        documentation = textwrap.dedent((Sandbox.__doc__ or "").partition("\n")[2])
        _, start, rest = documentation.partition("    async with Sandbox()")
        code = (start + rest).partition("\n\n")[0]
        names: dict[str, Any] = {"Sandbox": Sandbox, "Reset": Reset, "Late": Late, "open_session": open_session}
        exec(f"async def scenario():\n{code}", names)  # noqa: S102 - our own documentation
        await names["scenario"]()


class TestDelivery:
    @pytest.mark.parametrize("fault", [Reset(), Truncated(), Drip(0.001)])
    async def test_client_has_left(self, fault: Fault, caplog: pytest.LogCaptureFixture) -> None:
        """A connection that is gone before the response is no error, and is not logged."""
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
        # The sandbox's own server would end the handler.
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
        """Faults compare by what they say, cannot be changed, and show it."""
        assert Late(1) == Late(1.0)
        assert Late(1) != Late(2)
        assert {Reset()} == {Reset(), Reset()}
        assert "Status(status=429, retry_after=7)" == repr(Status(429, retry_after=7))
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            Late(1).seconds = 2  # type: ignore[misc]  # it must fail
        assert "<SandboxApi 'api'>" == repr(Sandbox().api)
