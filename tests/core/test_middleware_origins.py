"""`BearerAuthMiddleware`: which requests carry the token."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from yarl import URL

from simplestore_async import AccessToken, BearerAuthMiddleware, TokenProvider
from simplestore_async.errors import ConfigurationError
from tests.support.api_requests import BEARER_1, BEARER_2, ListSource, authorizations, fetch
from tests.support.api_servers import authorized_session, echo_websocket
from tests.support.resolver import LocalResolver
from tests.support.servers import ApiServer, TokenServer
from tests.support.tls import private_ca

if TYPE_CHECKING:
    from pathlib import Path


class TestOrigins:
    async def test_inside(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """A request to one of the origins carries the token, once."""
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            await fetch(session, f"{api_server.url}/items?page=2")

        assert [[BEARER_1]] == authorizations(api_server)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")  # aiohttp 3.14 warns of auth=, which still works
    @pytest.mark.parametrize(
        ("session_options", "options", "userinfo"),
        [
            ({"headers": {"Authorization": "Bearer mine"}}, {}, ""),
            ({"headers": {"authorization": "Bearer mine"}}, {}, ""),
            ({}, {"headers": {"AUTHORIZATION": "Bearer mine"}}, ""),
            ({}, {"headers": [("Authorization", "Bearer mine"), ("authorization", "Bearer mine too")]}, ""),
            ({}, {"auth": None}, ""),
            ({"auth": None}, {}, ""),
            ({}, {}, "me:password@"),
            ({"trust_env": True}, {}, ""),
        ],
        ids=["session", "session-lower", "request", "twice", "auth", "session-auth", "userinfo", "netrc"],
    )
    async def test_replaced(
        self,
        token_server: TokenServer,
        api_server: ApiServer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        *,
        session_options: dict[str, Any],
        options: dict[str, Any],
        userinfo: str,
    ) -> None:
        """Inside the origins an Authorization of the caller's is replaced, wherever it comes from."""
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password password")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        for given in (session_options, options):
            if "auth" in given:
                given["auth"] = aiohttp.BasicAuth("me", "password")
        url = api_server.url.replace("http://", f"http://{userinfo}")
        async with (
            token_server.provider() as provider,
            authorized_session(provider, api_server.url, **session_options) as session,
        ):
            await fetch(session, url, **options)

        assert [[BEARER_1]] == authorizations(api_server)

    async def test_netrc_is_read(
        self, api_server: ApiServer, token_server: TokenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Outside the origins the caller's own credentials, here from netrc, go where they always went."""
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password password")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        async with (
            token_server.provider() as provider,
            authorized_session(provider, "https://api.example", trust_env=True) as session,
        ):
            await fetch(session, api_server.url)

        assert [["Basic bWU6cGFzc3dvcmQ="]] == authorizations(api_server)

    @pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer mine"}])
    async def test_outside(self, token_server: TokenServer, api_server: ApiServer, headers: dict[str, str]) -> None:
        """Another origin gets the request as the caller made it, and no token is asked for; its 401 is its own."""
        api_server.rejected.add("mine")
        async with (
            token_server.provider() as provider,
            authorized_session(provider, "https://api.example") as session,
        ):
            status, _ = await fetch(session, api_server.url, headers=headers)

        assert (401, [list(headers.values())]) == (status, authorizations(api_server))
        assert [] == token_server.requests

    @pytest.mark.parametrize(
        ("origin", "url", "has_token"),
        [
            ("http://api.example", "http://api.example:80/", True),
            ("http://API.example", "http://api.EXAMPLE/", True),
            ("http://bücher.example", "http://xn--bcher-kva.example/", True),
            ("http://api.example", "http://me:password@api.example/", True),
            ("https://api.example:443", "https://api.example/", True),
            ("https://api.example", "http://api.example/", False),
            ("http://api.example", "https://api.example/", False),
            ("http://api.example", "http://api.example:8080/", False),
            ("http://api.example", "http://api.example@evil.example/", False),
            ("http://api.example", "http://api.example.evil.example/", False),
            ("http://api.example", "http://\u0430pi.example/", False),  # Cyrillic
            ("http://127.0.0.1", "http://localhost/", False),
            ("https://api.example", "https://api.example./", True),
            ("https://api.example.", "https://api.example/", True),
            ("http://bücher.example", URL("http://bücher.example/", encoded=True), True),
            ("http://bücher.example", URL("http://BÜCHER.example./", encoded=True), True),
            ("http://api.example", URL("http://API.example/", encoded=True), True),
        ],
    )
    async def test_same_origin(
        self, token_server: TokenServer, origin: str, url: str | URL, *, has_token: bool
    ) -> None:
        """An origin is scheme, host and port as they are connected to, however they are spelt."""
        async with (
            ApiServer() as plain,
            ApiServer(ssl_context=private_ca().server) as secure,
            token_server.provider() as provider,
        ):
            connector = aiohttp.TCPConnector(
                resolver=LocalResolver({80: plain.port, 8080: plain.port, 443: secure.port}), ssl=private_ca().client
            )
            async with authorized_session(provider, origin, allow_insecure_http=True, connector=connector) as session:
                await fetch(session, url)
            sent = [value for values in authorizations(plain) + authorizations(secure) for value in values]

        assert ([BEARER_1] if has_token else []) == [value for value in sent if value.startswith("Bearer")]
        assert has_token == bool(token_server.requests)

    @pytest.mark.parametrize("scheme", ["ws", "wss"])
    async def test_websocket(self, token_server: TokenServer, scheme: str) -> None:
        """A WebSocket handshake with an origin's host and port carries the token, and is replayed after a 401."""
        context = private_ca().server if scheme == "wss" else None
        async with (
            ApiServer(ssl_context=context) as api_server,
            token_server.provider() as provider,
            authorized_session(
                provider, api_server.url, connector=aiohttp.TCPConnector(ssl=private_ca().client)
            ) as session,
        ):
            api_server.rejected.add("canary-token-1")
            reject = api_server.handler
            api_server.handler = lambda request: (
                echo_websocket(request) if request.headers["Authorization"] == BEARER_2 else reject(request)
            )
            async with session.ws_connect(f"{scheme}://127.0.0.1:{api_server.port}/events") as websocket:
                await websocket.send_str("hello")
                echo = await websocket.receive_str()

        assert ("hello", ["canary-token-1", "canary-token-2"]) == (echo, api_server.tokens)

    async def test_websocket_outside(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """A WebSocket handshake with another port carries no token."""
        async with (
            token_server.provider() as provider,
            authorized_session(provider, "http://127.0.0.1:1") as session,
        ):
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await session.ws_connect(f"ws://127.0.0.1:{api_server.port}/")

        assert [None] == api_server.tokens

    @pytest.mark.parametrize("origin", ["http://api.example", "https://me:hunter2@api.example", "https://*", 5])
    async def test_wrong_origin(self, origin: Any) -> None:
        """One wrong origin among good ones is refused, and no password is repeated."""
        with pytest.raises(ConfigurationError, match=r"^origins ") as caught:
            BearerAuthMiddleware(ListSource(), origins=["https://other.example", origin])

        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize(
        "source",
        [
            None,
            "token",
            {"get_token": 1, "invalidate": 2},
            AccessToken,
            TokenProvider,
            SimpleNamespace(get_token=len),
            SimpleNamespace(invalidate=len),
        ],
    )
    async def test_wrong_source(self, source: Any) -> None:
        """A source without the two methods is refused at once, and so is a class."""
        with pytest.raises(ConfigurationError) as caught:
            BearerAuthMiddleware(source, origins="https://api.example")

        assert "source" == caught.value.field

    @pytest.mark.parametrize("flag", ["false", 0, None])
    async def test_wrong_flag(self, flag: Any) -> None:
        """`allow_insecure_http` is True or False: a text would count as true."""
        with pytest.raises(ConfigurationError) as caught:
            BearerAuthMiddleware(ListSource(), origins="https://api.example", allow_insecure_http=flag)

        assert "allow_insecure_http" == caught.value.field
