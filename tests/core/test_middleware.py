"""`BearerAuthMiddleware`: which requests carry the token, and what happens when the API rejects it."""

from __future__ import annotations

import asyncio
import io
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from simplestore_async import AccessToken, BearerAuthMiddleware, TokenProvider
from simplestore_async.errors import (
    ConfigurationError,
    InvalidClientError,
    SimpleStoreError,
    TokenError,
    TokenTimeoutError,
)
from simplestore_async.events import RenewalFailed
from tests.support.api_servers import (
    INVALID_TOKEN,
    UNAUTHORIZED,
    ConnectProxy,
    LocalResolver,
    WireServer,
    authorized_session,
    echo_websocket,
    private_ca,
    redirecting,
    refusing_url,
    rejecting,
)
from tests.support.servers import ApiServer, TokenServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from simplestore_async import RetryPolicy
    from simplestore_async.events import Event
    from tests.support.clocks import FakeClock
    from tests.support.servers import Server

INVALID_CLIENT = {"error": "invalid_client", "title": "Unknown client"}
BEARER_1, BEARER_2 = "Bearer canary-token-1", "Bearer canary-token-2"


class ListSource:
    """A token source of a user's own: gives *tokens* one after the other, and keeps what it was told."""

    def __init__(self, *tokens: str, may_replace: bool = True) -> None:
        self._tokens = list(tokens)
        self._may_replace = may_replace
        self.invalidated: list[str] = []

    async def get_token(self) -> AccessToken:
        if not self._tokens:
            raise TokenError("No token left")
        return AccessToken(self._tokens.pop(0), issued_at=0, expires_at=3600)

    def invalidate(self, token: AccessToken) -> bool:
        self.invalidated.append(token.value)
        return self._may_replace


def authorizations(server: Server) -> list[list[str]]:
    return [request.headers.getall("Authorization", []) for request in server.requests]


async def fetch(session: aiohttp.ClientSession, url: str | URL, method: str = "GET", **options: Any) -> tuple[int, str]:
    async with session.request(method, url, **options) as response:
        return response.status, await response.text()


