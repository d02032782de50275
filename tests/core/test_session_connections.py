"""`open_session()`: TLS, connectors, middlewares and other options of aiohttp."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from simplestore_async import open_session
from simplestore_async.errors import ConfigurationError
from simplestore_async.sandbox import Response
from tests.support.api_requests import OneToken, get
from tests.support.resolver import LocalResolver
from tests.support.tls import private_ca

if TYPE_CHECKING:
    from simplestore_async.sandbox import Sandbox
    from tests.support.servers import ApiServer


async def test_own_connector(api_server: ApiServer) -> None:
    """The caller's connector is used and, with `connector_owner=False`, stays open."""
    async with aiohttp.TCPConnector(resolver=LocalResolver(), ssl=private_ca().client) as connector:
        async with open_session(
            OneToken(),
            base_url=f"http://api.example:{api_server.port}",
            allow_insecure_http=True,
            ssl=private_ca().client,
            connector=connector,
            connector_owner=False,
        ) as session:
            await get(session, "items")
            assert session.connector is connector

        assert not connector.closed
    assert ["own-token"] == api_server.tokens


@pytest.mark.parametrize(
    ("ssl", "connector_ssl", "field"),
    [
        (private_ca().client, True, "ssl"),
        (aiohttp.Fingerprint(bytes(32)), private_ca().client, "ssl"),
        (aiohttp.Fingerprint(bytes(32)), aiohttp.Fingerprint(bytes(32)), "ssl"),
        (None, False, "connector's ssl"),
        (False, None, "ssl"),
    ],
    ids=["context", "fingerprint and context", "two fingerprints", "connector without verification", "off"],
)
async def test_contradiction(ssl: Any, connector_ssl: Any, field: str) -> None:
    """A TLS setting that would have no effect, or disables verification, is refused."""
    connector = None if connector_ssl is None else aiohttp.TCPConnector(ssl=connector_ssl)
    with pytest.raises(ConfigurationError) as caught:
        open_session(OneToken(), base_url="https://api.example", ssl=ssl, connector=connector)
    if connector is not None:
        await connector.close()

    assert field == caught.value.field


async def test_is_rejected(sandbox: Sandbox) -> None:
    """`is_rejected` recognises the API's own way to reject a token."""
    sandbox.api.fail_next(1, Response(419))
    async with open_session(
        sandbox.credentials, base_url=sandbox.base_url, is_rejected=lambda status, _: status == 419
    ) as session:
        assert 200 == await get(session, "items")


async def test_client_options(sandbox: Sandbox) -> None:
    """Headers, cookies and other options apply to API requests and never to the token request."""

    class Request(aiohttp.ClientRequest):
        def update_auto_headers(self, skip_auto_headers: Any) -> None:
            super().update_auto_headers(skip_auto_headers)
            self.headers["X-Class"] = "mine"

    sandbox.fail_next(1)
    async with open_session(
        sandbox.credentials,
        base_url=sandbox.base_url,
        headers={"X-Tag": "mine", "Content-Type": "application/json", "Authorization": "Basic mine"},
        cookies={"session": "mine"},
        cookie_jar=aiohttp.CookieJar(unsafe=True),
        raise_for_status=True,
        json_serialize=lambda _: '"mine"',
        timeout=aiohttp.ClientTimeout(total=5),
        request_class=Request,
    ) as session:
        await (await session.post("items", json={})).read()

    (sent,) = sandbox.api.requests
    assert ["mine", "mine", "session=mine"] == [sent.headers[name] for name in ("X-Tag", "X-Class", "Cookie")]
    assert b'"mine"' == sent.body
    for request in sandbox.token_endpoint.requests:
        assert "application/x-www-form-urlencoded" == request.headers["Content-Type"]
        assert "mine" not in f"{dict(request.headers)} {request.body!r}"


async def test_callers_middlewares(sandbox: Sandbox) -> None:
    """The caller's middlewares run in order, outside of `BearerAuthMiddleware` and once for a replayed request."""
    seen: list[str] = []

    def named(name: str) -> aiohttp.ClientMiddlewareType:
        async def middleware(
            request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            seen.append(f"{name} {request.headers.get('Authorization')}")
            return await handler(request)

        return middleware

    sandbox.reject_next(1)
    async with open_session(
        sandbox.credentials, base_url=sandbox.base_url, middlewares=[named("outer"), named("inner")]
    ) as session:
        await get(session, "items")

    assert (["outer None", "inner None"], 2) == (seen, len(sandbox.api.requests))


@pytest.mark.parametrize("middlewares", [(), None])
async def test_no_middlewares(api_server: ApiServer, middlewares: Any) -> None:
    """Without middlewares of the caller requests still carry the token."""
    async with open_session(OneToken(), base_url=api_server.url, middlewares=middlewares) as session:
        await get(session, "items")

    assert ["own-token"] == api_server.tokens
