"""`TokenEndpoint` behind a proxy."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import aiohttp
import pytest

from simplestore_async import ClientCredentials, RetryPolicy, TokenEndpoint
from simplestore_async.errors import (
    ConfigurationError,
    TokenTransportError,
)
from tests.support.api_servers import ConnectProxy
from tests.support.raw_server import RawServer
from tests.support.resolver import LocalResolver
from tests.support.servers import SECRET, TokenServer
from tests.support.tls import authority, client_context, server_context
from tests.support.token_requests import (
    CLOSED,
    NO_HTTP,
    cancelled,
    failure,
    raw_credentials,
)
from tests.support.wire_faults import everything_shown, hangs_after, says, shows_secret

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

from tests.support.raw_server import Script


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "request_method"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.usefixtures("no_proxies")
class TestProxy:
    """The token endpoint is https://token.example; only a proxy, or `LocalResolver`, knows where that is."""

    USERINFO = "us%40er:hunter%3A2"
    AUTHORIZATION = b"Proxy-Authorization: Basic " + base64.b64encode(b"us@er:hunter:2")

    @pytest.fixture
    def server(self) -> TokenServer:
        return TokenServer(ssl_context=server_context(authority().issue_cert("token.example")))

    def credentials(self, server: TokenServer, *, port: int | None = None) -> ClientCredentials:
        authority = "token.example" if port is None else f"token.example:{port}"
        return server.credentials(token_url=f"https://{authority}/connect/token")

    @pytest.mark.parametrize("scheme", ["http", "https"])
    async def test_argument(self, server: TokenServer, scheme: str) -> None:
        """The proxy sees a CONNECT with its own user and password, and nothing of the token request."""
        tls = server_context(authority().issue_cert("127.0.0.1")) if scheme == "https" else None
        async with server, ConnectProxy(port=server.port, ssl_context=tls) as proxy:
            url = f"{scheme}://{self.USERINFO}@127.0.0.1:{proxy.port}"
            endpoint = server.endpoint(credentials=self.credentials(server), proxy=url, ssl=client_context())
            token = await endpoint.request_token()
            await proxy.clients_left()

            assert "canary-token-1" == token.value
            (request,) = proxy.requests
            start, *headers = request.split(b"\r\n")
            assert b"CONNECT token.example:443 HTTP/1.1" == start
            assert self.AUTHORIZATION in headers
            assert not shows_secret(request.decode())
            (posted,) = server.requests
            assert "Proxy-Authorization" not in posted.headers
            assert SECRET == posted.form["client_secret"]

    @pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY"])
    async def test_environment(self, server: TokenServer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """With trust_env the proxy that the environment names is used, with its user and password."""
        async with server, ConnectProxy(port=server.port) as proxy:
            monkeypatch.setenv(name, f"http://{self.USERINFO}@127.0.0.1:{proxy.port}")
            endpoint = server.endpoint(credentials=self.credentials(server), trust_env=True, ssl=client_context())
            token = await endpoint.request_token()

            assert "canary-token-1" == token.value
            assert self.AUTHORIZATION in proxy.requests[0]

    async def test_read_at_each_request(self, server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """The environment is read when a token is requested, not when the endpoint is made."""
        async with server, ConnectProxy(port=server.port) as proxy:
            endpoint = server.endpoint(credentials=self.credentials(server), trust_env=True, ssl=client_context())
            monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
            await endpoint.request_token()

            assert 1 == len(proxy.requests)

    @pytest.mark.parametrize(
        ("options", "no_proxy", "through_proxy"),
        [
            ({"trust_env": True}, None, 1),
            ({"trust_env": True}, "other.example", 1),
            ({"trust_env": True}, "token.example", 0),
            ({"trust_env": True}, "other.example, .example", 0),
            ({"trust_env": True}, "token.example:{port}", 0),
            ({"trust_env": True}, "token.example:1", 1),
            ({"trust_env": True}, "*", 0),
            ({"trust_env": False}, None, 0),
            ({}, None, 0),
        ],
    )
    async def test_no_proxy(
        self,
        server: TokenServer,
        *,
        options: dict[str, bool],
        no_proxy: str | None,
        through_proxy: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A host that no_proxy names is reached directly; so is every host without trust_env."""
        async with (
            server,
            ConnectProxy(port=server.port) as proxy,
            aiohttp.TCPConnector(resolver=LocalResolver()) as connector,
        ):
            monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
            if no_proxy is not None:
                monkeypatch.setenv("no_proxy", no_proxy.format(port=server.port))
            token = await server.endpoint(
                credentials=self.credentials(server, port=server.port),
                ssl=client_context(),
                connector=connector,
                **options,
            ).request_token()

            assert "canary-token-1" == token.value
            assert through_proxy == len(proxy.requests)

    async def test_loopback_needs_none(self, token_server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """A proxy of the environment does not catch a token endpoint on this machine."""
        async with RawServer(says()) as proxy:
            monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
            token = await token_server.endpoint(trust_env=True).request_token()

            assert "canary-token-1" == token.value
            assert 0 == proxy.connections

    async def test_plain_http(self, token_server: TokenServer) -> None:
        """Plain http never goes through a proxy: ConfigurationError, wherever the proxy comes from."""
        with pytest.raises(ConfigurationError) as caught:
            token_server.endpoint(proxy="http://us:hunter2@proxy.example:3128")

        assert "token_url" == caught.value.field

    async def test_plain_http_by_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Plain http to another machine is not shown to a proxy of the environment."""
        async with RawServer(says()) as proxy:
            monkeypatch.setenv("http_proxy", f"http://{self.USERINFO}@127.0.0.1:{proxy.port}")
            credentials = raw_credentials(proxy, token_url="http://token.example/", allow_insecure_http=True)
            with pytest.raises(ConfigurationError, match=r"^token_url uses plain http"):
                await TokenEndpoint(credentials, trust_env=True).request_token()

            assert 0 == proxy.connections

    @pytest.mark.parametrize(
        ("script", "problem"),
        [
            (says(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"), "the proxy returned status 407"),
            (says(b"HTTP/1.1 502 Bad Gateway\r\n\r\n"), "the proxy returned status 502"),
            (says(b"hello\r\n"), NO_HTTP),
            (says(), CLOSED),
        ],
    )
    async def test_failing_proxy(
        self, server: TokenServer, quick: RetryPolicy, script: Script, problem: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A proxy that opens no tunnel is a TokenTransportError; its user and password are not shown."""
        async with server, RawServer(script) as proxy:
            monkeypatch.setenv("https_proxy", f"http://{self.USERINFO}@127.0.0.1:{proxy.port}")
            endpoint = server.endpoint(credentials=self.credentials(server), trust_env=True, policy=quick)
            error = await failure(endpoint)
            await proxy.clients_left()

            assert TokenTransportError is type(error)
            assert f"token request to https://token.example/connect/token failed: {problem}" == str(error)
            shown = everything_shown(error)
            assert not shows_secret(shown)
            assert "hunter" not in shown
            assert self.AUTHORIZATION.decode() not in shown
            assert 3 == len(proxy.requests)

    async def test_unreachable_proxy(self, server: TokenServer, quick: RetryPolicy) -> None:
        """A proxy that cannot be reached is a TokenTransportError without its user and password."""
        async with RawServer(says()) as proxy:
            url = f"http://{self.USERINFO}@127.0.0.1:{proxy.port}"
        endpoint = server.endpoint(credentials=self.credentials(server), proxy=url, policy=quick)
        del url
        error = await failure(endpoint)

        assert TokenTransportError is type(error)
        assert error.retryable
        assert "hunter" not in everything_shown(error)

    async def test_unreachable_proxy_is_named(self, server: TokenServer, quick: RetryPolicy) -> None:
        """The error says that it was the proxy to which no connection could be made."""
        async with RawServer(says()) as proxy:
            url = f"http://127.0.0.1:{proxy.port}"
        error = await failure(server.endpoint(credentials=self.credentials(server), proxy=url, policy=quick))

        assert f"failed: cannot connect to the proxy 127.0.0.1:{proxy.port} (" in str(error)

    @pytest.mark.parametrize("make_ssl", [lambda: None, lambda: aiohttp.Fingerprint(bytes(32))])
    async def test_untrusted_behind_proxy(
        self,
        server: TokenServer,
        quick: RetryPolicy,
        make_ssl: Callable[[], aiohttp.Fingerprint | None],
    ) -> None:
        """Inside the tunnel certificates and fingerprints are checked all the same."""
        async with server, ConnectProxy(port=server.port) as proxy:
            endpoint = server.endpoint(
                credentials=self.credentials(server),
                proxy=f"http://127.0.0.1:{proxy.port}",
                ssl=make_ssl(),
                policy=quick,
            )
            error = await failure(endpoint)

            assert TokenTransportError is type(error)
            assert not error.retryable
            assert "certificate" == error.code
            assert (1, 0) == (len(proxy.requests), len(server.requests))

    async def test_cancelled_in_proxy(self, server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """The traceback of a request that was cancelled at the proxy shows neither secret nor proxy password."""
        async with server, RawServer(hangs_after()) as proxy:
            monkeypatch.setenv("https_proxy", f"http://{self.USERINFO}@127.0.0.1:{proxy.port}")
            endpoint = server.endpoint(credentials=self.credentials(server), trust_env=True)
            shown = everything_shown(await cancelled(endpoint.request_token(), proxy.arrived))
            await proxy.clients_left()

        assert not shows_secret(shown)
        assert self.AUTHORIZATION.decode() not in shown
        assert "hunter" not in shown

    @pytest.mark.parametrize("trust_env", [True, False])
    @pytest.mark.parametrize("auth_method", ["client_secret_basic", "client_secret_post"])
    async def test_netrc(
        self,
        token_server: TokenServer,
        auth_method: str,
        *,
        trust_env: bool,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Authorization is ours or absent: netrc is never read."""
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login intruder password hunter2\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        credentials = token_server.credentials(client_secret="s", auth_method=auth_method)
        await token_server.endpoint(credentials=credentials, trust_env=trust_env).request_token()

        ours = "Basic " + base64.b64encode(b"app:s").decode()
        expected = ours if auth_method == "client_secret_basic" else None
        assert expected == token_server.requests[0].headers.get("Authorization")
