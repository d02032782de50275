"""`simplestore_async.httpx`: what the contract for HTTP clients does not cover, with httpx2 and httpx."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from aiohttp import web

from simplestore_async import AccessToken, TokenProvider
from simplestore_async._core import httpx_package
from simplestore_async.errors import ConfigurationError, TokenError
from simplestore_async.httpx import BearerTransport, open_client
from tests.support.api_requests import BEARER_1, BEARER_2, ListSource, OneToken, authorizations
from tests.support.api_servers import (
    INVALID_TOKEN,
    UNAUTHORIZED,
    ConnectProxy,
    WireServer,
    refusing_url,
    rejecting,
)
from tests.support.servers import ApiServer, Server, TokenServer
from tests.support.sessions import name_credentials
from tests.support.tls import private_ca
from tests.support.tracebacks import shown_by

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PROXY_PASSWORD = "canary-password"


def open_api(package: Any, source: Any, server: Any, **options: Any) -> Any:
    return open_client(source, base_url=server.url, client_class=package.AsyncClient, **options)


class TestBearerTransport:
    async def test_callers_header(self, package: Any, api_server: ApiServer) -> None:
        """Inside the origins an Authorization header of the caller's is replaced; elsewhere it stays."""
        transport = BearerTransport(ListSource("canary-token-1"), origins=api_server.url)
        async with Server(api_server.handler) as other, package.AsyncClient(transport=transport) as client:
            await client.get(api_server.url, headers={"AUTHORIZATION": "Basic mine"})
            await client.get(other.url, headers={"Authorization": "Basic mine"})

            assert [[BEARER_1]] == authorizations(api_server)
            assert [["Basic mine"]] == authorizations(other)

    async def test_request_stays_clean(self, package: Any, api_server: ApiServer) -> None:
        """After sending, the caller's request has no Authorization header, also after a second send."""
        api_server.rejected.add("canary-token-1")
        async with open_api(package, ListSource("canary-token-1", "canary-token-2"), api_server) as client:
            response = await client.get("path")

        assert "Authorization" not in response.request.headers
        assert [[BEARER_1], [BEARER_2]] == authorizations(api_server)

    @pytest.mark.parametrize("kind", ["content", "text", "json", "form"])
    async def test_bodies_in_memory(self, package: Any, kind: str) -> None:
        """Bytes, text, JSON and forms are sent again, byte for byte."""
        bodies: dict[str, dict[str, Any]] = {
            "content": {"content": b"bytes"},
            "text": {"content": "text"},
            "json": {"json": {"key": [1, "é"]}},
            "form": {"data": {"key": ["1", "2"]}},
        }
        async with WireServer() as server:
            server.rejected.add("canary-token-1")
            async with open_api(package, ListSource("canary-token-1", "canary-token-2"), server) as client:
                response = await client.post("path", **bodies[kind])

            assert "fine" == response.text
            first, second = server.requests
            assert first.without_token == second.without_token

    @pytest.mark.parametrize("kind", ["generator", "file", "multipart"])
    async def test_other_bodies(self, package: Any, api_server: ApiServer, tmp_path: Any, kind: str) -> None:
        """Streams and multipart bodies are sent once; the rejection is returned."""

        async def parts() -> AsyncIterator[bytes]:
            yield b"part"

        async def read(file: Any) -> AsyncIterator[bytes]:
            while data := file.read(2):
                yield data

        (path := tmp_path / "file").write_bytes(b"content")
        api_server.rejected.add("canary-token-1")
        source = ListSource("canary-token-1", "canary-token-2")
        async with open_api(package, source, api_server) as client:
            with path.open("rb") as file:
                bodies: dict[str, Any] = {
                    "generator": {"content": parts()},
                    "file": {"content": read(file)},
                    "multipart": {"files": {"file": b"content"}},
                }
                response = await client.post("path", **bodies[kind])

        assert 401 == response.status_code
        assert [[BEARER_1]] == authorizations(api_server)
        assert ["canary-token-1"] == source.invalidated

    async def test_cookies(self, package: Any) -> None:
        """Cookies of a rejection are in the second request and in the client's jar; deleted ones are in neither."""
        seen: list[str | None] = []

        async def reply(request: web.Request) -> web.StreamResponse:
            seen.append(request.headers.get("Cookie"))
            if len(seen) > 1:
                return web.Response()
            response = web.Response(status=401)
            response.set_cookie("new", "1")
            response.set_cookie("changed", "2")
            response.set_cookie("foreign", "3", domain="example.com")
            response.del_cookie("stale")
            return response

        async with Server(reply) as server:
            cookies = {"changed": "1", "stale": "1", "kept": "1"}
            source = ListSource("canary-token-1", "canary-token-2")
            async with open_api(package, source, server, cookies=cookies) as client:
                await client.get("path")
                assert "1" == client.cookies.get("new")

        assert "changed=2; kept=1; new=1" == "; ".join(sorted(str(seen[1]).split("; ")))

    async def test_small_pool(self, package: Any) -> None:
        """With a pool of one connection the second request does not wait for the first one's, whatever its body."""

        async def endless(writer: asyncio.StreamWriter) -> None:
            writer.write(UNAUTHORIZED.replace(b"Content-Length: 0", b"Content-Length: 1000000"))
            await writer.drain()

        async with WireServer(endless) as server:
            server.rejected.add("canary-token-1")
            limits = package.Limits(max_connections=1)
            source = ListSource("canary-token-1", "canary-token-2")
            async with asyncio.timeout(5), open_api(package, source, server, limits=limits) as client:
                assert 200 == (await client.get("path")).status_code

    async def test_is_rejected(self, package: Any, api_server: ApiServer) -> None:
        """`is_rejected` recognises further rejections; one that fails closes the response."""
        api_server.handler = rejecting(api_server, 419)
        api_server.rejected.add("canary-token-1")
        source = ListSource("canary-token-1", "canary-token-2", "canary-token-3")
        async with open_api(package, source, api_server, is_rejected=lambda status, headers: status == 419) as client:
            assert 200 == (await client.get("path")).status_code
        async with open_api(package, source, api_server, is_rejected=lambda status, headers: 1 / 0) as client:
            with pytest.raises(ZeroDivisionError):
                await client.get("path")

    async def test_challenge(self, package: Any, api_server: ApiServer) -> None:
        """A 403 whose challenge says invalid_token is a rejection."""
        api_server.handler = rejecting(api_server, 403, "Basic", INVALID_TOKEN)
        api_server.rejected.add("canary-token-1")
        async with open_api(package, ListSource("canary-token-1", "canary-token-2"), api_server) as client:
            assert 200 == (await client.get("path")).status_code

    async def test_accept(self, package: Any, api_server: ApiServer, token_server: TokenServer) -> None:
        """A provider renews once for many requests with a revoked token."""
        async with token_server.provider() as provider, open_api(package, provider, api_server) as client:
            await client.get("path")
            api_server.rejected.add("canary-token-1")
            responses = await asyncio.gather(*(client.get("path") for _ in range(20)))

        assert {200} == {response.status_code for response in responses}
        assert 2 == len(token_server.requests)

    @pytest.mark.parametrize("host", ["127.1", "0x7f.1"])
    async def test_ambiguous_host(self, package: Any, api_server: ApiServer, host: str) -> None:
        """A host that can be read in two ways is refused, before anything is sent."""
        async with open_api(package, OneToken(), api_server) as client:
            with pytest.raises(ConfigurationError) as caught:
                await client.get(f"http://{host}:{api_server.port}/")
        assert "ambiguous-host" == caught.value.code

    async def test_default_port(self, package: Any) -> None:
        """A URL with and without the default port is the same origin."""

        def handle(request: Any) -> Any:
            return package.Response(200, text=request.headers.get("Authorization", ""))

        inner = package.MockTransport(handle)
        transport = BearerTransport(OneToken(), origins="https://api.example:443", transport=inner)
        async with package.AsyncClient(transport=transport) as client:
            assert "Bearer own-token" == (await client.get("https://api.example/")).text
            assert not (await client.get("https://api.example:444/")).text
            assert not (await client.get("https://api.example.evil.example/")).text

    @pytest.mark.parametrize("wrap", [False, True])
    def test_unchecked_certificates(self, package: Any, *, wrap: bool) -> None:
        """A transport that does not check certificates is refused, also inside another."""
        transport = package.AsyncHTTPTransport(verify=False)
        if wrap:
            transport = Wrapping(Wrapping(transport))
        with pytest.raises(ConfigurationError) as caught:
            BearerTransport(OneToken(), origins="https://api.example", transport=transport)
        assert "certificates-not-checked" == caught.value.code

    async def test_plain_http_through_a_proxy(self, package: Any, api_server: ApiServer) -> None:
        """Plain http through a transport's own proxy is refused."""
        async with ConnectProxy() as proxy:
            inner = package.AsyncHTTPTransport(proxy=proxy.url)
            transport = BearerTransport(OneToken(), origins=api_server.url, transport=inner)
            async with package.AsyncClient(transport=transport) as client:
                with pytest.raises(ConfigurationError, match="plain http") as caught:
                    await client.get(api_server.url)
            assert "proxy" == caught.value.field
            assert not proxy.heads

    @pytest.mark.parametrize("transport", [object(), 3, httpx2.HTTPTransport, httpx2.AsyncHTTPTransport])
    def test_misuse(self, transport: Any) -> None:
        """What is no async transport is refused."""
        with pytest.raises(ConfigurationError) as caught:
            BearerTransport(OneToken(), origins="https://api.example", transport=transport)
        assert "transport" == caught.value.field

    def test_synchronous_client(self, package: Any) -> None:
        """A synchronous client is refused when it is used, with `with` or without."""
        transport: Any = BearerTransport(OneToken(), origins="https://api.example")
        client = package.Client(transport=transport)
        with pytest.raises(ConfigurationError, match="AsyncClient"):
            client.get("https://api.example")
        client.close()
        with pytest.raises(ConfigurationError, match="AsyncClient"):
            package.Client(transport=transport).__enter__()

    async def test_last_cookie_deleted(self, package: Any) -> None:
        """After the deletion of its only cookie the second request has no Cookie header."""
        seen: list[bool] = []

        async def reply(request: web.Request) -> web.StreamResponse:
            seen.append("Cookie" in request.headers)
            response = web.Response(status=401 if len(seen) == 1 else 200)
            response.del_cookie("stale")
            return response

        async with Server(reply) as server:
            source = ListSource("canary-token-1", "canary-token-2")
            async with open_api(package, source, server, cookies={"stale": "1"}) as client:
                await client.get("path")
        assert [True, False] == seen

    async def test_odd_transports(self, api_server: ApiServer) -> None:
        """A transport that holds itself, or a pool of another kind, is no obstacle; the inner one is closed."""
        inner: Any = Wrapping(httpx2.AsyncHTTPTransport())
        inner.myself = inner
        inner.other = Wrapping(None)
        inner.other._pool = object()
        transport = BearerTransport(OneToken(), origins=api_server.url, transport=inner)
        response = await transport.handle_async_request(httpx2.Request("GET", api_server.url))
        assert 200 == response.status_code
        await response.aclose()
        await transport.aclose()
        with pytest.raises(RuntimeError):
            async with inner.wrapped:
                raise RuntimeError

    async def test_replacement_without_accept(self, package: Any, api_server: ApiServer) -> None:
        """A source without `accept()` may return replacements."""

        class Source(OneToken):
            async def get_token(self) -> AccessToken:
                return AccessToken("own-token", issued_at=0, expires_at=3600, is_replacement=True)

        async with open_api(package, Source(), api_server) as client:
            assert 200 == (await client.get("path")).status_code


