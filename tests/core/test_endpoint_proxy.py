"""`TokenEndpoint` behind a proxy. Its host token.example is reachable only through a proxy or a test resolver."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING

import attrs
import pytest
from yarl import URL

from simplestore_async import ClientCredentials, TokenEndpoint
from simplestore_async.errors import ConfigurationError, TokenTransportError
from simplestore_async.sandbox import Sandbox
from tests.support.api_servers import ConnectProxy, refusing_url
from tests.support.raw_server import RawServer
from tests.support.servers import SECRET
from tests.support.tls import client_context, private_ca
from tests.support.token_requests import CLOSED, failure, raw_credentials
from tests.support.tracebacks import everything_shown
from tests.support.wire_faults import hangs_after, says, shows_secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from simplestore_async import RetryPolicy
    from tests.support.raw_server import Script

USERINFO = "us%40er:hunter%3A2"
AUTHORIZATION = b"Proxy-Authorization: Basic " + base64.b64encode(b"us@er:hunter:2")


@pytest.fixture
async def server() -> AsyncIterator[Sandbox]:
    async with Sandbox(client_secret=SECRET, ssl_context=private_ca().server) as server:
        yield server


@pytest.fixture
def credentials(server: Sandbox) -> ClientCredentials:
    return attrs.evolve(server.credentials, token_url="https://token.example/connect/token")


@pytest.fixture
def port(server: Sandbox) -> int | None:
    return URL(server.token_url).port


def shows_password(text: str) -> bool:
    return "hunter" in text or AUTHORIZATION.decode() in text


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_argument(server: Sandbox, credentials: ClientCredentials, port: int, scheme: str) -> None:
    """The proxy receives a CONNECT with its own credentials, and nothing of the token request."""
    tls = private_ca().server if scheme == "https" else None
    async with ConnectProxy(port=port, ssl_context=tls) as proxy:
        url = f"{scheme}://{USERINFO}@127.0.0.1:{proxy.port}"
        await TokenEndpoint(credentials, proxy=url, ssl=client_context()).request_token()
        await proxy.clients_left()

    (request,) = proxy.requests
    start, *headers = request.split(b"\r\n")
    assert b"CONNECT token.example:443 HTTP/1.1" == start
    assert AUTHORIZATION in headers
    assert not shows_secret(request.decode())
    assert "Proxy-Authorization" not in server.requests[0].headers


async def test_plain_http(sandbox: Sandbox) -> None:
    """A proxy is refused for a plain-http token URL."""
    with pytest.raises(ConfigurationError) as caught:
        TokenEndpoint(sandbox.credentials, proxy="http://us:hunter2@proxy.example:3128")

    assert "token_url" == caught.value.field


async def test_plain_http_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain-http token request is not sent to a proxy from the environment, even if plain http is allowed."""
    async with RawServer(says()) as proxy:
        monkeypatch.setenv("http_proxy", f"http://{USERINFO}@127.0.0.1:{proxy.port}")
        credentials = raw_credentials(proxy, token_url="http://token.example/", allow_insecure_http=True)
        with pytest.raises(ConfigurationError, match=r"^token_url uses plain http"):
            await TokenEndpoint(credentials, trust_env=True).request_token()

        assert 0 == proxy.connections


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (says(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"), "the proxy returned status 407"),
        (says(), CLOSED),
        (None, "cannot connect to the proxy 127.0.0.1:{} ("),
    ],
    ids=["refuses", "closes", "unreachable"],
)
async def test_failing_proxy(
    credentials: ClientCredentials, quick: RetryPolicy, script: Script | None, problem: str
) -> None:
    """A proxy that opens no tunnel causes a retryable TokenTransportError that shows no password."""
    async with RawServer(script or says()) as proxy:
        url = URL(proxy.url if script else refusing_url())
        endpoint = TokenEndpoint(credentials, proxy=f"http://{USERINFO}@{url.authority}", policy=quick)
        error = await failure(endpoint)

    assert (TokenTransportError, True) == (type(error), error.retryable)
    expected = f"token request to https://token.example/connect/token failed: {problem.format(url.port)}"
    assert str(error).startswith(expected)
    assert not shows_secret(everything_shown(error))
    assert not shows_password(everything_shown(error))


async def test_untrusted_behind_proxy(server: Sandbox, credentials: ClientCredentials, port: int) -> None:
    """Certificates are also verified inside the tunnel."""
    async with ConnectProxy(port=port) as proxy:
        error = await failure(TokenEndpoint(credentials, proxy=f"http://127.0.0.1:{proxy.port}"))

    assert (False, "certificate") == (error.retryable, error.code)
    assert (1, 0) == (len(proxy.requests), len(server.requests))


async def test_cancelled_in_proxy(credentials: ClientCredentials, monkeypatch: pytest.MonkeyPatch) -> None:
    """The traceback of a request cancelled at the proxy shows neither secret nor proxy password."""
    async with RawServer(hangs_after()) as proxy:
        monkeypatch.setenv("https_proxy", f"http://{USERINFO}@127.0.0.1:{proxy.port}")
        request = asyncio.create_task(TokenEndpoint(credentials, trust_env=True).request_token())
        await proxy.arrived.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await request
        await proxy.clients_left()
    shown = everything_shown(caught.value)

    assert not shows_secret(shown)
    assert not shows_password(shown)
