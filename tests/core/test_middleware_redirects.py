"""`BearerAuthMiddleware`: redirects."""

from __future__ import annotations

import aiohttp
import pytest

from tests.support.api_requests import BEARER_1, BEARER_2, authorizations, fetch
from tests.support.api_servers import authorized_session, redirecting
from tests.support.resolver import LocalResolver
from tests.support.servers import ApiServer, TokenServer
from tests.support.tls import private_ca


class TestRedirects:
    async def test_within(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """Every hop within the origins carries the token."""
        api_server.handler = redirecting(api_server, {"/a": "/b", "/b": f"{api_server.url}/c"})
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            status, _ = await fetch(session, f"{api_server.url}/a")

        assert (200, [[BEARER_1]] * 3) == (status, authorizations(api_server))

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_other_port(self, token_server: TokenServer, api_server: ApiServer, status: int) -> None:
        """A redirect to another port carries no token there, whatever its status and the request's body."""
        async with (
            ApiServer() as other,
            token_server.provider() as provider,
            authorized_session(provider, api_server.url) as session,
        ):
            api_server.handler = redirecting(api_server, {"/a": f"{other.url}/stolen"}, status=status)
            last, _ = await fetch(session, f"{api_server.url}/a", "POST", data=b"body")

            assert ([[BEARER_1]], [[]]) == (authorizations(api_server), authorizations(other))
        assert (401, 1) == (last, len(token_server.requests))

    @pytest.mark.parametrize("host", ["localhost", "evil.example"])
    async def test_other_host(self, token_server: TokenServer, api_server: ApiServer, host: str) -> None:
        """A redirect to another host carries no token there, even on the same machine and port."""
        api_server.handler = redirecting(api_server, {"/a": f"http://{host}:{api_server.port}/stolen"})
        async with (
            token_server.provider() as provider,
            authorized_session(
                provider, api_server.url, connector=aiohttp.TCPConnector(resolver=LocalResolver())
            ) as session,
        ):
            await fetch(session, f"{api_server.url}/a", headers={"Authorization": "Bearer mine"})

        assert [[BEARER_1], []] == authorizations(api_server)

    async def test_downgrade_and_back(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """A redirect from https to http carries no token there, and does again once it leads back."""
        async with (
            ApiServer(ssl_context=private_ca().server) as secure,
            token_server.provider() as provider,
            authorized_session(
                provider, secure.url, connector=aiohttp.TCPConnector(ssl=private_ca().client)
            ) as session,
        ):
            secure.handler = redirecting(secure, {"/a": f"http://127.0.0.1:{api_server.port}/b"})
            api_server.handler = redirecting(api_server, {"/b": f"{secure.url}/c"})
            status, _ = await fetch(session, f"{secure.url}/a")

            assert ([[BEARER_1]] * 2, [[]]) == (authorizations(secure), authorizations(api_server))
        assert 200 == status

    async def test_other_port_and_back(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """A redirect that leaves the origins and comes back carries the token on the first and the last hop only."""
        async with (
            ApiServer() as other,
            token_server.provider() as provider,
            authorized_session(provider, api_server.url) as session,
        ):
            api_server.handler = redirecting(api_server, {"/a": f"{other.url}/b"})
            other.handler = redirecting(other, {"/b": f"{api_server.url}/c"})
            status, _ = await fetch(session, f"{api_server.url}/a")

            assert (200, [[BEARER_1]] * 2, [[]]) == (status, authorizations(api_server), authorizations(other))

    async def test_into(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """A redirect from elsewhere into the origins carries the token on its last hop."""
        async with (
            ApiServer() as other,
            token_server.provider() as provider,
            authorized_session(provider, api_server.url) as session,
        ):
            other.handler = redirecting(other, {"/a": f"{api_server.url}/b"})
            status, _ = await fetch(session, f"{other.url}/a")

            assert (200, [[BEARER_1]], [[]]) == (status, authorizations(api_server), authorizations(other))

    async def test_rejected_hop(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """A hop that is rejected is replayed itself, not the whole chain."""
        api_server.rejected.add("canary-token-1")
        reject = api_server.handler
        redirect = redirecting(api_server, {"/a": "/b"})
        api_server.handler = lambda request: (redirect if request.path == "/a" else reject)(request)
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            status, _ = await fetch(session, f"{api_server.url}/a")

        assert 200 == status
        assert [("/a", [BEARER_1]), ("/b", [BEARER_1]), ("/b", [BEARER_2])] == [
            (request.path, values)
            for request, values in zip(api_server.requests, authorizations(api_server), strict=True)
        ]