class Wrapping:
    """A transport around another, as those that cache or retry."""

    def __init__(self, transport: Any) -> None:
        self.wrapped = transport

    async def handle_async_request(self, request: Any) -> Any:
        return await self.wrapped.handle_async_request(request)

    async def aclose(self) -> None:
        await self.wrapped.aclose()


class TestOpenClient:
    async def test_one_line(
        self, monkeypatch: pytest.MonkeyPatch, api_server: ApiServer, token_server: TokenServer
    ) -> None:
        """Without arguments the environment names everything; the client is httpx2's."""
        name_credentials(monkeypatch, token_server)
        monkeypatch.setenv("SIMPLESTORE_BASE_URL", api_server.url)
        async with open_client() as client:
            assert isinstance(client, httpx2.AsyncClient)
            assert 200 == (await client.get("stock")).status_code
        assert client.is_closed
        assert [[BEARER_1]] == authorizations(api_server)

    async def test_closes_its_own(self, package: Any, api_server: ApiServer, token_server: TokenServer) -> None:
        """It closes the provider that it made, and leaves one that was passed open."""
        opened = open_api(package, token_server.credentials(), api_server)
        async with opened:
            pass
        with pytest.raises(Exception, match="closed"):
            await opened.provider.get_token()

        async with TokenProvider(token_server.credentials()) as provider:
            async with open_api(package, provider, api_server) as client:
                assert package.AsyncClient is type(client)
            await provider.get_token()

    async def test_proxy(self, package: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A tunnel leads https through a proxy, given or from the environment; password and token are shown nowhere."""
        ca = private_ca()
        async with (
            ApiServer(ssl_context=ca.server) as api,
            TokenServer(ssl_context=ca.server) as tokens,
            ConnectProxy({f"api.example:{443}": 0}) as proxy,
        ):
            proxy._routes = {f"api.example:{api.port}": api.port, f"token.example:{tokens.port}": tokens.port}
            url = proxy.url.replace("//", f"//user:{PROXY_PASSWORD}@")
            credentials = tokens.credentials(token_url=f"https://token.example:{tokens.port}/connect/token")
            base_url = f"https://api.example:{api.port}"
            monkeypatch.setenv("https_proxy", url)
            for settings in ({"proxy": url}, {"trust_env": True}):
                options: Any = {"client_class": package.AsyncClient, "ssl": ca.client, **settings}
                opened = open_client(credentials, base_url=base_url, **options)
                async with opened as client:
                    assert 200 == (await client.get("stock")).status_code
                shown = f"{vars(opened)} {vars(opened._transport._transport)}"
                assert PROXY_PASSWORD not in shown

            assert {f"api.example:{api.port}", f"token.example:{tokens.port}"} == proxy.targets
            assert all(head.header("Proxy-Authorization") for head in proxy.heads)
            assert b"canary-token" not in proxy.seen

    async def test_no_environment(self, package: Any, monkeypatch: pytest.MonkeyPatch, api_server: ApiServer) -> None:
        """Without trust_env the environment's proxy is not used."""
        monkeypatch.setenv("all_proxy", refusing_url())
        async with open_api(package, OneToken(), api_server) as client:
            assert 200 == (await client.get("stock")).status_code

    async def test_plain_http_through_a_proxy(self, package: Any, api_server: ApiServer) -> None:
        """Plain http through a proxy is refused."""
        async with ConnectProxy() as proxy, open_api(package, OneToken(), api_server, proxy=proxy.url) as client:
            with pytest.raises(ConfigurationError, match="plain http"):
                await client.get("stock")
            assert not proxy.heads

    async def test_transport(self, package: Any, api_server: ApiServer) -> None:
        """A transport of the caller's own sends the requests, and is closed with the client."""
        inner = Wrapping(package.AsyncHTTPTransport())
        async with open_api(package, OneToken(), api_server, transport=inner) as client:
            assert 200 == (await client.get("stock")).status_code

    @pytest.mark.parametrize(
        ("options", "field"),
        [
            ({"verify": False}, "verify"),
            ({"cert": "client.pem"}, "cert"),
            ({"mounts": {}}, "mounts"),
            ({"client_id": "canary"}, "client_id"),
            ({"base_ur": "x"}, "base_ur"),
            ({"ssl": False}, "ssl"),
            ({"ssl": True}, "ssl"),
            ({"trust_env": 1}, "trust_env"),
            ({"proxy": "socks5://canary@proxy.example"}, "proxy"),
            ({"base_url": "http://api.example"}, "base_url"),
            ({"base_url": "https://api.example?key=canary"}, "base_url"),
            ({"origins": "https://api.example/path"}, "origins"),
            ({"client_class": httpx2.Client}, "client_class"),
            ({"client_class": "httpx"}, "client_class"),
            ({"client_class": dict}, "client_class"),
            ({"transport": httpx2.AsyncHTTPTransport(), "proxy": "http://proxy.example"}, "proxy"),
            ({"transport": httpx2.AsyncHTTPTransport(), "limits": httpx2.Limits()}, "limits"),
            ({"transport": httpx2.AsyncHTTPTransport(), "ssl": ssl.create_default_context()}, "ssl"),
            ({"transport": httpx2.HTTPTransport()}, "transport"),
        ],
    )
    def test_misuse(self, options: dict[str, Any], field: str) -> None:
        """A wrong argument is refused before anything is opened; no value is shown."""
        with pytest.raises(ConfigurationError) as caught:
            open_client(OneToken(), **{"base_url": "https://api.example", **options})
        assert field == caught.value.field
        assert "canary" not in f"{caught.value} {caught.value.hint}"

    def test_unchecked_context(self) -> None:
        """A context that does not check certificates is refused."""
        context = ssl.create_default_context()
        context.check_hostname = False
        with pytest.raises(ConfigurationError) as caught:
            open_client(OneToken(), base_url="https://api.example", ssl=context)
        assert "certificates-not-checked" == caught.value.code

    def test_shared_context_with_http2(self, token_server: TokenServer) -> None:
        """HTTP/2 is not offered to the token endpoint by a context that both share."""
        context = ssl.create_default_context()
        with pytest.raises(ConfigurationError, match="HTTP/2") as caught:
            open_client(token_server.credentials(), base_url="https://api.example", ssl=context, http2=True)
        assert "http2" == caught.value.field

    def test_how_it_is_used(self) -> None:
        """`with`, `await`, attributes before entering and entering twice are clear errors."""
        opened: Any = open_client(OneToken(), base_url="https://api.example")
        with pytest.raises(ConfigurationError, match=r"needs `async with`, not `with`; write `async with open_client"):
            opened.__enter__()
        with pytest.raises(ConfigurationError, match="cannot be awaited"):
            opened.__await__()
        with pytest.raises(ConfigurationError, match="not a client yet"):
            _ = opened.get
        assert not hasattr(opened, "nothing")

    def test_positional(self) -> None:
        """A second positional argument is refused, and not shown."""
        opened: Any = open_client
        with pytest.raises(ConfigurationError, match="one positional argument") as caught:
            opened("canary-id", "canary-secret")
        assert "canary" not in shown_by(caught.value)

    async def test_entered_twice(self) -> None:
        """An object can be entered once."""
        opened = open_client(OneToken(), base_url="https://api.example")
        async with opened:
            pass
        with pytest.raises(ConfigurationError, match="entered before"):
            await opened.__aenter__()

    async def test_option_that_httpx_refuses(self) -> None:
        """An option of a wrong type is reported when the client is opened."""
        hooks: Any = 3
        opened = open_client(OneToken(), base_url="https://api.example", event_hooks=hooks)
        with pytest.raises(ConfigurationError, match="httpx refuses"):
            await opened.__aenter__()

    async def test_without_token(self, package: Any, api_server: ApiServer) -> None:
        """Without a token nothing is sent."""
        async with open_api(package, ListSource(), api_server) as client:
            with pytest.raises(TokenError):
                await client.get("stock")
        assert not api_server.requests


@pytest.mark.parametrize(
    ("hidden", "outcome"),
    [(["httpx2"], "httpx"), (["httpx"], "httpx2"), (["httpx", "httpx2"], 'pip install "simplestore-async[httpx]"')],
)
def test_either_package(hidden: list[str], outcome: str) -> None:
    """Either package serves alone; without both, importing the module says what to install."""
    program = f"""
import importlib.util, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {hidden!r} else find_spec(name, package)
for name in {hidden!r}:
    sys.modules[name] = None
from simplestore_async.httpx import open_client
opened = open_client(type("S", (), {{"get_token": print, "invalidate": print}})(), base_url="https://api.example")
print(opened._client_class.__module__.partition(".")[0])
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert outcome in (result.stdout.split() or [result.stderr.splitlines()[-1]])[0] or outcome in result.stderr


def test_neither_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without both packages the error names the extra."""
    monkeypatch.setattr(httpx_package, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="httpx2 or httpx"):
        httpx_package.require_package()
