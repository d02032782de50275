"""`simplestore_async.httpx` beyond `BearerContract`, with httpx2 and httpx."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from typing import Any

import attrs
import httpx2
import pytest
from aiohttp import web
from yarl import URL

from simplestore_async import AccessToken, ClientCredentials
from simplestore_async._core import httpx_package
from simplestore_async.errors import ConfigurationError
from simplestore_async.httpx import BearerTransport, open_client
from simplestore_async.sandbox import Sandbox
from tests.support.api_requests import ListSource, OneToken, authorizations
from tests.support.api_servers import INVALID_TOKEN, UNAUTHORIZED, ConnectProxy, WireServer, refusing_url, rejecting
from tests.support.servers import ApiServer, Server
from tests.support.tls import private_ca
from tests.support.tracebacks import everything_shown

PROXY_PASSWORD = "canary-password"
CREDENTIALS = ClientCredentials(client_id="app", client_secret="secret")


def open_api(package: Any, source: Any, server: Any, **options: Any) -> Any:
    return open_client(source, base_url=server.url, client_class=package.AsyncClient, **options)


class TestBearerTransport:
    async def test_callers_header(self, package: Any, api_server: ApiServer) -> None:
        """The caller's Authorization header is replaced inside the origins and kept elsewhere."""
        transport = BearerTransport(OneToken(), origins=api_server.url)
        async with Server(api_server.handler) as other, package.AsyncClient(transport=transport) as client:
            for server in (api_server, other):
                await client.get(server.url, headers={"AUTHORIZATION": "Basic mine"})

            assert [["Bearer own-token"]] == authorizations(api_server)
            assert [["Basic mine"]] == authorizations(other)

    async def test_multipart(self, package: Any, api_server: ApiServer) -> None:
        """A multipart body is not replayed, and its 401 is returned."""
        api_server.rejected.add("first")
        async with open_api(package, ListSource("first", "second"), api_server) as client:
            response = await client.post("path", files={"file": b"content"})

        assert (401, ["first"]) == (response.status_code, api_server.tokens)

    @pytest.mark.parametrize(
        ("cookies", "expected"),
        [({"changed": "1", "stale": "1", "kept": "1"}, "changed=2; kept=1; new=1"), ({"stale": "1"}, None)],
        ids=["several", "last deleted"],
    )
    async def test_cookies(self, package: Any, cookies: dict[str, str], expected: str | None) -> None:
        """Cookies set by a rejection reach the replay and the client's jar, and deleted ones are removed from both."""
        seen: list[str | None] = []

        async def reply(request: web.Request) -> web.StreamResponse:
            seen.append(request.headers.get("Cookie"))
            response = web.Response(status=401 if len(seen) == 1 else 200)
            if len(seen) == 1 and expected:
                response.set_cookie("new", "1")
                response.set_cookie("changed", "2")
                response.set_cookie("foreign", "3", domain="example.com")
            response.del_cookie("stale")
            return response

        async with (
            Server(reply) as server,
            open_api(package, ListSource("first", "second"), server, cookies=cookies) as client,
        ):
            await client.get("path")
            assert ("1" if expected else None) == client.cookies.get("new")

        assert expected == (seen[1] and "; ".join(sorted(seen[1].split("; "))))

    async def test_small_pool(self, package: Any) -> None:
        """With a pool of one connection the replay does not wait for a rejection that never ends."""

        async def endless(writer: asyncio.StreamWriter) -> None:
            writer.write(UNAUTHORIZED.replace(b"Content-Length: 0", b"Content-Length: 1000000"))
            await writer.drain()

        async with WireServer(endless) as server:
            server.rejected.add("canary-token-1")
            limits = package.Limits(max_connections=1)
            source = ListSource("canary-token-1", "canary-token-2")
            async with asyncio.timeout(5), open_api(package, source, server, limits=limits) as client:
                assert 200 == (await client.get("path")).status_code

    @pytest.mark.parametrize("status", [403, 419])
    async def test_is_rejected(self, package: Any, api_server: ApiServer, status: int) -> None:
        """A 403 with an invalid_token challenge is a rejection, and so is a response that `is_rejected` accepts."""
        api_server.handler = rejecting(api_server, status, "Basic", INVALID_TOKEN if status == 403 else "Basic")
        api_server.rejected.add("first")
        source = ListSource("first", "second")
        async with open_api(package, source, api_server, is_rejected=lambda status, _: status == 419) as client:
            assert 200 == (await client.get("path")).status_code

    async def test_is_rejected_fails(self, package: Any, api_server: ApiServer) -> None:
        """An exception in `is_rejected` propagates, and the response is closed."""
        limits = package.Limits(max_connections=1)
        async with open_api(
            package, OneToken(), api_server, is_rejected=lambda status, headers: 1 / 0, limits=limits
        ) as client:
            for _ in range(2):
                with pytest.raises(ZeroDivisionError):
                    await client.get("path")

    async def test_ambiguous_host(self, package: Any, api_server: ApiServer) -> None:
        """A URL with an ambiguous host is refused."""
        async with open_api(package, OneToken(), api_server) as client:
            with pytest.raises(ConfigurationError) as caught:
                await client.get(f"http://127.1:{api_server.port}/")
        assert "ambiguous-host" == caught.value.code

    @pytest.mark.parametrize("wrap", [False, True])
    def test_unverified_certificates(self, package: Any, *, wrap: bool) -> None:
        """A transport that does not verify certificates is refused, even inside other transports."""
        transport = package.AsyncHTTPTransport(verify=False)
        if wrap:
            transport = Wrapping(Wrapping(transport))
        with pytest.raises(ConfigurationError) as caught:
            BearerTransport(OneToken(), origins="https://api.example", transport=transport)
        assert "certificates-not-checked" == caught.value.code

    async def test_plain_http_through_a_proxy(self, package: Any, api_server: ApiServer) -> None:
        """A plain-http request through the proxy of a transport is refused."""
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
        """Anything but an async transport is refused."""
        with pytest.raises(ConfigurationError) as caught:
            BearerTransport(OneToken(), origins="https://api.example", transport=transport)
        assert "transport" == caught.value.field

    def test_synchronous_client(self, package: Any) -> None:
        """A synchronous client with the transport fails on its first request or on entering."""
        transport: Any = BearerTransport(OneToken(), origins="https://api.example")
        client = package.Client(transport=transport)
        with pytest.raises(ConfigurationError, match="AsyncClient"):
            client.get("https://api.example")
        client.close()
        with pytest.raises(ConfigurationError, match="AsyncClient"):
            package.Client(transport=transport).__enter__()

    async def test_odd_transports(self, api_server: ApiServer) -> None:
        """A transport that references itself or an unknown kind of pool works and closes the inner one."""
        inner: Any = Wrapping(httpx2.AsyncHTTPTransport())
        inner.itself = inner
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

    async def test_entering(self, package: Any) -> None:
        """Entering and leaving the client enter and leave the inner transport, with the error of the block."""
        inner: Any = Entered(package.AsyncHTTPTransport())
        transport = BearerTransport(OneToken(), origins="https://api.example", transport=inner)
        error = ZeroDivisionError()
        with pytest.raises(ZeroDivisionError):
            async with package.AsyncClient(transport=transport):
                raise error
        assert ["entered", error] == inner.calls

    async def test_replacement_without_accept(self, package: Any, api_server: ApiServer) -> None:
        """A source without `accept()` may return replacements."""

        class Source(OneToken):
            async def get_token(self) -> AccessToken:
                return AccessToken("own-token", issued_at=0, expires_at=3600, is_replacement=True)

        async with open_api(package, Source(), api_server) as client:
            assert 200 == (await client.get("path")).status_code


