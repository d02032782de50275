"""`TokenEndpoint`: the request on the wire."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlencode

import aiohttp
import attrs
import pytest

from simplestore_async import TokenEndpoint, _core
from simplestore_async.errors import TokenEndpointError
from simplestore_async.sandbox import Response, Sandbox
from tests.support.raw_server import RawServer
from tests.support.servers import SECRET
from tests.support.token_requests import GRANT, failure, raw_credentials, raw_endpoint
from tests.support.wire_faults import JSON_HEAD, hangs_after, says

if TYPE_CHECKING:
    from pathlib import Path

    from simplestore_async import RetryPolicy


async def test_documented_request() -> None:
    """The request on the wire is exactly the documented one."""
    async with RawServer(says(JSON_HEAD + b"Content-Length: %d\r\n\r\n" % len(GRANT), GRANT)) as server:
        token = await raw_endpoint(server).request_token()
        await server.clients_left()

    body = urlencode({"grant_type": "client_credentials", "client_id": "app", "client_secret": SECRET})
    headers = {
        f"Host: 127.0.0.1:{server.port}",
        "Accept: application/json",
        "Accept-Encoding: identity",
        "Connection: close",
        f"Content-Length: {len(body)}",
        "Content-Type: application/x-www-form-urlencoded",
        f"User-Agent: simplestore-async/{_core.__version__}",
    }
    (request,) = server.requests
    head, _, sent_body = request.decode().partition("\r\n\r\n")
    start, *sent_headers = head.split("\r\n")
    assert "POST /connect/token HTTP/1.1" == start
    assert sorted(headers) == sorted(sent_headers)
    assert (body, "canary-token") == (sent_body, token.value)


async def test_path_and_query() -> None:
    """Path and query of the token URL are sent unchanged."""
    async with RawServer(says(JSON_HEAD + b"\r\n" + GRANT)) as server:
        credentials = raw_credentials(server, token_url=f"{server.url}/a%2Fb?tenant=7")
        await TokenEndpoint(credentials).request_token()

    assert server.requests[0].startswith(b"POST /a%2Fb?tenant=7 HTTP/1.1\r\n")


async def test_headers(sandbox: Sandbox) -> None:
    """Custom headers are sent, and may replace User-Agent and Accept."""
    headers = {"Ocp-Apim-Subscription-Key": "key", "user-agent": "shop/1.0", "Accept": "*/*"}
    await TokenEndpoint(sandbox.credentials, headers=headers).request_token()

    (request,) = sandbox.requests
    assert headers == {name: ", ".join(request.headers.getall(name)) for name in headers}


async def test_without_metadata(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The User-Agent names the version even if the package's metadata is missing."""

    def missing(name: str) -> NoReturn:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata.Distribution, "from_name", missing)
    await TokenEndpoint(sandbox.credentials).request_token()

    assert f"simplestore-async/{_core.__version__}" == sandbox.requests[0].headers["User-Agent"]


async def test_no_cookies(sandbox: Sandbox, quick: RetryPolicy) -> None:
    """Cookies set by the endpoint are never sent back, not even over a borrowed connector."""
    sandbox.fail_next(1, Response(503, headers={"Set-Cookie": "session=1; Path=/"}))
    async with aiohttp.TCPConnector() as connector:
        endpoint = TokenEndpoint(sandbox.credentials, connector=connector, policy=quick)
        for _ in range(2):
            await endpoint.request_token()

    assert [None] * 3 == [request.headers.get("Cookie") for request in sandbox.requests]


async def test_new_connection_for_each_attempt(quick: RetryPolicy) -> None:
    """No attempt reuses a connection, which the endpoint may be about to close."""
    reply = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"
    async with RawServer(hangs_after(reply)) as server:
        await failure(raw_endpoint(server, policy=quick))
        await server.clients_left()

        assert (3, 3) == (server.connections, len(server.requests))


async def test_redirect(sandbox: Sandbox, quick: RetryPolicy) -> None:
    """A redirect raises a TokenEndpointError and is not followed."""
    async with Sandbox() as other:
        sandbox.fail_next(1, Response(307, headers={"Location": other.token_url}))
        error = await failure(TokenEndpoint(sandbox.credentials, policy=quick))

        assert (TokenEndpointError, False) == (type(error), error.retryable)
        assert (1, 0) == (len(sandbox.requests), len(other.requests))


@pytest.mark.parametrize("auth_method", ["client_secret_basic", "client_secret_post"])
async def test_netrc(sandbox: Sandbox, auth_method: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials from netrc are never sent, not even with `trust_env`."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login intruder password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    credentials = attrs.evolve(sandbox.credentials, auth_method=auth_method)
    await TokenEndpoint(credentials, trust_env=True).request_token()

    expected = ["Basic ***"] if auth_method == "client_secret_basic" else []
    assert expected == sandbox.requests[0].headers.getall("Authorization", [])
