"""`BearerAuthMiddleware`: redirects; `BearerContract` has those to other ports and back."""

from __future__ import annotations

import aiohttp
import pytest

from tests.support.api_requests import ListSource, OneToken, fetch
from tests.support.api_servers import authorized_session, redirecting
from tests.support.resolver import LocalResolver
from tests.support.servers import ApiServer
from tests.support.tls import private_ca


@pytest.mark.parametrize("status", [302, 307])
@pytest.mark.parametrize("host", ["localhost", "evil.example"])
async def test_other_host(api_server: ApiServer, host: str, status: int) -> None:
    """A redirect to another host name carries no token, even on the same machine and port."""
    url = f"http://{host}:{api_server.port}/stolen"
    api_server.handler = redirecting(api_server, {"/a": url}, status=status)
    connector = aiohttp.TCPConnector(resolver=LocalResolver())
    async with authorized_session(OneToken(), api_server.url, connector=connector) as session:
        await fetch(session, f"{api_server.url}/a", headers={"Authorization": "Bearer mine"})

    assert ["own-token", None] == api_server.tokens


async def test_downgrade_and_back(api_server: ApiServer) -> None:
    """A redirect from https to http carries no token, and a further one back to https does."""
    connector = aiohttp.TCPConnector(ssl=private_ca().client)
    async with (
        ApiServer(ssl_context=private_ca().server) as secure,
        authorized_session(OneToken(), secure.url, connector=connector) as session,
    ):
        secure.handler = redirecting(secure, {"/a": f"http://127.0.0.1:{api_server.port}/b"})
        api_server.handler = redirecting(api_server, {"/b": f"{secure.url}/c"})
        status, _ = await fetch(session, f"{secure.url}/a")

    assert (200, ["own-token"] * 2, [None]) == (status, secure.tokens, api_server.tokens)


async def test_rejected_hop(api_server: ApiServer) -> None:
    """Only the rejected hop of a redirect chain is replayed."""
    api_server.rejected.add("first")
    reject = api_server.handler
    redirect = redirecting(api_server, {"/a": "/b"})
    api_server.handler = lambda request: (redirect if request.path == "/a" else reject)(request)
    async with authorized_session(ListSource("first", "second"), api_server.url) as session:
        status, _ = await fetch(session, f"{api_server.url}/a")

    assert 200 == status
    assert ["/a", "/b", "/b"] == [request.path for request in api_server.requests]
    assert ["first", "first", "second"] == api_server.tokens


async def test_callers_own_credentials(api_server: ApiServer) -> None:
    """A redirect to another origin carries none of the caller's credentials, as old versions of aiohttp did."""
    headers = {"Cookie": "a=b", "Proxy-Authorization": "Basic mine", "Authorization": "Basic mine", "X-Tag": "1"}
    async with ApiServer() as other, authorized_session(OneToken(), api_server.url) as session:
        api_server.handler = redirecting(api_server, {"/a": f"{other.url}/b"})
        await fetch(session, f"{api_server.url}/a", headers=headers, cookies={"c": "d"})

    assert {"X-Tag"} == headers.keys() & other.requests[0].headers.keys()