class Wrapping:
    """A transport around another, like those that cache or retry."""

    def __init__(self, transport: Any) -> None:
        self.wrapped = transport

    async def handle_async_request(self, request: Any) -> Any:
        return await self.wrapped.handle_async_request(request)

    async def aclose(self) -> None:
        await self.wrapped.aclose()


class Entered(Wrapping):
    """One that records how it is entered and left."""

    def __init__(self, transport: Any) -> None:
        super().__init__(transport)
        self.calls: list[object] = []

    async def __aenter__(self) -> None:
        self.calls.append("entered")

    async def __aexit__(self, _: object, error: object, __: object) -> None:
        self.calls.append(error)


def unverified_host_names() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    return context


class TestOpenClient:
    async def test_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without arguments everything comes from the environment, and the client is from httpx2."""
        async with Sandbox() as sandbox:
            for name, value in sandbox.environment.items():
                monkeypatch.setenv(name, value)
            async with open_client() as client:
                assert isinstance(client, httpx2.AsyncClient)
                assert 200 == (await client.get("stock")).status_code
            assert client.is_closed

    @pytest.mark.parametrize("where", ["argument", "environment"])
    async def test_proxy(self, package: Any, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
        """Requests use the tunnel of a proxy, and neither its password nor the token is shown."""
        async with (
            Sandbox(client_secret="canary-secret", ssl_context=private_ca().server) as sandbox,
            ConnectProxy(port=URL(sandbox.token_url).port) as proxy,
        ):
            url = proxy.url.replace("//", f"//user:{PROXY_PASSWORD}@")
            monkeypatch.setenv("https_proxy", url)
            opened = open_client(
                attrs.evolve(sandbox.credentials, token_url="https://token.example/connect/token"),
                base_url="https://api.example/api/",
                client_class=package.AsyncClient,
                ssl=private_ca().client,
                proxy=url if where == "argument" else None,
                trust_env=where == "environment",
            )
            async with opened as client:
                assert 200 == (await client.get("stock")).status_code

        assert PROXY_PASSWORD not in f"{vars(opened)} {vars(opened._transport._transport)}"
        assert {"api.example:443", "token.example:443"} == proxy.targets
        assert all(head.header("Proxy-Authorization") for head in proxy.heads)
        assert b"canary" not in proxy.seen

    async def test_no_environment(self, package: Any, monkeypatch: pytest.MonkeyPatch, api_server: ApiServer) -> None:
        """Without trust_env the environment's proxy is not used."""
        monkeypatch.setenv("all_proxy", refusing_url())
        async with open_api(package, OneToken(), api_server) as client:
            assert 200 == (await client.get("stock")).status_code

    async def test_insecure_http(self, package: Any) -> None:
        """With `allow_insecure_http`, and only then, the token is sent to another machine in plain http."""

        def show(request: Any) -> Any:
            return package.Response(200, text=request.headers["Authorization"])

        options = {"client_class": package.AsyncClient, "transport": package.MockTransport(show)}
        with pytest.raises(ConfigurationError, match="https"):
            open_client(OneToken(), base_url="http://api.example", **options)
        opened = open_client(OneToken(), base_url="http://api.example", allow_insecure_http=True, **options)
        async with opened as client:
            assert (await client.get("stock")).text.startswith("Bearer ")

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
            ({"ssl": unverified_host_names()}, "ssl"),
            ({"source": CREDENTIALS, "ssl": ssl.create_default_context(), "http2": True}, "http2"),
        ],
        ids=[
            *("verify", "cert", "mounts", "unknown", "misspelt", "ssl off", "ssl on", "trust_env", "SOCKS", "http"),
            *("query", "path", "sync client", "client name", "dict", "transport and proxy", "transport and limits"),
            *("transport and ssl", "sync transport", "host names not verified", "context shared with HTTP/2"),
        ],
    )
    def test_misuse(self, options: dict[str, Any], field: str) -> None:
        """A wrong argument is refused without showing its value."""
        with pytest.raises(ConfigurationError) as caught:
            open_client(**{"source": OneToken(), "base_url": "https://api.example", **options})
        assert field == caught.value.field
        assert "canary" not in f"{caught.value} {caught.value.hint}"

    def test_not_entered(self) -> None:
        """A client's attribute raises an error with the correct form before entering."""
        opened: Any = open_client(OneToken(), base_url="https://api.example")
        with pytest.raises(ConfigurationError, match=r"not a client yet; write `async with open_client"):
            _ = opened.get
        assert not hasattr(opened, "nothing")

    def test_positional(self) -> None:
        """Client id and secret as positional arguments are refused and not shown."""
        opened: Any = open_client
        with pytest.raises(ConfigurationError, match="one positional argument") as caught:
            opened("canary-id", "canary-secret")
        assert "canary" not in everything_shown(caught.value)

    async def test_option_that_httpx_refuses(self) -> None:
        """An option that httpx refuses raises a ConfigurationError on entering."""
        hooks: Any = 3
        opened = open_client(OneToken(), base_url="https://api.example", event_hooks=hooks)
        with pytest.raises(ConfigurationError, match="httpx refuses"):
            await opened.__aenter__()


@pytest.mark.parametrize(("hidden", "outcome"), [("httpx2", "httpx"), ("httpx", "httpx2")])
def test_either_package(hidden: str, outcome: str) -> None:
    """Either package works without the other."""
    program = f"""
import importlib.util, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == {hidden!r} else find_spec(name, package)
sys.modules[{hidden!r}] = None
from simplestore_async.httpx import open_client
opened = open_client(type("S", (), {{"get_token": print, "invalidate": print}})(), base_url="https://api.example")
print(opened._client_class.__module__.partition(".")[0])
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert outcome == result.stdout.strip()


def test_neither_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """If neither package is installed, the error names both."""
    monkeypatch.setattr(httpx_package, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="httpx2 or httpx"):
        httpx_package.require_package()
