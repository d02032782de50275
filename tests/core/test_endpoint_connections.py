"""`TokenEndpoint`: TLS, borrowed connectors, and cancelled requests."""

from __future__ import annotations

import asyncio
import ssl
from hashlib import sha256

import aiohttp
import pytest

from simplestore_async import RetryPolicy, TokenEndpoint
from simplestore_async.errors import ConfigurationError
from simplestore_async.sandbox import Sandbox, Status
from tests.support.raw_server import RawServer
from tests.support.tls import authority, client_context, server_context
from tests.support.token_requests import WatchedConnector, cancelled, failure, raw_credentials, raw_endpoint
from tests.support.wire_faults import JSON_HEAD, everything_shown, hangs_after, repeats, shows_secret


@pytest.mark.parametrize("by", ["authority", "fingerprint"])
async def test_private_certificate(by: str) -> None:
    """A private certificate is trusted through an SSL context of its authority or by its fingerprint."""
    certificate = authority().issue_cert("127.0.0.1")
    digest = sha256(ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())).digest()
    trust = client_context() if by == "authority" else aiohttp.Fingerprint(digest)
    async with Sandbox(ssl_context=server_context(certificate)) as sandbox:
        await TokenEndpoint(sandbox.credentials, ssl=trust).request_token()

        assert 1 == sandbox.counters.tokens_issued


class TestBorrowedConnector:
    @pytest.mark.parametrize("faults", [[], [Status(400)], [Status(503)] * 3], ids=["none", "refusal", "outage"])
    async def test_stays_open(self, sandbox: Sandbox, quick: RetryPolicy, faults: list[Status]) -> None:
        """A borrowed connector with one connection serves all attempts and stays open, whatever the outcome."""
        for fault in faults:
            sandbox.fail_next(1, fault)
        async with aiohttp.TCPConnector(limit=1) as connector:
            endpoint = TokenEndpoint(sandbox.credentials, connector=connector, policy=quick)
            if faults:
                await failure(endpoint)
            await endpoint.request_token()

            assert not connector.closed

    async def test_endless_response(self) -> None:
        """An endless response does not block the only connection of a borrowed connector."""
        async with (
            RawServer(repeats(b"HTTP/1.1 400 Bad Request\r\n\r\n", b" " * 65536)) as server,
            aiohttp.TCPConnector(limit=1) as connector,
        ):
            await failure(raw_endpoint(server, connector=connector))
            await failure(raw_endpoint(server, connector=connector))

            assert 2 == len(server.requests)

    async def test_busy(self, sandbox: Sandbox) -> None:
        """A token request waits for the connector's only connection, even after another waiting one was cancelled."""
        connector = WatchedConnector(limit=1)
        async with connector, aiohttp.ClientSession(connector=connector, connector_owner=False) as session:
            held = sandbox.api.hold()
            busy = asyncio.create_task(session.get(sandbox.base_url))
            await held.wait_for_requests()
            endpoint = TokenEndpoint(sandbox.credentials, connector=connector)
            connector.asked.clear()
            await cancelled(endpoint.request_token(), connector.asked)
            connector.asked.clear()
            fetch = asyncio.create_task(endpoint.request_token())
            await connector.asked.wait()
            held.release()
            (await busy).release()
            await fetch

        assert ["GET", "POST"] == [request.method for request in sandbox.requests]

    async def test_closed(self, sandbox: Sandbox) -> None:
        """A closed connector raises a ConfigurationError, and nothing is sent."""
        async with aiohttp.TCPConnector() as connector:
            pass
        with pytest.raises(ConfigurationError, match="is closed"):
            await TokenEndpoint(sandbox.credentials, connector=connector).request_token()

        assert () == sandbox.requests


class TestCancellation:
    @pytest.mark.parametrize("auth_method", ["client_secret_post", "client_secret_basic"])
    async def test_during_the_response(self, auth_method: str) -> None:
        """Cancelling a request while it reads the response closes the connection and shows no secret."""
        reached = asyncio.Event()
        async with RawServer(hangs_after(JSON_HEAD + b"Content-Length: 99\r\n\r\n{", reached=reached)) as server:
            endpoint = TokenEndpoint(raw_credentials(server, auth_method=auth_method))
            shown = everything_shown(await cancelled(endpoint.request_token(), reached))
            await server.clients_left()

        assert not shows_secret(shown)

    async def test_during_the_handshake(self) -> None:
        """Cancelling a request during the TLS handshake closes the connection."""
        async with RawServer(hangs_after(), reads_first=False) as server:
            credentials = raw_credentials(server, token_url=f"https://127.0.0.1:{server.port}/")
            await cancelled(TokenEndpoint(credentials).request_token(), server.arrived)
            await server.clients_left()

            assert 1 == server.connections

    async def test_during_a_pause(self, sandbox: Sandbox) -> None:
        """Cancelling a request between two attempts prevents the next attempt."""
        sandbox.fail_next(1)
        pauses = asyncio.Event()

        def may_retry() -> bool:
            pauses.set()
            return True

        endpoint = TokenEndpoint(sandbox.credentials, policy=RetryPolicy(retry_seconds=100, budget_seconds=1000))
        deadline = asyncio.get_running_loop().time() + 1000
        await cancelled(endpoint.fetch(deadline=deadline, may_retry=may_retry), pauses)

        assert 1 == len(sandbox.requests)
