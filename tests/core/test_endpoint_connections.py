"""`TokenEndpoint`: TLS and borrowed connectors."""

from __future__ import annotations

import asyncio
import ssl
from hashlib import sha256

import aiohttp
import pytest

from simplestore_async import RetryPolicy, TokenEndpoint
from simplestore_async.errors import (
    ConfigurationError,
)
from tests.support.raw_server import RawServer
from tests.support.servers import TokenServer
from tests.support.tls import authority, client_context, server_context
from tests.support.token_requests import (
    WatchedConnector,
    failure,
    raw_credentials,
    raw_endpoint,
)
from tests.support.wire_faults import repeats, says


class TestTls:
    async def test_private_authority(self) -> None:
        """A token endpoint of a private authority is reached with its context."""
        async with TokenServer(ssl_context=server_context(authority().issue_cert("127.0.0.1"))) as server:
            token = await server.endpoint(ssl=client_context()).request_token()

        assert "canary-token-1" == token.value

    async def test_fingerprint(self) -> None:
        """A certificate is accepted by its fingerprint."""
        certificate = authority().issue_cert("127.0.0.1")
        digest = ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())
        async with TokenServer(ssl_context=server_context(certificate)) as server:
            token = await server.endpoint(ssl=aiohttp.Fingerprint(sha256(digest).digest())).request_token()

        assert "canary-token-1" == token.value

    async def test_error_is_the_same_each_time(self, quick: RetryPolicy) -> None:
        """The text of an error holds no address of an object in memory."""
        async with RawServer(says()) as server:
            credentials = raw_credentials(server, token_url=f"https://127.0.0.1:{server.port}/connect/token")
        error = await failure(TokenEndpoint(credentials, policy=quick, ssl=client_context()))

        assert " object at 0x" not in str(error)


class TestBorrowedConnector:
    @pytest.mark.parametrize("replies", [[], [400], [503] * 3])
    async def test_stays_open(self, token_server: TokenServer, quick: RetryPolicy, replies: list[int]) -> None:
        """A borrowed connector of one connection serves all attempts and stays open for others, whatever came."""
        token_server.replies = list(replies)
        async with aiohttp.TCPConnector(limit=1) as connector:
            endpoint = token_server.endpoint(connector=connector, policy=quick)
            if replies:
                await failure(endpoint)
            await endpoint.request_token()

            assert not connector.closed
            async with aiohttp.ClientSession(connector=connector, connector_owner=False) as session:
                assert 200 == (await session.get(token_server.url)).status

    async def test_large_reply_frees_it(self) -> None:
        """An endless refusal does not keep the only connection of a borrowed connector."""
        async with (
            RawServer(repeats(b"HTTP/1.1 400 Bad Request\r\n\r\n", b" " * 65536)) as server,
            aiohttp.TCPConnector(limit=1) as connector,
        ):
            await failure(raw_endpoint(server, connector=connector))
            await failure(raw_endpoint(server, connector=connector))

            assert 2 == len(server.requests)

    async def test_busy(self, token_server: TokenServer) -> None:
        """While a caller's request holds the only connection the fetch waits its turn, and then works."""
        connector = WatchedConnector(limit=1)
        async with (
            connector,
            aiohttp.ClientSession(connector=connector, connector_owner=False) as session,
        ):
            token_server.gate.clear()
            busy = asyncio.create_task(session.get(token_server.url))
            await token_server.arrived.wait()
            connector.asked.clear()
            fetch = asyncio.create_task(token_server.endpoint(connector=connector).request_token())
            await connector.asked.wait()
            methods = [request.method for request in token_server.requests]
            token_server.gate.set()
            (await busy).release()

            assert "canary-token-2" == (await fetch).value
            assert ["GET"] == methods

    async def test_of_another_loop(self, token_server: TokenServer) -> None:
        """A connector of another event loop is a ConfigurationError, and nothing is sent."""

        async def make() -> aiohttp.TCPConnector:
            return aiohttp.TCPConnector()

        connector = await asyncio.to_thread(asyncio.run, make())
        with pytest.raises(ConfigurationError, match="belongs to another event loop"):
            await token_server.endpoint(connector=connector).request_token()

        assert [] == token_server.requests

    async def test_closed(self, token_server: TokenServer) -> None:
        """A closed connector is a ConfigurationError, and nothing is sent."""
        async with aiohttp.TCPConnector() as connector:
            pass
        with pytest.raises(ConfigurationError, match="is closed"):
            await token_server.endpoint(connector=connector).request_token()

        assert [] == token_server.requests
