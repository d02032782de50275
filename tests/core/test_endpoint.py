"""`TokenEndpoint`: arguments, the request on the wire, lifetimes and borrowed connectors."""

from __future__ import annotations

import asyncio
from functools import partialmethod
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock
from urllib.parse import urlencode

import aiohttp
import attrs
import pytest
from aioresponses import aioresponses

from simplestore_async import ClientCredentials, RetryPolicy, TokenEndpoint, TokenProvider, _core
from simplestore_async.errors import ConfigurationError, TokenEndpointError, TokenResponseError
from simplestore_async.sandbox import Response, Sandbox, Status
from tests.support.raw_server import RawServer
from tests.support.servers import SECRET
from tests.support.tls import client_context
from tests.support.token_requests import GRANT, failure, raw_credentials, raw_endpoint
from tests.support.wire_faults import JSON_HEAD, hangs_after, repeats, says

if TYPE_CHECKING:
    from pathlib import Path

    from simplestore_async import AccessToken
    from tests.support.clocks import FakeClock

CREDENTIALS = ClientCredentials(client_id="app", client_secret=SECRET)


def refused(**arguments: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        TokenEndpoint(**{"credentials": CREDENTIALS} | arguments)
    return caught.value


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("ssl", {"ssl": aiohttp.Fingerprint(bytes(32))}),
        ("proxy", {"proxy": "http://proxy.example:3128"}),
        ("proxy", {"trust_env": True}),
    ],
)
async def test_conflict_with_connector(field: str, arguments: Any) -> None:
    """`ssl`, `proxy` and `trust_env` are refused with a connector that ignores them; all connectors must verify."""
    async with aiohttp.UnixConnector("/run/simplestore.sock") as connector:
        assert field == refused(connector=connector, **arguments).field
    async with aiohttp.TCPConnector(ssl=False) as connector:
        assert "connector's ssl" == refused(connector=connector).field
    async with aiohttp.TCPConnector(ssl=client_context()) as connector:
        assert field == "proxy" or field == refused(connector=connector, **arguments).field


async def test_no_conflict_with_connector() -> None:
    """`ssl` and `proxy` may accompany a plain TCPConnector, and a connector with its own TLS context works alone."""
    async with aiohttp.TCPConnector() as plain, aiohttp.TCPConnector(ssl=client_context()) as own:
        TokenEndpoint(CREDENTIALS, connector=plain, ssl=client_context(), proxy="http://proxy.example:3128")
        TokenEndpoint(CREDENTIALS, connector=own)


async def test_documented_request() -> None:
    """The request on the wire is exactly the documented one, with path and query of the token URL unchanged."""
    async with RawServer(says(JSON_HEAD + b"Content-Length: %d\r\n\r\n" % len(GRANT), GRANT)) as server:
        credentials = raw_credentials(server, token_url=f"{server.token_url}/a%2Fb?tenant=7")
        token = await TokenEndpoint(credentials).request_token()
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
    assert "POST /connect/token/a%2Fb?tenant=7 HTTP/1.1" == start
    assert sorted(headers) == sorted(sent_headers)
    assert (body, "canary-token") == (sent_body, token.value)


async def test_headers(sandbox: Sandbox) -> None:
    """Custom headers are sent, and may replace User-Agent and Accept."""
    headers = {"Ocp-Apim-Subscription-Key": "key", "user-agent": "shop/1.0", "Accept": "*/*"}
    await TokenEndpoint(sandbox.credentials, headers=headers).request_token()

    (request,) = sandbox.requests
    assert headers == {name: ", ".join(request.headers.getall(name)) for name in headers}


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


class AioResponse(aiohttp.ClientResponse):
    """A response with the `stream_writer` that aiohttp 3.14 requires and aioresponses 0.7.9 does not pass."""

    __init__ = partialmethod(aiohttp.ClientResponse.__init__, stream_writer=Mock(output_size=0))


async def test_aioresponses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider gets its token through aioresponses."""
    monkeypatch.setattr("aioresponses.core.ClientResponse", AioResponse)
    url = "https://store.example/connect/token"
    credentials = ClientCredentials(client_id="app", client_secret="secret", token_url=url)
    with aioresponses() as patched:
        patched.post(url, payload={"access_token": "canary-token", "expires_in": 3600, "token_type": "Bearer"})
        async with TokenProvider(credentials) as provider:
            assert "canary-token" == (await provider.get_token()).value


async def request_while(
    sandbox: Sandbox, clock: FakeClock, seconds: float, *, step: float = 0, attempts: int = 2
) -> tuple[AccessToken, float]:
    """Advance and step the clock during a token request; return the token and the time of its request."""
    policy = RetryPolicy(attempts=attempts, retry_seconds=0.01)
    endpoint = TokenEndpoint(sandbox.credentials, clock=clock, policy=policy)
    deadline = asyncio.get_running_loop().time() + 5
    with sandbox.token_endpoint.hold() as held:
        fetch = asyncio.create_task(endpoint.fetch(deadline=deadline, may_retry=lambda: True))
        await held.wait_for_requests()
        clock.advance(seconds)
        clock.step_wall(step)
    return await fetch


@pytest.mark.parametrize(
    ("seconds", "step"), [(0, 0), (59.9, 0), (0, -86_400), (0, 86_400)], ids=["at once", "late", "back", "ahead"]
)
async def test_counted_from_the_request(sandbox: Sandbox, clock: FakeClock, seconds: float, step: float) -> None:
    """A token's lifetime starts at its request, whatever the wall clock does until it arrives."""
    sandbox.lifetime_seconds = 60
    token, requested_at = await request_while(sandbox, clock, seconds, step=step)

    assert (1_000, 1_700_000_000, 1_700_000_060) == (requested_at, token.issued_at, token.expires_at)
    assert 1 == len(sandbox.requests)


@pytest.mark.parametrize("seconds", [60, 1e6])
async def test_expired_on_arrival(sandbox: Sandbox, clock: FakeClock, seconds: float) -> None:
    """A token that expires before it arrives causes a retryable TokenResponseError."""
    sandbox.lifetime_seconds = 60
    with pytest.raises(TokenResponseError) as caught:
        await request_while(sandbox, clock, seconds, attempts=1)

    assert "token request failed: the token of 60 s had expired when it arrived" == str(caught.value)
    assert caught.value.retryable


async def test_counted_from_the_attempt(sandbox: Sandbox, clock: FakeClock) -> None:
    """A token's lifetime starts at the attempt that obtained it, not at the first attempt."""
    sandbox.lifetime_seconds = 60
    token, requested_at = await request_while(sandbox, clock, 60)

    assert (1_060, 1_700_000_060) == (requested_at, token.issued_at)
    assert 2 == len(sandbox.requests)


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
