"""`open_session()`: TLS, proxies and options of aiohttp."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from simplestore_async import open_session
from simplestore_async.errors import ConfigurationError, TokenTransportError
from tests.support.api_servers import ConnectProxy, rejecting
from tests.support.resolver import LocalResolver
from tests.support.servers import ApiServer, TokenServer
from tests.support.sessions import clear_environment, get
from tests.support.tls import private_ca


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that names no credentials and no proxies."""
    clear_environment(monkeypatch)
    return monkeypatch


class TestSurroundings:
    async def test_private_ca(self) -> None:
        """`ssl` lets a private CA vouch for both the API and the token endpoint."""
        server_ssl = private_ca().server
        async with (
            TokenServer(ssl_context=server_ssl) as token_server,
            ApiServer(ssl_context=server_ssl) as api_server,
            open_session(token_server.credentials(), base_url=api_server.url, ssl=private_ca().client) as session,
        ):
            assert 200 == await get(session, "items")

    @pytest.mark.parametrize("untrusted", ["token", "api"])
    async def test_unknown_ca(self, token_server: TokenServer, api_server: ApiServer, untrusted: str) -> None:
        """Without it either is refused, and the API sees no request."""
        server_ssl = private_ca().server
        async with (
            TokenServer(ssl_context=server_ssl) as secure_token_server,
            ApiServer(ssl_context=server_ssl) as secure_api_server,
        ):
            token = secure_token_server if untrusted == "token" else token_server
            api = secure_api_server if untrusted == "api" else api_server
            async with open_session(token.credentials(), base_url=api.url) as session:
                with pytest.raises((aiohttp.ClientConnectorCertificateError, TokenTransportError)):
                    await session.get("items")

            assert [] == api.requests

    @pytest.mark.parametrize("where", ["argument", "environment"])
    async def test_proxy(self, environment: pytest.MonkeyPatch, where: str) -> None:
        """`proxy`, or `trust_env` and the environment, lead both through tunnels that show neither secret nor token."""
        server_ssl = private_ca().server
        async with (
            TokenServer(ssl_context=server_ssl) as token_server,
            ApiServer(ssl_context=server_ssl) as api_server,
            ConnectProxy({"token.example:443": token_server.port, "api.example:443": api_server.port}) as proxy,
        ):
            environment.setenv("https_proxy", proxy.url)
            async with open_session(
                token_server.credentials(token_url="https://token.example/connect/token"),
                base_url="https://api.example",
                ssl=private_ca().client,
                proxy=proxy.url if where == "argument" else None,
                trust_env=where == "environment",
            ) as session:
                assert 200 == await get(session, "items")

            assert {"token.example:443", "api.example:443"} == proxy.targets
            assert (1, ["canary-token-1"]) == (len(token_server.requests), api_server.tokens)
            assert b"canary" not in proxy.seen

    async def test_proxy_not_asked_for(
        self, token_server: TokenServer, api_server: ApiServer, environment: pytest.MonkeyPatch
    ) -> None:
        """Without `trust_env` the environment's proxy is not used."""
        async with ConnectProxy() as proxy:
            environment.setenv("http_proxy", proxy.url)
            environment.setenv("https_proxy", proxy.url)
            async with open_session(token_server.credentials(), base_url=api_server.url) as session:
                assert 200 == await get(session, "items")

            assert [] == proxy.heads

    async def test_proxy_for_plain_http(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """A proxy is refused at once for a token endpoint of plain http."""
        with pytest.raises(ConfigurationError, match=r"^token_url .*plain http"):
            open_session(token_server.credentials(), base_url=api_server.url, proxy="http://proxy.example:3128")

    @pytest.mark.parametrize("ssl", [None, private_ca().client])
    async def test_own_connector(self, token_server: TokenServer, api_server: ApiServer, ssl: Any) -> None:
        """The caller's connector is used, with the same `ssl` or none; it stays open if the caller owns it."""
        async with aiohttp.TCPConnector(resolver=LocalResolver(), ssl=private_ca().client) as connector:
            async with open_session(
                token_server.credentials(),
                base_url=f"http://api.example:{api_server.port}",
                allow_insecure_http=True,
                ssl=ssl,
                connector=connector,
                connector_owner=False,
            ) as session:
                await get(session, "items")
                assert session.connector is connector

            assert not connector.closed
        assert ["canary-token-1"] == api_server.tokens

    @pytest.mark.parametrize(
        ("ssl", "connector_ssl", "field"),
        [
            (private_ca().client, True, "ssl"),
            (aiohttp.Fingerprint(bytes(32)), private_ca().client, "ssl"),
            (aiohttp.Fingerprint(bytes(32)), aiohttp.Fingerprint(bytes(32)), "ssl"),
            (None, False, "connector's ssl"),
            (None, private_ca().server, "connector's ssl"),
            (False, None, "ssl"),
            (private_ca().server, None, "ssl"),
            ("ca.pem", None, "ssl"),
        ],
    )
    async def test_contradiction(self, token_server: TokenServer, ssl: Any, connector_ssl: Any, field: str) -> None:
        """A TLS setting that would have no effect, or checks nothing, is refused before anything is sent."""
        connector = None if connector_ssl is None else aiohttp.TCPConnector(ssl=connector_ssl)
        with pytest.raises(ConfigurationError) as caught:
            open_session(token_server.credentials(), base_url="https://api.example", ssl=ssl, connector=connector)
        if connector is not None:
            await connector.close()

        assert field == caught.value.field

    @pytest.mark.parametrize("name", ["trust_env", "allow_insecure_http"])
    async def test_wrong_flag(self, token_server: TokenServer, name: str) -> None:
        """A flag is True or False: a text would count as true."""
        flags: dict[str, Any] = {name: "false"}
        with pytest.raises(ConfigurationError) as caught:
            open_session(token_server.credentials(), base_url="https://api.example", **flags)

        assert name == caught.value.field

    async def test_is_rejected(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """`is_rejected` recognises the API's own way to reject a token."""
        api_server.rejected.add("canary-token-1")
        api_server.handler = rejecting(api_server, 419)
        async with open_session(
            token_server.credentials(), base_url=api_server.url, is_rejected=lambda status, _: status == 419
        ) as session:
            assert 200 == await get(session, "items")

    async def test_callers_own(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """The caller's headers, cookies, content type and other options govern the API, and never the token request."""
        async with open_session(
            token_server.credentials(),
            base_url=api_server.url,
            headers={"X-Tag": "mine", "Content-Type": "application/json", "Authorization": "Basic mine"},
            cookies={"session": "mine"},
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            raise_for_status=True,
            json_serialize=lambda _: '"mine"',
            timeout=aiohttp.ClientTimeout(total=5),
        ) as session:
            token_server.replies += [503]
            async with session.post("items", json={}) as response:
                assert 200 == response.status

        api_request = api_server.requests[0]
        assert ("mine", "session=mine", b'"mine"') == (
            api_request.headers["X-Tag"],
            api_request.headers["Cookie"],
            api_request.body,
        )
        token_requests = [str(dict(request.headers)) + str(request.body) for request in token_server.requests]
        assert ([False] * 2, 2) == (["mine" in each for each in token_requests], len(token_requests))
        assert ["application/x-www-form-urlencoded"] * 2 == [
            each.headers["Content-Type"] for each in token_server.requests
        ]

    async def test_callers_middlewares(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """The caller's own middlewares run outside ours, in their order, once for a replayed request."""
        seen: list[str] = []

        def named(name: str) -> aiohttp.ClientMiddlewareType:
            async def middleware(
                request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
            ) -> aiohttp.ClientResponse:
                seen.append(f"{name} {request.headers.get('Authorization')}")
                return await handler(request)

            return middleware

        api_server.rejected.add("canary-token-1")
        async with open_session(
            token_server.credentials(), base_url=api_server.url, middlewares=[named("outer"), named("inner")]
        ) as session:
            await get(session, "items")

        assert (["outer None", "inner None"], 2) == (seen, len(api_server.requests))

    @pytest.mark.parametrize("middlewares", [(), [], None])
    async def test_no_middlewares(self, token_server: TokenServer, api_server: ApiServer, middlewares: Any) -> None:
        """No middlewares of one's own leave ours in place."""
        async with open_session(
            token_server.credentials(), base_url=api_server.url, middlewares=middlewares
        ) as session:
            await get(session, "items")

        assert ["canary-token-1"] == api_server.tokens

    async def test_own_requests(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """The caller's class of requests is used."""

        class Request(aiohttp.ClientRequest):
            def update_auto_headers(self, skip_auto_headers: Any) -> None:
                super().update_auto_headers(skip_auto_headers)
                self.headers["X-Tag"] = "mine"

        async with open_session(token_server.credentials(), base_url=api_server.url, request_class=Request) as session:
            await get(session, "items")

        assert "mine" == api_server.requests[0].headers["X-Tag"]

    @pytest.mark.parametrize("request_class", [5, dict, lambda: None])
    async def test_wrong_requests(self, token_server: TokenServer, request_class: Any) -> None:
        """Anything but such a class is refused."""
        with pytest.raises(ConfigurationError) as caught:
            open_session(token_server.credentials(), base_url="https://api.example", request_class=request_class)

        assert "request_class" == caught.value.field