# case 34
class TestOrigins:
    async def test_inside(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """A request to one of the origins carries the token, once."""
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            await fetch(session, f"{api_server.url}/items?page=2")

        assert [[BEARER_1]] == authorizations(api_server)

    @pytest.mark.parametrize("origins", ["{}", ["https://other.example", "{}"], [URL("https://other.example"), "{}/"]])
    async def test_several(self, token_server: TokenServer, api_server: ApiServer, origins: str | list[str]) -> None:
        """One origin or several may be named, as strings or URLs; a string is one origin, not its characters."""
        named = origins.format(api_server.url) if isinstance(origins, str) else None
        urls = named or [URL(str(origin).replace("{}", api_server.url)) for origin in origins]
        async with (
            token_server.provider() as provider,
            aiohttp.ClientSession(middlewares=[BearerAuthMiddleware(provider, origins=urls)]) as session,
        ):
            await fetch(session, api_server.url)

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
            ("http://api.example", "http://api.example/", True),
            ("http://api.example", "http://api.example:80/", True),
            ("http://api.example:80", "http://api.example/", True),
            ("http://API.example", "http://api.EXAMPLE/", True),
            ("http://bücher.example", "http://xn--bcher-kva.example/", True),
            ("http://xn--bcher-kva.example", "http://BÜCHER.example/", True),
            ("http://api.example", "http://me:password@api.example/", True),
            ("https://api.example", "https://api.example:443/", True),
            ("https://api.example:443", "https://api.example/", True),
            # case 36
            ("https://api.example", "http://api.example/", False),
            ("http://api.example", "https://api.example/", False),
            ("https://api.example:80", "http://api.example/", False),
            ("http://api.example", "http://api.example:8080/", False),
            ("http://api.example:8080", "http://api.example/", False),
            ("http://api.example", "http://api.example@evil.example/", False),
            ("https://api.example", "https://api.example@evil.example/", False),
            ("http://api.example", "http://api.example:80@evil.example/", False),
            ("http://api.example", "http://evil.example/http://api.example/", False),
            ("http://api.example", "http://evil.example/?http://api.example", False),
            ("http://api.example", "http://api.example.evil.example/", False),
            ("http://api.example", "http://evil-api.example/", False),
            ("http://api.example", "http://x.api.example/", False),
            ("http://api.example", "http://example/", False),
            ("http://api.example", "http://api.example./", True),
            ("http://api.example", "http://\u0430pi.example/", False),  # Cyrillic
            ("http://api.example", "http://api.ex\u0430mple/", False),
            ("http://bücher.example", "http://bucher.example/", False),
            ("http://127.0.0.1", "http://localhost/", False),
        ],
    )
    async def test_same_origin(self, token_server: TokenServer, origin: str, url: str, *, has_token: bool) -> None:
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

    # case 36
    @pytest.mark.parametrize(
        ("origin", "problem"),
        [
            ("http://localhost.evil.example", "plain http"),
            ("http://127.0.0.1.evil.example", "plain http"),
            ("http://localhost.", "plain http"),
            ("http://api.example", "plain http"),
            ("http://10.0.0.1", "plain http"),
            ("http://[::2]", "plain http"),
            ("https://hunter2@api.example", "user name or password"),
            ("https://me:hunter2@api.example", "user name or password"),
            ("https://:hunter2@api.example", "user name or password"),
            ("https://api.example/v1", "scheme, host and port only; write https://api.example "),
            ("https://api.example//", "scheme, host and port only"),
            ("https://api.example?x=1", "scheme, host and port only"),
            ("https://api.example#x", "fragment"),
            ("https://*.example", "wildcard"),
            ("https://*", "wildcard"),
            ("*", "https://"),
            ("api.example", "https://"),
            ("//api.example", "https://"),
            ("/v1", "https://"),
            ("", "https://"),
            ("https://", "https://"),
            ("ftp://api.example", "https://"),
            ("wss://api.example", "https://"),
            ("https://api.example:0", "https://"),
            ("https://api.example:99999", "not a URL"),
            ("https://api.example:hunter2", "not a URL"),
            (URL("https://api.example/v1"), "scheme, host and port only"),
            (5, "str or yarl.URL"),
            (None, "str or yarl.URL"),
            (b"https://api.example", "str or yarl.URL"),
        ],
    )
    async def test_wrong(self, origin: Any, problem: str) -> None:
        """What is more or less than an origin is refused in the user's terms, and no password is repeated."""
        with pytest.raises(ConfigurationError, match=f"^origins .*{problem}") as caught:
            BearerAuthMiddleware(ListSource(), origins=["https://other.example", origin])

        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize("origins", [[], (), frozenset()])
    async def test_none(self, origins: Any) -> None:
        """A middleware without origins is refused: it would do nothing, or everything."""
        with pytest.raises(ConfigurationError, match=r"^origins is empty; name the origin"):
            BearerAuthMiddleware(ListSource(), origins=origins)

    @pytest.mark.parametrize(
        "origin", ["http://127.1.2.3", "http://[::1]:8080", "http://localhost", "http://LOCALHOST/"]
    )
    async def test_loopback(self, origin: str) -> None:
        """Plain http is accepted for loopback, by its exact names."""
        BearerAuthMiddleware(ListSource(), origins=origin)

    async def test_insecure(self) -> None:
        """Plain http to other machines needs `allow_insecure_http=True`."""
        BearerAuthMiddleware(ListSource(), origins="http://api.example", allow_insecure_http=True)

    @pytest.mark.parametrize(
        "source",
        [
            None,
            "token",
            {"get_token": 1, "invalidate": 2},
            AccessToken,
            SimpleNamespace(get_token=len),
            SimpleNamespace(invalidate=len),
        ],
    )
    async def test_no_source(self, source: Any) -> None:
        """A source without the two methods is refused at once, by the name of its type."""
        with pytest.raises(
            ConfigurationError, match=f"get_token and invalidate, which {type(source).__name__} has not"
        ):
            BearerAuthMiddleware(source, origins="https://api.example")


