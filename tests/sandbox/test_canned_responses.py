"""Sandbox: canned responses, handlers and held responses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from simplestore_async import TokenEndpoint, TokenProvider, open_session
from simplestore_async.sandbox import Counters, Response, Sandbox, Truncated
from tests.support.tls import private_ca

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from simplestore_async import RetryPolicy


@pytest.fixture(params=["loop", "thread"])
async def sandbox(request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    """A sandbox on the test's event loop, and one in a thread."""
    if request.param == "loop":
        async with Sandbox() as sandbox:
            yield sandbox
    else:
        with Sandbox() as sandbox:
            yield sandbox


class TestRespond:
    async def test_canned(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        """A canned response has its status, repeated headers and body, and other paths are echoed."""
        headers = [("ETag", '"7"'), ("X-Tag", "a"), ("X-Tag", "b")]
        sandbox.api.respond("orders/42", Response(201, headers=headers, json={"state": "new"}))

        async with session.get("orders/42", params={"a": "1"}) as response:
            assert (201, {"state": "new"}) == (response.status, await response.json())
            assert ('"7"', ["a", "b"]) == (response.headers["ETag"], response.headers.getall("X-Tag"))
        async with session.get("orders/43") as response:
            assert "/api/orders/43" == (await response.json())["path"]
        assert [201, 200] == [each.status for each in sandbox.api.requests]
        assert 0 == sandbox.counters.api_failures

    async def test_method(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        """A response for one method takes precedence over one for all, and the last one set for a path applies."""
        sandbox.api.respond("/orders", Response(body="old"))
        sandbox.api.respond("orders", Response(body="all"))
        sandbox.api.respond("orders", Response(204), method="post")

        async with session.get("orders") as response:
            assert ("all", "text/plain") == (await response.text(), response.content_type)
        async with session.post("orders") as response:
            assert 204 == response.status

    async def test_handler(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        """A handler receives the request and returns the response, and faults apply to it."""

        async def handle(request: web.Request) -> web.Response:
            return web.json_response({"sent": await request.json()})

        sandbox.api.respond("orders", handle, method="PUT")
        async with session.put("orders", json=[1]) as response:
            assert {"sent": [1]} == await response.json()

        sandbox.api.fail_next(1, Truncated())
        with pytest.raises(aiohttp.ClientPayloadError):
            async with session.put("orders", json=[1]) as response:
                await response.read()

    async def test_needs_a_token(self, sandbox: Sandbox) -> None:
        """A path without a valid token is rejected unless it is public."""
        sandbox.api.respond("orders", Response(body="secret"))
        sandbox.api.respond("health", Response(body="fine"), is_public=True)
        async with aiohttp.ClientSession(sandbox.base_url) as client:
            async with client.get("orders") as response:
                assert 401 == response.status
            async with client.get("health") as response:
                assert (200, "fine") == (response.status, await response.text())
        assert 1 == sandbox.counters.unauthorized

    async def test_rejection(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        """reject_with() replaces the rejection's response, and None restores the default."""
        sandbox.api.reject_with(Response(419, json={"code": "expired"}))
        sandbox.reject_next(1)
        async with session.get("orders") as response:
            assert (419, {"code": "expired"}) == (response.status, await response.json())
        sandbox.api.reject_with(None)
        async with aiohttp.ClientSession() as client, client.get(sandbox.base_url) as response:
            assert (401, "Bearer") == (response.status, response.headers["WWW-Authenticate"])


class TestScriptedResponse:
    async def test_both_endpoints(self, sandbox: Sandbox, quick: RetryPolicy) -> None:
        """A `Response` as a fault is sent to the next request of an endpoint and counts as a failure."""
        sandbox.fail_next(1, Response(503, body="busy"))
        sandbox.api.fail_next(1, Response(409, body=b"\xff"))
        provider = TokenProvider(endpoint=TokenEndpoint(sandbox.credentials, policy=quick))  # repeats its request
        session = open_session(provider, base_url=sandbox.base_url)
        async with provider, session as api, api.get("orders") as response:
            assert (409, b"\xff") == (response.status, await response.read())
        assert Counters(token_requests=2, tokens_issued=1, failures=1, api_requests=1, api_failures=1) == (
            sandbox.counters
        )


class TestHold:
    async def test_token_endpoint(self, sandbox: Sandbox) -> None:
        """A held token request is counted at once, and callers get the token when it is released."""
        async with TokenProvider(sandbox.credentials) as provider:
            with sandbox.token_endpoint.hold() as held:
                callers = [asyncio.create_task(provider.get_token()) for _ in range(3)]
                await held.wait_for_requests()
                assert (1, 1) == (held.requests, sandbox.counters.tokens_issued)
                assert not any(each.done() for each in callers)
            assert 1 == len({(await each).value for each in callers})
            await provider.get_token()

    async def test_api(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        """Several API requests can be held and awaited, and after the release no request is held."""

        async def get() -> int:
            async with session.get("orders") as response:
                return response.status

        with sandbox.api.hold() as held:
            sending = [asyncio.create_task(get()) for _ in range(3)]
            await held.wait_for_requests(3)
            await held.wait_for_requests(2)
            held.release()
            assert [200, 200, 200] == await asyncio.gather(*sending)
        assert 200 == await get()

    async def test_client_leaves(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        """A client that disconnects affects neither the others nor the release."""
        with sandbox.api.hold() as held:
            one, two = [asyncio.create_task(session.get("orders").__aenter__()) for _ in range(2)]
            await held.wait_for_requests(2)
            one.cancel()
            with pytest.raises(asyncio.CancelledError):
                await one
        response = await two
        assert 200 == response.status
        response.release()


async def test_tls() -> None:
    """With a server's SSL context both endpoints use https."""
    ca = private_ca()
    async with (
        Sandbox(ssl_context=ca.server) as sandbox,
        open_session(sandbox.credentials, base_url=sandbox.base_url, ssl=ca.client) as session,
        session.get("orders") as response,
    ):
        assert sandbox.token_url.startswith("https://")
        assert 200 == response.status
