"""`BearerAuthMiddleware`: timeouts, proxies and other parts of aiohttp."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import aiohttp
import pytest

from simplestore_async.errors import ConfigurationError, TokenTimeoutError
from tests.support.api_requests import BEARER_1, BEARER_2, authorizations, fetch
from tests.support.api_servers import ConnectProxy, WireServer, authorized_session, redirecting
from tests.support.servers import ApiServer, TokenServer
from tests.support.tls import private_ca

UNCHECKED_NAME = ssl.create_default_context()
UNCHECKED_NAME.check_hostname = False
UNCHECKED_SERVER = ssl.create_default_context()
UNCHECKED_SERVER.check_hostname = False
UNCHECKED_SERVER.verify_mode = ssl.CERT_NONE


class TestSurroundings:
    async def test_callers_timeout(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """A caller's own timeout during the renewal ends its request, and leaves the renewal to the others."""
        token_server.gate.clear()
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            hasty = asyncio.create_task(fetch(session, api_server.url, timeout=aiohttp.ClientTimeout(total=0.05)))
            await token_server.arrived.wait()
            patient = asyncio.create_task(fetch(session, api_server.url))
            with pytest.raises(TimeoutError) as caught:
                await hasty
            token_server.gate.set()
            status, _ = await patient

        assert not isinstance(caught.value, TokenTimeoutError)
        assert (200, [[BEARER_1]], 1) == (status, authorizations(api_server), len(token_server.requests))

    async def test_callers_timeout_after_rejection(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """A caller's own timeout during the renewal after a rejection ends its request only."""
        api_server.rejected.add("canary-token-1")
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            await provider.get_token()
            token_server.arrived.clear()
            token_server.gate.clear()
            hasty = asyncio.create_task(fetch(session, api_server.url, timeout=aiohttp.ClientTimeout(total=0.3)))
            await token_server.arrived.wait()
            with pytest.raises(TimeoutError):
                await hasty
            token_server.gate.set()
            status, _ = await fetch(session, api_server.url)

        assert (200, [[BEARER_1], [BEARER_2]]) == (status, authorizations(api_server))
        assert 2 == len(token_server.requests)

    @pytest.mark.parametrize("where", ["session", "request"])
    async def test_raise_for_status(self, token_server: TokenServer, api_server: ApiServer, where: str) -> None:
        """`raise_for_status=True` acts after the replay: a token that was renewed raises nothing."""
        api_server.rejected.add("canary-token-1")
        options: dict[str, Any] = {"raise_for_status": True}
        async with (
            token_server.provider() as provider,
            authorized_session(provider, api_server.url, **(options if where == "session" else {})) as session,
        ):
            status, _ = await fetch(session, api_server.url, **(options if where == "request" else {}))
            api_server.rejected.add("canary-token-2")
            api_server.rejected.add("canary-token-3")
            with pytest.raises(aiohttp.ClientResponseError, match="401"):
                await session.get(api_server.url, **options)

        assert 200 == status

    @pytest.mark.parametrize("where", ["session", "request", "environment"])
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "api.example"])
    async def test_http_proxy(
        self, token_server: TokenServer, api_server: ApiServer, monkeypatch: pytest.MonkeyPatch, host: str, where: str
    ) -> None:
        """Plain http through a proxy is refused, for loopback too; neither proxy nor API see anything."""
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        url = f"http://{host}:{api_server.port}"
        async with ConnectProxy() as proxy, token_server.provider() as provider:
            monkeypatch.setenv("http_proxy", proxy.url)
            async with authorized_session(
                provider,
                url,
                allow_insecure_http=True,
                proxy=proxy.url if where == "session" else None,
                trust_env=where == "environment",
            ) as session:
                with pytest.raises(ConfigurationError, match=f"plain http to {url}") as caught:
                    await session.get(url, proxy=proxy.url if where == "request" else None)

            assert "proxy" == caught.value.field
            assert ([], []) == (proxy.heads, api_server.requests)

    async def test_http_proxy_outside(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """A plain http request outside the origins may pass through a proxy, without a token."""
        async with (
            ConnectProxy() as proxy,
            token_server.provider() as provider,
            authorized_session(provider, "https://api.example") as session,
        ):
            status, _ = await fetch(session, api_server.url, proxy=proxy.url)

            assert (502, [None]) == (status, [head.token for head in proxy.heads])

    @pytest.mark.parametrize("where", ["request", "environment"])
    async def test_https_proxy(self, token_server: TokenServer, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
        """A request by https goes through the proxy's tunnel with the token inside, and again after a rejection."""
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with (
            ApiServer(ssl_context=private_ca().server) as api,
            ConnectProxy({"api.example:443": api.port}) as proxy,
            token_server.provider() as provider,
            authorized_session(
                provider,
                "https://api.example",
                connector=aiohttp.TCPConnector(ssl=private_ca().client),
                trust_env=where == "environment",
            ) as session,
        ):
            monkeypatch.setenv("https_proxy", proxy.url)
            api.rejected.add("canary-token-1")
            options: dict[str, Any] = {"proxy": proxy.url} if where == "request" else {}
            status, _ = await fetch(session, "https://api.example/items", **options)

            assert (200, {"api.example:443"}) == (status, proxy.targets)
            assert [[BEARER_1], [BEARER_2]] == authorizations(api)
            assert b"canary" not in proxy.seen
            assert b"uthorization" not in proxy.seen

    async def test_opt_out(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """`middlewares=()` on a request sends it without a token."""
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            status, _ = await fetch(session, api_server.url, middlewares=())

        assert (401, [[]], []) == (status, authorizations(api_server), token_server.requests)

    async def test_callers_middlewares(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """A middleware outside ours runs once for a replayed request, and sees the token neither before nor after."""
        seen: list[tuple[int, str | None, str | None]] = []

        async def outer(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
            before = request.headers.get("Authorization")
            response = await handler(request)
            seen.append((response.status, before, request.headers.get("Authorization")))
            return response

        api_server.rejected.add("canary-token-1")
        async with (
            token_server.provider() as provider,
            authorized_session(provider, api_server.url, middlewares=[outer]) as session,
        ):
            await fetch(session, api_server.url)

        assert ([(200, None, None)], 2) == (seen, len(api_server.requests))

    async def test_headers_kept(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """Every other header of the caller's is sent, with the replay too."""
        api_server.rejected.add("canary-token-1")
        headers = {"X-Tag": "1", "Cookie": "a=b", "Proxy-Authorization": "mine"}
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            await fetch(session, api_server.url, headers=headers)

        assert [headers] * 2 == [{name: request.headers[name] for name in headers} for request in api_server.requests]


class TestCertificates:
    @pytest.mark.filterwarnings("ignore:verify_ssl is deprecated", "ignore:ssl_context is deprecated")
    @pytest.mark.parametrize(
        ("connector", "options"),
        [
            ({"ssl": False}, {}),
            ({"ssl": UNCHECKED_SERVER}, {}),
            ({"ssl": UNCHECKED_NAME}, {}),
            ({}, {"ssl": False}),
            ({}, {"ssl": UNCHECKED_SERVER}),
            ({}, {"ssl": UNCHECKED_NAME}),
            ({}, {"verify_ssl": False}),
            ({}, {"ssl_context": UNCHECKED_SERVER}),
        ],
    )
    async def test_not_checked(
        self, token_server: TokenServer, connector: dict[str, Any], options: dict[str, Any]
    ) -> None:
        """A request whose certificate would not be checked is refused before anything is sent, a token request too."""
        async with (
            ApiServer(ssl_context=private_ca().server) as api_server,
            token_server.provider() as provider,
            authorized_session(
                provider, api_server.url, connector=aiohttp.TCPConnector(**({"ssl": private_ca().client} | connector))
            ) as session,
        ):
            with pytest.raises(ConfigurationError) as caught:
                await session.get(api_server.url, **options)

            assert "certificates-not-checked" == caught.value.code
            assert ([], []) == (api_server.requests, token_server.requests)

    async def test_outside(self, token_server: TokenServer) -> None:
        """Outside the origins the caller decides: no token is at stake."""
        async with (
            ApiServer(ssl_context=private_ca().server) as api_server,
            token_server.provider() as provider,
            authorized_session(provider, "https://api.example") as session,
        ):
            status, _ = await fetch(session, api_server.url, ssl=False)

        assert 401 == status

    @pytest.mark.parametrize("scheme", ["https", "wss"])
    @pytest.mark.parametrize("where", ["connector", "request"])
    @pytest.mark.parametrize("has_proxy", [False, True])
    async def test_wrong_fingerprint(
        self, token_server: TokenServer, *, scheme: str, where: str, has_proxy: bool
    ) -> None:
        """A server with another certificate than the pinned one gets no token, through a proxy neither."""
        fingerprint = aiohttp.Fingerprint(bytes(32))
        async with (
            ApiServer(ssl_context=private_ca().server) as api_server,
            ConnectProxy() as proxy,
            token_server.provider() as provider,
            authorized_session(
                provider,
                api_server.url,
                connector=aiohttp.TCPConnector(ssl=fingerprint if where == "connector" else True),
                proxy=proxy.url if has_proxy else None,
            ) as session,
        ):
            options: dict[str, Any] = {"ssl": fingerprint} if where == "request" else {}
            url = f"{scheme}://127.0.0.1:{api_server.port}/"
            with pytest.raises(aiohttp.ServerFingerprintMismatch):
                await (session.ws_connect(url, **options) if scheme == "wss" else session.get(url, **options))

            assert ([], has_proxy) == (api_server.requests, bool(proxy.heads))


class TestFloor:
    """What the oldest aiohttp that we allow has to do."""

    async def test_redirect(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """A redirect to another origin carries none of the caller's own credentials."""
        headers = {"Cookie": "a=b", "Proxy-Authorization": "Basic mine", "Authorization": "Basic mine", "X-Tag": "1"}
        async with (
            ApiServer() as other,
            token_server.provider() as provider,
            authorized_session(provider, api_server.url) as session,
        ):
            api_server.handler = redirecting(api_server, {"/a": f"{other.url}/b"})
            await fetch(session, f"{api_server.url}/a", headers=headers, cookies={"c": "d"})

            assert {"X-Tag"} == headers.keys() & other.requests[0].headers.keys()

    async def test_endless_headers(self, token_server: TokenServer) -> None:
        """A response whose headers never end is an error, long before it fills the memory."""
        sent = 0

        async def babble(writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            writer.write(b"HTTP/1.1 200 OK\r\n")
            while True:
                writer.write(b"X-Header: " + b"x" * 1000 + b"\r\n")
                await writer.drain()
                sent += 1000

        async with (
            WireServer(babble) as server,
            token_server.provider() as provider,
            authorized_session(provider, server.url) as session,
        ):
            server.rejected.add("canary-token-1")
            with pytest.raises(aiohttp.ClientError):
                await session.get(server.url)

        assert sent < 50_000_000
