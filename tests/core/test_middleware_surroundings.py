"""`BearerAuthMiddleware` with timeouts, proxies, certificates and other features of aiohttp."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from simplestore_async.errors import ConfigurationError, TokenTimeoutError
from tests.support.api_requests import ListSource, OneToken, fetch
from tests.support.api_servers import ConnectProxy, authorized_session
from tests.support.servers import ApiServer
from tests.support.tls import private_ca

if TYPE_CHECKING:
    from simplestore_async.sandbox import Sandbox

UNCHECKED_NAME = ssl.create_default_context()
UNCHECKED_NAME.check_hostname = False


class TestSurroundings:
    async def test_callers_timeout(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        """A caller's timeout during the renewal ends its request, and the renewal continues for the others."""
        with sandbox.token_endpoint.hold() as held:
            hasty = asyncio.create_task(fetch(session, "items", timeout=aiohttp.ClientTimeout(total=0.05)))
            await held.wait_for_requests()
            patient = asyncio.create_task(fetch(session, "items"))
            with pytest.raises(TimeoutError) as caught:
                await hasty
        status, _ = await patient

        assert not isinstance(caught.value, TokenTimeoutError)
        assert (200, [1, 1]) == (status, [request.token_number for request in sandbox.requests])

    async def test_raise_for_status(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        """`raise_for_status=True` applies to the response of the replay, not to the rejection."""
        sandbox.reject_next(1)
        status, _ = await fetch(session, "items", raise_for_status=True)
        sandbox.reject_next(2)
        with pytest.raises(aiohttp.ClientResponseError, match="401"):
            await session.get("items", raise_for_status=True)

        assert 200 == status

    @pytest.mark.parametrize("where", ["session", "request", "environment"])
    async def test_http_proxy(self, api_server: ApiServer, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
        """A plain-http request through a proxy is refused even for loopback, and reaches neither proxy nor API."""
        async with ConnectProxy() as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            async with authorized_session(
                OneToken(),
                api_server.url,
                proxy=proxy.url if where == "session" else None,
                trust_env=where == "environment",
            ) as session:
                with pytest.raises(ConfigurationError, match=f"plain http to {api_server.url}") as caught:
                    await session.get(api_server.url, proxy=proxy.url if where == "request" else None)

            assert "proxy" == caught.value.field
            assert ([], []) == (proxy.heads, api_server.requests)

    async def test_http_proxy_outside(self, api_server: ApiServer) -> None:
        """A plain-http request outside the origins may use a proxy, and carries no token."""
        async with ConnectProxy() as proxy, authorized_session(OneToken(), "https://api.example") as session:
            status, _ = await fetch(session, api_server.url, proxy=proxy.url)

            assert (502, [None]) == (status, [head.token for head in proxy.heads])

    async def test_opt_out(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        """`middlewares=()` on a request sends it without a token."""
        status, _ = await fetch(session, "items", middlewares=())

        assert (401, [None]) == (status, [request.token_number for request in sandbox.requests])


class TestCertificates:
    @pytest.mark.filterwarnings("ignore:verify_ssl is deprecated", "ignore:ssl_context is deprecated")
    @pytest.mark.parametrize(
        ("connector", "options"),
        [
            ({"ssl": False}, {}),
            ({}, {"ssl": False}),
            ({}, {"verify_ssl": False}),
            ({}, {"ssl_context": UNCHECKED_NAME}),
        ],
        ids=["connector", "ssl", "verify_ssl", "ssl_context"],
    )
    async def test_not_verifying(self, connector: dict[str, Any], options: dict[str, Any]) -> None:
        """A request that would not verify the certificate is refused before a token is requested."""
        url = "https://api.example"
        connection = aiohttp.TCPConnector(**connector)
        async with authorized_session(ListSource(), url, connector=connection) as session:
            with pytest.raises(ConfigurationError) as caught:
                await session.get(url, **options)

        assert "certificates-not-checked" == caught.value.code

    async def test_outside(self) -> None:
        """Outside the origins a request may skip verification, since it carries no token."""
        async with (
            ApiServer(ssl_context=private_ca().server) as api_server,
            authorized_session(ListSource(), "https://api.example") as session,
        ):
            status, _ = await fetch(session, api_server.url, ssl=False)

        assert 401 == status

    @pytest.mark.parametrize("scheme", ["https", "wss"])
    @pytest.mark.parametrize("has_proxy", [False, True])
    async def test_wrong_fingerprint(self, *, scheme: str, has_proxy: bool) -> None:
        """A server whose certificate does not match the fingerprint gets no token, directly or through a proxy."""
        fingerprint = aiohttp.Fingerprint(bytes(32))
        async with (
            ApiServer(ssl_context=private_ca().server) as api_server,
            ConnectProxy() as proxy,
            authorized_session(OneToken(), api_server.url, proxy=proxy.url if has_proxy else None) as session,
        ):
            url = f"{scheme}://127.0.0.1:{api_server.port}/"
            send = session.ws_connect if scheme == "wss" else session.get
            with pytest.raises(aiohttp.ServerFingerprintMismatch):
                await send(url, ssl=fingerprint)

            assert ([], has_proxy) == (api_server.requests, bool(proxy.heads))
