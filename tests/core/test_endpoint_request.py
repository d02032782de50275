"""`TokenEndpoint`: the request on the wire."""

from __future__ import annotations

import base64
import importlib.metadata
from typing import NoReturn
from urllib.parse import unquote, urlencode

import aiohttp
import pytest
from aiohttp import web

from simplestore_async import RetryPolicy, _core
from simplestore_async.errors import (
    TokenEndpointError,
)
from tests.support.raw_server import RawServer
from tests.support.servers import SECRET, TokenServer
from tests.support.token_requests import (
    GRANT,
    failure,
    raw_endpoint,
)
from tests.support.wire_faults import JSON_HEAD, hangs_after, says, shows_secret


class TestExchange:
    async def test_documented_request(self) -> None:
        """The request is the documented one, byte for byte, and holds nothing else."""
        async with RawServer(says(JSON_HEAD + b"Content-Length: %d\r\n\r\n" % len(GRANT), GRANT)) as server:
            token = await raw_endpoint(server).request_token()
            await server.clients_left()

            fields = {"grant_type": "client_credentials", "client_id": "app", "client_secret": SECRET}
            body = urlencode(fields)
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
        assert body == sent_body
        assert "canary-token" == token.value

    async def test_secret_in_form(self, token_server: TokenServer) -> None:
        """A secret of reserved characters arrives intact in the form, and in nothing but the form."""
        await token_server.endpoint().request_token()

        (request,) = token_server.requests
        fields = {"grant_type": "client_credentials", "client_id": "app", "client_secret": SECRET}
        assert list(fields.items()) == list(request.form.items())
        assert ("/connect/token", "") == (request.path, request.query)
        assert not shows_secret(str(request.headers))

    async def test_secret_in_header(self, token_server: TokenServer) -> None:
        """Under client_secret_basic id and secret arrive form-encoded inside base64, and nowhere else."""
        client_id = 'app:+&=%"é'
        credentials = token_server.credentials(client_id=client_id, auth_method="client_secret_basic")
        await token_server.endpoint(credentials=credentials).request_token()

        (request,) = token_server.requests
        scheme, _, encoded = request.headers["Authorization"].partition(" ")
        pair = base64.b64decode(encoded).decode()
        assert "Basic" == scheme
        assert [client_id, SECRET] == [unquote(part) for part in pair.split(":")]
        assert "+" not in pair
        assert {"grant_type": "client_credentials"} == request.form
        assert "" == request.query

    async def test_further_fields(self, token_server: TokenServer) -> None:
        """Scope and extra parameters follow the documented fields; the path and query of the token URL are kept."""
        credentials = token_server.credentials(
            token_url=f"{token_server.url}/a%2Fb?tenant=7", scope="read write", extra_parameters={"audience": "é"}
        )
        await token_server.endpoint(credentials=credentials).request_token()

        (request,) = token_server.requests
        assert ["grant_type", "client_id", "client_secret", "scope", "audience"] == list(request.form)
        assert ("read write", "é") == (request.form["scope"], request.form["audience"])
        assert ("/a/b", "tenant=7") == (request.path, request.query)

    async def test_headers(self, token_server: TokenServer) -> None:
        """Headers that a user adds arrive; they may replace the User-Agent and Accept."""
        headers = {"Ocp-Apim-Subscription-Key": "key", "user-agent": "shop/1.0", "Accept": "*/*"}
        await token_server.endpoint(headers=headers).request_token()

        (request,) = token_server.requests
        assert headers == {name: ", ".join(request.headers.getall(name)) for name in headers}

    async def test_without_metadata(self, token_server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """A package that was copied without its metadata gets tokens, and names its version."""

        def missing(name: str) -> NoReturn:
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(importlib.metadata.Distribution, "from_name", missing)
        await token_server.endpoint().request_token()

        assert f"simplestore-async/{_core.__version__}" == token_server.requests[0].headers["User-Agent"]

    async def test_no_cookies(self, token_server: TokenServer) -> None:
        """A cookie that the endpoint sets is never sent back, over a borrowed connector neither."""
        reply = web.json_response({"error": "busy"}, status=503, headers={"Set-Cookie": "session=1; Path=/"})
        token_server.replies = [reply]
        async with aiohttp.TCPConnector() as connector:
            endpoint = token_server.endpoint(connector=connector, policy=RetryPolicy(retry_seconds=0.01))
            await endpoint.request_token()
            await endpoint.request_token()

        assert [None] * 3 == [request.headers.get("Cookie") for request in token_server.requests]

    async def test_each_attempt_its_connection(self, quick: RetryPolicy) -> None:
        """No attempt reuses a connection that the endpoint may be about to close."""
        reply = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"
        async with RawServer(hangs_after(reply)) as server:
            await failure(raw_endpoint(server, policy=quick))
            await server.clients_left()

            assert (3, 3) == (server.connections, len(server.requests))


class TestRedirect:
    @pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
    async def test_not_followed(self, token_server: TokenServer, quick: RetryPolicy, status: int) -> None:
        """A redirect is a TokenEndpointError that says what to set; the other server sees nothing."""
        async with TokenServer() as other:
            token_server.replies = [web.Response(status=status, headers={"Location": other.token_url})]
            error = await failure(token_server.endpoint(policy=quick))

            assert TokenEndpointError is type(error)
            assert (status, False) == (error.status, error.retryable)
            assert "SIMPLESTORE_TOKEN_URL" in error.hint
            assert (1, 0) == (len(token_server.requests), len(other.requests))
