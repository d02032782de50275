"""`BearerAuthMiddleware`: connections and cookies between a rejection and the second request."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from simplestore_async import TokenProvider
from tests.support.api_requests import ListSource, fetch
from tests.support.api_servers import UNAUTHORIZED, WireServer, authorized_session, rejecting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.servers import ApiServer, TokenServer


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


class TestLongRejection:
    @pytest.mark.parametrize("reject", [_send_large, _send_slowly, _send_endlessly])
    @pytest.mark.parametrize("body", [None, bytes(1_000_000)], ids=["get", "post"])
    async def test_one_connection(
        self,
        token_server: TokenServer,
        reject: Callable[[asyncio.StreamWriter], Awaitable[None]],
        body: bytes | None,
    ) -> None:
        """A large, slow or endless body of a 401 neither blocks a pool of one connection nor leaks it."""
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
        """A 401 that arrives before the body was read neither blocks a pool of one connection nor leaks it."""
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


def _peers(server: ApiServer) -> list[Any]:
    """Keep the client's side of each request's connection."""
    peers: list[Any] = []
    answer = server.handler

    async def handle(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peers.append(request.transport.get_extra_info("peername"))
        return await answer(request)

    server.handler = handle
    return peers


class TestConnection:
    @pytest.mark.parametrize(("method", "is_reused"), [("GET", True), ("POST", False), ("PUT", False)])
    async def test_reuse(
        self, token_server: TokenServer, api_server: ApiServer, method: str, *, is_reused: bool
    ) -> None:
        """Only a safe method is sent again on the connection of the 401, which the server may be about to close."""
        api_server.rejected.add("canary-token-1")
        peers = _peers(api_server)
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            status, _ = await fetch(session, api_server.url, method)

        assert 200 == status
        assert is_reused == (peers[0] == peers[1])

    @pytest.mark.parametrize("text", ["", "why"])
    @pytest.mark.parametrize(("method", "is_reused"), [("GET", True), ("POST", False)])
    async def test_response_of_the_caller(
        self, api_server: ApiServer, method: str, text: str, *, is_reused: bool
    ) -> None:
        """A 401 that the caller gets can be read; its connection is reused only after a safe method."""
        api_server.rejected.add("first")
        api_server.handler = rejecting(api_server, 401, text=text)
        peers = _peers(api_server)
        async with authorized_session(ListSource("first", "second", may_replace=False), api_server.url) as session:
            answers = [await fetch(session, api_server.url, method) for _ in range(2)]

        assert [(401, text), (200, '{"path": "/"}')] == answers
        assert is_reused == (peers[0] == peers[1])

    async def test_server_that_hangs_up(self, token_server: TokenServer) -> None:
        """A server that promises to keep the connection of its 401 and closes it costs no POST."""

        async def reject(writer: asyncio.StreamWriter) -> None:
            writer.write(UNAUTHORIZED)
            await writer.drain()
            writer.close()

        async with (
            WireServer(reject) as server,
            token_server.provider() as provider,
            authorized_session(provider, server.url) as session,
        ):
            server.rejected.add("canary-token-1")
            answer = await fetch(session, server.url, "POST", data=b"body")

        assert (200, "fine") == answer


class TestCookies:
    @pytest.mark.parametrize(
        ("before", "cookies", "after"),
        [  # in the jar and of the caller; set by the rejection; sent with the second request and the next
            (({}, {}), ["route=b; Path=/"], ["route=b", "route=b"]),
            (({"route": "a"}, {}), ["route=b; Path=/"], ["route=b", "route=b"]),
            (({"route": "a", "user": "u"}, {}), ["route=b; Path=/"], ["route=b; user=u", "route=b; user=u"]),
            (({"route": "a"}, {}), ["route=; Max-Age=0; Path=/"], [None, None]),
            (({"route": "a"}, {}), ["route=b; Path=/", "other=c"], ["other=c; route=b", "other=c; route=b"]),
            (({}, {}), ["route=b; Path=/elsewhere"], [None, None]),
            (({}, {"route": "mine"}), ["route=b; Path=/"], ["route=mine", "route=b"]),
            (({"route": "a"}, {"user": "me"}), ["route=b; Path=/"], ["route=b; user=me", "route=b"]),
            (({}, {"user": "me"}), [], ["user=me", None]),
        ],
    )
    async def test_second_request(
        self,
        token_server: TokenServer,
        api_server: ApiServer,
        *,
        before: tuple[dict[str, str], dict[str, str]],
        cookies: list[str],
        after: list[str | None],
    ) -> None:
        """Cookies of a rejection reach the jar and the second request; the caller's own outrank them."""
        api_server.rejected.add("canary-token-1")
        answer = api_server.handler

        async def handle(request: web.Request) -> web.StreamResponse:
            response = await answer(request)
            if response.status == 401:
                for cookie in cookies:
                    response.headers.add("Set-Cookie", cookie)
            return response

        api_server.handler = handle
        cookie_jar = aiohttp.CookieJar(unsafe=True)
        cookie_jar.update_cookies(before[0], URL(api_server.url))
        async with (
            token_server.provider() as provider,
            authorized_session(provider, api_server.url, cookie_jar=cookie_jar) as session,
        ):
            await fetch(session, f"{api_server.url}/items", cookies=before[1])
            await fetch(session, f"{api_server.url}/items")

        sent = [request.headers.get("Cookie") for request in api_server.requests]
        assert after == [each and "; ".join(sorted(each.split("; "))) for each in sent[1:]]

    async def test_many_cookies(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """A rejection sets 50 cookies of 4096 characters, and no more: reading them is work without an end."""
        api_server.rejected.add("canary-token-1")
        answer = api_server.handler

        async def handle(request: web.Request) -> web.StreamResponse:
            response = await answer(request)
            if response.status == 401:
                for number in range(100):
                    response.headers.add("Set-Cookie", f"c{number}=" + "x" * (5000 if number == 0 else 40))
            return response

        api_server.handler = handle
        async with (
            token_server.provider() as provider,
            authorized_session(provider, api_server.url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session,
        ):
            status, _ = await fetch(session, api_server.url)

        assert 200 == status
        assert [f"c{number}" for number in range(1, 50)] == sorted(
            (pair.partition("=")[0] for pair in api_server.requests[1].headers["Cookie"].split("; ")),
            key=lambda name: int(name[1:]),
        )
