"""`TokenEndpoint`: cancelled requests, and what is logged."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from simplestore_async import RetryPolicy, TokenEndpoint
from simplestore_async.errors import (
    InvalidClientError,
    TokenTransportError,
)
from tests.support.raw_server import RawServer
from tests.support.servers import SECRET, TokenServer
from tests.support.tls import authority, client_context, server_context
from tests.support.token_requests import (
    WatchedConnector,
    cancelled,
    failure,
    raw_credentials,
    raw_endpoint,
)
from tests.support.wire_faults import JSON_HEAD, everything_shown, hangs_after, says, shows_secret


class TestCancellation:
    @pytest.mark.parametrize("auth_method", ["client_secret_post", "client_secret_basic"])
    @pytest.mark.parametrize(
        "parts", [(), (JSON_HEAD,), (JSON_HEAD + b"Content-Length: 99\r\n\r\n{",)], ids=["silence", "head", "body"]
    )
    async def test_during_the_reply(self, auth_method: str, parts: tuple[bytes, ...]) -> None:
        """A cancelled request ends as CancelledError, closes its connection and shows no secret."""
        reached = asyncio.Event()
        async with RawServer(hangs_after(*parts, reached=reached)) as server:
            endpoint = TokenEndpoint(raw_credentials(server, auth_method=auth_method))
            shown = everything_shown(await cancelled(endpoint.request_token(), reached))
            await server.clients_left()

        assert not shows_secret(shown)

    async def test_during_the_handshake(self) -> None:
        """A request that is cancelled while it connects closes its connection."""
        async with RawServer(hangs_after(), reads_first=False) as server:
            credentials = raw_credentials(server, token_url=f"https://127.0.0.1:{server.port}/")
            await cancelled(TokenEndpoint(credentials).request_token(), server.arrived)
            await server.clients_left()

            assert 1 == server.connections

    async def test_during_a_pause(self, token_server: TokenServer) -> None:
        """A request that is cancelled between two attempts makes no other."""
        token_server.replies = [503]
        pauses = asyncio.Event()

        def may_retry() -> bool:
            pauses.set()
            return True

        endpoint = token_server.endpoint(policy=RetryPolicy(retry_seconds=100, budget_seconds=1000))
        deadline = asyncio.get_running_loop().time() + 1000
        await cancelled(endpoint.fetch(deadline=deadline, may_retry=may_retry), pauses)

        assert 1 == len(token_server.requests)

    async def test_during_the_secret(self, token_server: TokenServer) -> None:
        """A request that is cancelled while it asks for the secret cancels the callable, and sends nothing."""
        asked, told = asyncio.Event(), asyncio.Event()

        async def read() -> str:
            asked.set()
            try:
                return await asyncio.Future()
            except asyncio.CancelledError:
                told.set()
                raise

        credentials = token_server.credentials(client_secret=read)
        await cancelled(token_server.endpoint(credentials=credentials).request_token(), asked)

        assert told.is_set()
        assert [] == token_server.requests

    async def test_during_a_blocking_secret(self, token_server: TokenServer) -> None:
        """A request that is cancelled while a plain callable blocks ends at once."""
        loop = asyncio.get_running_loop()
        asked, returns = asyncio.Event(), threading.Event()

        def read() -> str:
            loop.call_soon_threadsafe(asked.set)
            returns.wait(5)
            return SECRET

        credentials = token_server.credentials(client_secret=read)
        try:
            await cancelled(token_server.endpoint(credentials=credentials).request_token(), asked)
        finally:
            returns.set()

        assert [] == token_server.requests

    async def test_during_a_wait_for_the_connector(self, token_server: TokenServer) -> None:
        """A request that is cancelled while it waits for a borrowed connection leaves the connector as it was."""
        connector = WatchedConnector(limit=1)
        async with (
            connector,
            aiohttp.ClientSession(connector=connector, connector_owner=False) as session,
        ):
            token_server.gate.clear()
            busy = asyncio.create_task(session.get(token_server.url))
            await token_server.arrived.wait()
            connector.asked.clear()
            endpoint = token_server.endpoint(connector=connector)
            await cancelled(endpoint.request_token(), connector.asked)
            token_server.gate.set()
            (await busy).release()
            await endpoint.request_token()

        assert ["GET", "POST"] == [request.method for request in token_server.requests]


class TestLogs:
    @pytest.mark.parametrize(
        ("auth_method", "is_dynamic"), [("client_secret_post", True), ("client_secret_basic", False)]
    )
    async def test_debug_mode(
        self, auth_method: str, *, is_dynamic: bool, quick: RetryPolicy, caplog: pytest.LogCaptureFixture
    ) -> None:
        """With asyncio's debug mode and every logger at DEBUG neither secret nor token is logged, whatever comes."""
        caplog.set_level(logging.DEBUG)
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = 0  # every step of every task is logged, with its repr
        echo = web.json_response({"error": "invalid_client", "error_description": SECRET}, status=401)
        certificate = authority().issue_cert("127.0.0.1")
        async with TokenServer(ssl_context=server_context(certificate)) as server, RawServer(says()) as broken:
            server.replies = [500, echo, {}]
            secret: Any = (lambda: SECRET) if is_dynamic else SECRET
            credentials = server.credentials(client_secret=secret, auth_method=auth_method)
            trusting = server.endpoint(credentials=credentials, policy=quick, ssl=client_context())
            errors = [
                await failure(trusting),
                await failure(raw_endpoint(broken, policy=quick)),
            ]
            await trusting.request_token()

        assert [InvalidClientError, TokenTransportError] == [type(error) for error in errors]
        assert not shows_secret("".join(everything_shown(error) for error in errors))
        assert re.search(r"took \d+\.\d+ seconds", caplog.text)
        assert not shows_secret(caplog.text)
        assert "canary-token" not in caplog.text
