"""`open_session()`: proxies with passwords."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import aiohttp
import attrs
import pytest
from yarl import URL

from simplestore_async import open_session
from simplestore_async.errors import ConfigurationError
from simplestore_async.sandbox import Response, Sandbox
from tests.support.api_requests import OneToken, get
from tests.support.api_servers import ConnectProxy
from tests.support.raw_server import RawServer
from tests.support.resolver import LocalResolver
from tests.support.servers import ApiServer
from tests.support.tls import private_ca
from tests.support.tracebacks import everything_shown
from tests.support.wire_faults import says

if TYPE_CHECKING:
    from collections.abc import Callable

PASSWORD = "canary-pässword"
USERINFO = "user:canary-p%C3%A4ssword@"
BASIC = f"Basic {base64.b64encode(f'user:{PASSWORD}'.encode()).decode()}"


def with_password(url: str) -> str:
    return url.replace("http://", f"http://{USERINFO}")


CALLS: dict[str, Callable[[aiohttp.ClientSession], Any]] = {
    "get": lambda session: session.get("items"),
    "post": lambda session: session.post("items", data=b"body"),
    "websocket": lambda session: session.ws_connect("wss://api.example/events"),
    "elsewhere": lambda session: session.get("https://evil.example/"),
    "without token": lambda session: session.get("items", middlewares=()),
}
REFUSAL = b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"
TUNNEL = b"HTTP/1.1 200 OK\r\n\r\n"


class TestPassword:
    @pytest.mark.parametrize(
        ("call", "response", "is_argument"),
        [
            *((call, REFUSAL, True) for call in CALLS),
            *(("get", response, True) for response in (TUNNEL, b"garbage\r\n\r\n", b"")),
            *(("get", response, False) for response in (REFUSAL, TUNNEL)),
        ],
    )
    async def test_refusing_proxy(
        self, monkeypatch: pytest.MonkeyPatch, call: str, response: bytes, *, is_argument: bool
    ) -> None:
        """Whatever the proxy responds, neither the error nor any frame's locals show its password."""
        async with RawServer(says(response)) as proxy:
            monkeypatch.setenv("https_proxy", with_password(proxy.url))
            async with open_session(
                OneToken(),
                base_url="https://api.example",
                proxy=with_password(proxy.url) if is_argument else None,
                trust_env=not is_argument,
            ) as session:
                with pytest.raises(aiohttp.ClientError) as caught:
                    await CALLS[call](session)

        assert f"Proxy-Authorization: {BASIC}" in proxy.requests[0].decode()
        self.assert_hidden(caught.value)

    async def test_wrong_proxy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error of a wrong proxy URL names the setting without showing the password."""
        wrong = f"socks5://{USERINFO}proxy.example"
        monkeypatch.setenv("https_proxy", wrong)
        with pytest.raises(ConfigurationError) as by_argument:
            open_session(OneToken(), base_url="https://api.example", proxy=wrong)
        async with open_session(OneToken(), base_url="https://api.example", trust_env=True) as session:
            with pytest.raises(ConfigurationError) as by_environment:
                await session.get("items")

        assert ["proxy", "https_proxy"] == [by_argument.value.field, by_environment.value.field]
        self.assert_hidden(by_argument.value)
        self.assert_hidden(by_environment.value)

    async def test_proxy_of_one_request(self) -> None:
        """A proxy named by a single request is used for it, and the error does not show its password."""
        async with (
            RawServer(says(REFUSAL)) as proxy,
            open_session(OneToken(), base_url="https://api.example") as session,
        ):
            with pytest.raises(aiohttp.ClientHttpProxyError) as caught:
                await session.get("items", proxy=with_password(proxy.url))

        assert BASIC in proxy.requests[0].decode()
        assert "canary" not in f"{caught.value} {caught.value!r} {caught.value.request_info!r}"

    @staticmethod
    def assert_hidden(error: BaseException) -> None:
        shown = everything_shown(error)
        assert "canary" not in shown
        assert BASIC[6:] not in shown


class TestRouting:
    @pytest.mark.parametrize("where", ["argument", "environment"])
    async def test_tunnel(self, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
        """Token and API requests go through the proxy, which receives its password and none of their contents."""
        async with Sandbox(client_secret="canary-secret", ssl_context=private_ca().server) as sandbox:
            port = URL(sandbox.token_url).port
            hosts = {"token.example:443", "api.example:443", "evil.example:443"}
            sandbox.api.respond("a", Response(302, headers={"Location": "https://evil.example/api/b"}))
            is_argument = where == "argument"
            async with ConnectProxy(port=port) as proxy:
                monkeypatch.setenv("https_proxy", with_password(proxy.url))
                async with open_session(
                    attrs.evolve(sandbox.credentials, token_url="https://token.example/connect/token"),
                    base_url="https://api.example/api/",
                    ssl=private_ca().client,
                    proxy=with_password(proxy.url) if is_argument else None,
                    trust_env=not is_argument,
                    headers={"X-Mine": "canary"},
                ) as session:
                    await get(session, "a")

        assert [BASIC] * 3 == [head.header("Proxy-Authorization") for head in proxy.heads]
        assert hosts == proxy.targets
        assert b"canary" not in proxy.seen
        assert [1, 1, None] == [request.token_number for request in sandbox.requests]
        assert not any("Proxy-Authorization" in request.headers for request in sandbox.requests)

    async def test_plain_http_elsewhere(self) -> None:
        """A plain-http request outside the origins sends the password to the proxy."""
        async with ConnectProxy() as proxy:
            async with open_session(
                OneToken(), base_url="https://api.example", proxy=with_password(proxy.url)
            ) as session:
                await get(session, "http://other.example/")

            assert [BASIC] == [head.header("Proxy-Authorization") for head in proxy.heads]

    async def test_direct(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without `trust_env` the environment's proxy is not used."""
        async with ApiServer(ssl_context=private_ca().server) as api, ConnectProxy(port=api.port) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url)
            async with open_session(
                OneToken(),
                base_url="https://api.example",
                connector=aiohttp.TCPConnector(resolver=LocalResolver({443: api.port}), ssl=private_ca().client),
            ) as session:
                await get(session, "items")

            assert ([], ["own-token"]) == (proxy.heads, api.tokens)

    async def test_pool(self) -> None:
        """Requests through a proxy reuse its tunnel."""
        async with (
            ApiServer(ssl_context=private_ca().server) as api,
            ConnectProxy({"api.example:443": api.port}) as proxy,
        ):
            async with open_session(
                OneToken(), base_url="https://api.example", ssl=private_ca().client, proxy=with_password(proxy.url)
            ) as session:
                for _ in range(3):
                    await get(session, "items")

            assert (1, 3) == (len(proxy.heads), len(api.requests))

    async def test_netrc(self, api_server: ApiServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
        """`trust_env` does not read netrc, not even for hosts outside the origins."""
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password password")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        async with open_session(OneToken(), base_url="https://api.example", trust_env=True) as session:
            await get(session, api_server.url)

        assert [None] == api_server.tokens