# case 35
class TestRedirects:
    async def test_within(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """Every hop within the origins carries the token."""
        api_server.handler = redirecting(api_server, {"/a": "/b", "/b": f"{api_server.url}/c"})
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            status, _ = await fetch(session, f"{api_server.url}/a")

        assert (200, [[BEARER_1]] * 3) == (status, authorizations(api_server))

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_other_port(self, token_server: TokenServer, api_server: ApiServer, status: int) -> None:
        """A redirect to another port carries no token there, whatever its status and the request's body."""
        async with (
            ApiServer() as other,
            token_server.provider() as provider,
            authorized_session(provider, api_server.url) as session,
        ):
            api_server.handler = redirecting(api_server, {"/a": f"{other.url}/stolen"}, status=status)
            last, _ = await fetch(session, f"{api_server.url}/a", "POST", data=b"body")

            assert ([[BEARER_1]], [[]]) == (authorizations(api_server), authorizations(other))
        assert (401, 1) == (last, len(token_server.requests))

    @pytest.mark.parametrize("host", ["localhost", "evil.example"])
    async def test_other_host(self, token_server: TokenServer, api_server: ApiServer, host: str) -> None:
        """A redirect to another host carries no token there, be it the same machine and port."""
        api_server.handler = redirecting(api_server, {"/a": f"http://{host}:{api_server.port}/stolen"})
        async with (
            token_server.provider() as provider,
            authorized_session(
                provider, api_server.url, connector=aiohttp.TCPConnector(resolver=LocalResolver())
            ) as session,
        ):
            await fetch(session, f"{api_server.url}/a", headers={"Authorization": "Bearer mine"})

        assert [[BEARER_1], []] == authorizations(api_server)

    async def test_downgrade_and_back(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """A redirect from https to http carries no token there, and does again once it leads back."""
        async with (
            ApiServer(ssl_context=private_ca().server) as secure,
            token_server.provider() as provider,
            authorized_session(
                provider, secure.url, connector=aiohttp.TCPConnector(ssl=private_ca().client)
            ) as session,
        ):
            secure.handler = redirecting(secure, {"/a": f"http://127.0.0.1:{api_server.port}/b"})
            api_server.handler = redirecting(api_server, {"/b": f"{secure.url}/c"})
            status, _ = await fetch(session, f"{secure.url}/a")

            assert ([[BEARER_1]] * 2, [[]]) == (authorizations(secure), authorizations(api_server))
        assert 200 == status

    async def test_other_port_and_back(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """A redirect that leaves the origins and comes back carries the token on the first and the last hop only."""
        async with (
            ApiServer() as other,
            token_server.provider() as provider,
            authorized_session(provider, api_server.url) as session,
        ):
            api_server.handler = redirecting(api_server, {"/a": f"{other.url}/b"})
            other.handler = redirecting(other, {"/b": f"{api_server.url}/c"})
            status, _ = await fetch(session, f"{api_server.url}/a")

            assert (200, [[BEARER_1]] * 2, [[]]) == (status, authorizations(api_server), authorizations(other))

    async def test_into(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """A redirect from elsewhere into the origins carries the token on its last hop."""
        async with (
            ApiServer() as other,
            token_server.provider() as provider,
            authorized_session(provider, api_server.url) as session,
        ):
            other.handler = redirecting(other, {"/a": f"{api_server.url}/b"})
            status, _ = await fetch(session, f"{other.url}/a")

            assert (200, [[BEARER_1]], [[]]) == (status, authorizations(api_server), authorizations(other))

    async def test_rejected_hop(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """A hop that is rejected is replayed itself, not the whole chain."""
        api_server.rejected.add("canary-token-1")
        reject = api_server.handler
        redirect = redirecting(api_server, {"/a": "/b"})
        api_server.handler = lambda request: (redirect if request.path == "/a" else reject)(request)
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            status, _ = await fetch(session, f"{api_server.url}/a")

        assert 200 == status
        assert [("/a", [BEARER_1]), ("/b", [BEARER_1]), ("/b", [BEARER_2])] == [
            (request.path, values)
            for request, values in zip(api_server.requests, authorizations(api_server), strict=True)
        ]


# case 37
class TestRejection:
    @pytest.mark.parametrize(
        ("status", "challenges"),
        [
            (401, []),
            (401, ['Basic realm="x"']),
            (401, ['Bearer realm="x"']),
            (400, [INVALID_TOKEN]),
            (403, [INVALID_TOKEN]),
            (403, ["Bearer error=invalid_token"]),
            (403, ["Bearer error=invalid_token, realm=x"]),
            (403, ["Bearer realm=x,error=invalid_token,scope=y"]),
            (403, ['Bearer realm="x", error="invalid_token", error_description="The access token, alas, expired"']),
            (403, ['Bearer realm="a, b" , error = "invalid_token"']),
            (403, ['bEARER eRROR="invalid_token"']),
            (403, ['Basic realm="x"', INVALID_TOKEN]),
            (403, [INVALID_TOKEN, 'Basic realm="x"']),
            (403, [f'Basic realm="x", {INVALID_TOKEN}']),
            (403, [f'{INVALID_TOKEN}, Basic realm="x"']),
            (403, ['Negotiate, Bearer realm="x", error="invalid_token", Digest realm="y", nonce="z"']),
            (403, ['Bearer  \terror="invalid_token"']),
            (499, [INVALID_TOKEN]),
        ],
    )
    async def test_renews_and_replays(
        self, token_server: TokenServer, api_server: ApiServer, status: int, challenges: list[str]
    ) -> None:
        """A rejection of the token makes one token request and one replay, whose answer the caller gets."""
        api_server.rejected.add("canary-token-1")
        api_server.handler = rejecting(api_server, status, *challenges)
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            answer = await fetch(session, f"{api_server.url}/items")

        assert (200, '{"path": "/items"}') == answer
        assert ([[BEARER_1], [BEARER_2]], 2) == (authorizations(api_server), len(token_server.requests))

    @pytest.mark.parametrize(
        ("status", "challenges"),
        [
            (403, []),
            (400, []),
            (404, []),
            (403, ['Bearer error="insufficient_scope"']),
            (403, ['Bearer realm="invalid_token"']),
            (403, ['Bearer error_description="invalid_token"']),
            (403, ['Bearer error_uri="invalid_token", error="insufficient_scope"']),
            (403, ['Bearer error="invalid_token_format"']),
            (403, ["Bearer error=invalid_tokens"]),
            (403, ['Bearer error="not_invalid_token"']),
            (403, ['Bearer x-error="invalid_token"']),
            (403, ['NoBearer error="invalid_token"']),
            (403, ["Bearer", 'Basic realm="x"']),
            (500, [INVALID_TOKEN]),
            (503, [INVALID_TOKEN]),
            (200, [INVALID_TOKEN]),
            (302, [INVALID_TOKEN]),
            (399, [INVALID_TOKEN]),
        ],
    )
    async def test_other_answers(
        self, token_server: TokenServer, api_server: ApiServer, status: int, challenges: list[str]
    ) -> None:
        """Any other answer reaches the caller as it is; the token is kept."""
        api_server.rejected.add("canary-token-1")
        api_server.handler = rejecting(api_server, status, *challenges, text="why")
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            answers = [await fetch(session, api_server.url) for _ in range(2)]

        assert [(status, "why")] * 2 == answers
        assert ([[BEARER_1]] * 2, 1) == (authorizations(api_server), len(token_server.requests))

    async def test_second_rejection(self, token_server: TokenServer) -> None:
        """A second 401 is returned at once, unread: its body may come later. There is no third request."""
        is_asked_for = asyncio.Event()

        async def reject(writer: asyncio.StreamWriter) -> None:
            writer.write(UNAUTHORIZED.replace(b"Length: 0", b"Length: 6"))
            if len(wire_server.requests) == 2:
                await is_asked_for.wait()
            writer.write(b"second")

        async with (
            WireServer(reject) as wire_server,
            token_server.provider() as provider,
            authorized_session(provider, wire_server.url) as session,
        ):
            wire_server.rejected |= {"canary-token-1", "canary-token-2"}
            async with asyncio.timeout(30), session.get(wire_server.url) as response:
                is_asked_for.set()
                body = await response.read()

        assert (401, b"second") == (response.status, body)
        assert (["canary-token-1", "canary-token-2"], 2) == (wire_server.tokens, len(token_server.requests))

    async def test_second_rejection_counts(self, api_server: ApiServer) -> None:
        """Both rejected tokens are reported to the source, each once, as it was sent."""
        source = ListSource("first", "second")
        api_server.rejected |= {"first", "second"}
        async with authorized_session(source, api_server.url) as session:
            await fetch(session, api_server.url)

        assert ["first", "second"] == source.invalidated

    async def test_success_is_no_rejection(self, api_server: ApiServer) -> None:
        """A token is reported to the source when it is rejected, and only then."""
        source = ListSource("first", "second")
        api_server.rejected.add("first")
        async with authorized_session(source, api_server.url) as session:
            await fetch(session, api_server.url)

        assert ["first"] == source.invalidated

    async def test_no_replacement(self, api_server: ApiServer) -> None:
        """If the source has no other token to give now, the first 401 is returned, readable."""
        source = ListSource("first", "second", may_replace=False)
        api_server.handler = rejecting(api_server, 401, text="first")
        api_server.rejected.add("first")
        async with authorized_session(source, api_server.url) as session:
            answer = await fetch(session, api_server.url)

        assert ((401, "first"), ["first"]) == (answer, api_server.tokens)

    async def test_failing_renewal(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """If the renewal after a rejection fails, its error is raised, and nothing more is sent."""
        api_server.rejected.add("canary-token-1")
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            await provider.get_token()
            token_server.replies.append(web.json_response(INVALID_CLIENT, status=400))
            with pytest.raises(InvalidClientError, match="Unknown client"):
                await session.get(api_server.url)

        assert [[BEARER_1]] == authorizations(api_server)

    async def test_barred_endpoint(
        self, token_server: TokenServer, api_server: ApiServer, clock: FakeClock, quick: RetryPolicy
    ) -> None:
        """While the token endpoint is left alone after a failure, the API's 401 is returned, readable."""
        api_server.handler = rejecting(api_server, 401, text="revoked")
        has_failed = asyncio.Event()

        def listen(event: Event) -> None:
            if isinstance(event, RenewalFailed):
                has_failed.set()

        provider = token_server.provider(clock=clock, retry=quick, on_event=listen)
        async with provider, authorized_session(provider, api_server.url) as session:
            token = await provider.get_token()
            clock.advance(token.expires_at - token.issued_at - 1)
            token_server.replies += [503] * 3
            assert token is await provider.get_token()
            await has_failed.wait()
            api_server.rejected.add("canary-token-1")
            answer = await fetch(session, api_server.url)

        assert ((401, "revoked"), [[BEARER_1]]) == (answer, authorizations(api_server))

    async def test_same_token_again(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """A source that gives the rejected token again makes an error that says so: it is not sent twice."""
        api_server.rejected.add("same")
        async with authorized_session(ListSource("same", "same"), api_server.url) as session:
            with pytest.raises(TokenError, match="gave the same one again") as caught:
                await session.get(api_server.url)

        assert (True, ["same"]) == (caught.value.retryable, api_server.tokens)
        assert "'same'" not in str(caught.value)

    async def test_no_token(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """When no token can be had the request is not sent: the error is raised."""
        token_server.replies.append(web.json_response(INVALID_CLIENT, status=400))
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            with pytest.raises(InvalidClientError):
                await session.post(api_server.url, data=b"body")

        assert [] == api_server.requests

    async def test_no_endpoint(self, api_server: ApiServer, token_server: TokenServer, quick: RetryPolicy) -> None:
        """Nor is it sent when the token endpoint is not there at all."""
        credentials = token_server.credentials(token_url=refusing_url())
        async with (
            token_server.provider(credentials=credentials, retry=quick) as provider,
            authorized_session(provider, api_server.url) as session,
        ):
            with pytest.raises(SimpleStoreError):
                await session.get(api_server.url)

        assert [] == api_server.requests

    async def test_released_before_renewal(self, token_server: TokenServer) -> None:
        """A pool of one connection serves a 401 that never ends, the renewal by the same pool, and the replay."""
        connector = aiohttp.TCPConnector(limit=1)
        provider = TokenProvider(endpoint=token_server.endpoint(connector=connector))
        async with (
            WireServer(_send_slowly) as server,
            provider,
            authorized_session(provider, server.url, connector=connector) as session,
            asyncio.timeout(30),
        ):
            server.rejected.add("canary-token-1")
            answer = await fetch(session, server.url)

            assert ((200, "fine"), ["canary-token-1", "canary-token-2"]) == (answer, server.tokens)


# case 38
class TestManyRejections:
    async def test_revoked_token(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """100 requests with one revoked token, half of whose 401s come after the renewal, make one token request."""
        api_server.rejected.add("canary-token-1")
        have_arrived, may_straggle = asyncio.Event(), asyncio.Event()
        reject = api_server.handler

        async def handle(request: web.Request) -> web.StreamResponse:
            if request.headers["Authorization"] == BEARER_1:
                if len(api_server.requests) == 100:
                    have_arrived.set()
                await (may_straggle if int(request.path[1:]) % 2 else have_arrived).wait()
            return await reject(request)

        api_server.handler = handle
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            tasks = [asyncio.create_task(fetch(session, f"{api_server.url}/{number}")) for number in range(100)]
            first_half = await asyncio.gather(*tasks[::2])
            after_first_half = len(token_server.requests)
            may_straggle.set()
            second_half = await asyncio.gather(*tasks[1::2])

        assert [200] * 100 == [status for status, _ in first_half + second_half]
        assert (2, 2) == (after_first_half, len(token_server.requests))
        assert {"canary-token-1": 100, "canary-token-2": 100} == {
            token: api_server.tokens.count(token) for token in api_server.tokens
        }

    # case 39
    async def test_always_401(self, token_server: TokenServer, api_server: ApiServer, clock: FakeClock) -> None:
        """500 requests in under 5 s to an API that always says 401 make two token requests, and no useless replay."""
        api_server.handler = rejecting(api_server, 401, text="never")
        api_server.rejected |= {"", *(f"canary-token-{number}" for number in range(10))}
        provider = token_server.provider(clock=clock)
        async with provider, authorized_session(provider, api_server.url) as session:
            answers = []
            for batch in range(10):
                urls = [f"{api_server.url}/{batch}-{number}" for number in range(50)]
                answers += await asyncio.gather(*(fetch(session, url) for url in urls))
                clock.advance(0.49)
            after_storm = len(token_server.requests)
            clock.advance(0.2)
            await fetch(session, f"{api_server.url}/later")

        sent: dict[str, list[str | None]] = {}
        for request, token in zip(api_server.requests, api_server.tokens, strict=True):
            sent.setdefault(request.path, []).append(token)
        assert [(401, "never")] * 500 == answers
        assert (2, 3) == (after_storm, len(token_server.requests))
        assert [] == [tokens for tokens in sent.values() if len(tokens) != len(set(tokens))]
        assert 501 == len(sent)


async def _send_large(writer: asyncio.StreamWriter) -> None:
    writer.write(UNAUTHORIZED.replace(b"Length: 0", b"Length: 8000000") + bytes(8_000_000))
    await writer.drain()


async def _send_slowly(writer: asyncio.StreamWriter) -> None:
    writer.write(UNAUTHORIZED.replace(b"Length: 0", b"Length: 2") + b"x")
    await asyncio.Event().wait()


async def _send_endlessly(writer: asyncio.StreamWriter) -> None:
    writer.write(UNAUTHORIZED.replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
    while True:
        writer.write(b"10000\r\n" + bytes(65536) + b"\r\n")
        await writer.drain()


# case 42
class TestLongRejection:
    @pytest.mark.parametrize("reject", [_send_large, _send_slowly, _send_endlessly])
    @pytest.mark.parametrize("body", [None, bytes(1_000_000)], ids=["get", "post"])
    async def test_one_connection(
        self,
        token_server: TokenServer,
        reject: Callable[[asyncio.StreamWriter], Awaitable[None]],
        body: bytes | None,
    ) -> None:
        """The body of a 401, be it large, slow or endless, neither blocks a pool of one connection nor leaks it."""
        connector = aiohttp.TCPConnector(limit=1)
        async with (
            WireServer(reject) as server,
            token_server.provider() as provider,
            authorized_session(provider, server.url, connector=connector) as session,
            asyncio.timeout(30),
        ):
            server.rejected.add("canary-token-1")
            method = "GET" if body is None else "POST"
            answers = [await fetch(session, server.url, method, data=body) for _ in range(2)]

            assert [(200, "fine")] * 2 == answers
            assert (0, 1) == (len(connector._acquired), sum(map(len, connector._conns.values())))
        assert ["canary-token-1", "canary-token-2", "canary-token-2"] == server.tokens

    async def test_unread_upload(self, token_server: TokenServer) -> None:
        """Nor does a 401 that comes before the request's body was read."""
        connector = aiohttp.TCPConnector(limit=1)
        async with (
            WireServer() as server,
            token_server.provider() as provider,
            authorized_session(provider, server.url, connector=connector) as session,
            asyncio.timeout(30),
        ):
            server.rejected.add("canary-token-1")
            server.reads_body, server.reads_late = False, True
            answer = await fetch(session, server.url, "POST", data=io.BytesIO(bytes(16_000_000)))
            await server.has_read_late.wait()

            assert (200, "fine") == answer
            assert (0, 1) == (len(connector._acquired), sum(map(len, connector._conns.values())))
        assert 16_000_000 == len(server.requests[1].body)


class TestSurroundings:
    # case 43
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

    # case 43
    async def test_callers_timeout_after_rejection(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """So it does during the renewal that follows a rejection."""
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

    # case 44
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

    # case 44
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
                with pytest.raises(ConfigurationError, match=f"^{url} is plain http.*use https, or no proxy"):
                    await session.get(url, proxy=proxy.url if where == "request" else None)

            assert ([], []) == (proxy.heads, api_server.requests)

    # case 44
    async def test_http_proxy_outside(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """Requests outside the origins may pass through a proxy as they like, without a token."""
        async with (
            ConnectProxy() as proxy,
            token_server.provider() as provider,
            authorized_session(provider, "https://api.example") as session,
        ):
            status, _ = await fetch(session, api_server.url, proxy=proxy.url)

            assert (502, [None]) == (status, [head.token for head in proxy.heads])

    # case 44
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

    # case 44
    async def test_opt_out(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """`middlewares=()` on a request sends it without a token."""
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            status, _ = await fetch(session, api_server.url, middlewares=())

        assert (401, [[]], []) == (status, authorizations(api_server), token_server.requests)

    # case 44
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


async def _break_off(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
    writer.close()


async def _say_nothing(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _babble(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 999999 ?\r\n\r\n")


async def _send_no_json(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Type: text/html\r\n\r\nx")


async def _refuse(writer: asyncio.StreamWriter) -> None:
    writer.write(UNAUTHORIZED.replace(b"401", b"402"))


# case 57
class TestSecrecy:
    @pytest.mark.parametrize("answer", [_refuse, _break_off, _say_nothing, _babble, _send_no_json, None])
    async def test_errors(
        self, token_server: TokenServer, answer: Callable[[asyncio.StreamWriter], Awaitable[None]] | None
    ) -> None:
        """No error of aiohttp's from an authorised request shows the token, nor does its request_info hold one."""
        async with (
            WireServer(answer) as server,
            token_server.provider() as provider,
            authorized_session(provider, server.url, raise_for_status=True) as session,
        ):
            url = server.url if answer else refusing_url()
            server.rejected.add("canary-token-1")
            with pytest.raises(aiohttp.ClientError) as caught:
                async with session.get(url) as response:
                    await response.json()

        request_info = getattr(caught.value, "request_info", None)
        shown = f"{caught.value} {caught.value!r} {caught.value.args!r} {request_info!r}"
        assert "canary" not in shown
        assert request_info is None or "Authorization" not in request_info.headers

    async def test_response(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """Neither a response nor those of the redirects before it show or hold the token."""
        api_server.handler = redirecting(api_server, {"/a": "/b"})
        async with (
            token_server.provider() as provider,
            authorized_session(provider, api_server.url) as session,
            session.get(f"{api_server.url}/a") as response,
        ):
            responses = [*response.history, response]

        assert [False, False] == ["Authorization" in each.request_info.headers for each in responses]
        assert "canary" not in repr([(each, each.request_info) for each in responses])

    async def test_trace(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """The trace hooks of aiohttp show no token, not even the one that gets the headers as they are sent."""
        shown: list[str] = []

        async def show(session: object, context: object, params: object) -> None:
            shown.append(repr(params))

        trace_config = aiohttp.TraceConfig()
        for name in dir(trace_config):
            if name.startswith("on_"):
                getattr(trace_config, name).append(show)
        api_server.rejected.add("canary-token-1")
        async with (
            token_server.provider() as provider,
            authorized_session(provider, api_server.url, trace_configs=[trace_config]) as session,
        ):
            await fetch(session, api_server.url, "POST", data=b"body")

        assert 2 == sum("'Authorization': '***'" in each for each in shown)
        assert "canary" not in "".join(shown)

    async def test_cancelled(self, token_server: TokenServer) -> None:
        """A request that is cancelled while it is under way leaves no token in its headers."""
        requests: list[aiohttp.ClientRequest] = []

        async def outer(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
            requests.append(request)
            return await handler(request)

        async def never(writer: asyncio.StreamWriter) -> None:
            is_sent.set()
            await asyncio.Event().wait()

        is_sent = asyncio.Event()
        async with (
            WireServer(never) as server,
            token_server.provider() as provider,
            authorized_session(provider, server.url, middlewares=[outer]) as session,
        ):
            server.rejected.add("canary-token-1")
            task = asyncio.create_task(fetch(session, server.url))
            await is_sent.wait()
            assert "***" in repr(requests[0].headers)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        assert "Authorization" not in requests[0].headers
