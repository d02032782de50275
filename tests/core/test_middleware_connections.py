"""`BearerAuthMiddleware`: connections and cookies between a rejection and its replay."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from simplestore_async import TokenEndpoint, TokenProvider
from tests.support.api_requests import ListSource, fetch
from tests.support.api_servers import UNAUTHORIZED, WireServer, authorized_session, rejecting
from tests.support.bodies import wire_and_session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from simplestore_async.sandbox import Sandbox
    from tests.support.servers import ApiServer


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
        self, reject: Callable[[asyncio.StreamWriter], Awaitable[None]], body: bytes | None
    ) -> None:
        """A large, slow or endless 401 neither blocks nor leaks the only connection of a pool."""
        async with wire_and_session(reject) as (server, session):
            method = "GET" if body is None else "POST"
            responses = [await fetch(session, server.url, method, data=body) for _ in range(2)]

            assert [(200, "fine")] * 2 == responses
            connector: Any = session.connector
            assert (0, 1) == (len(connector._acquired), sum(map(len, connector._conns.values())))
        assert ["canary-token-1", "canary-token-2", "canary-token-2"] == server.tokens

    async def test_released_before_renewal(self, sandbox: Sandbox) -> None:
        """A 401 that never ends, its renewal and the replay all work with a shared pool of one connection."""
        connector = aiohttp.TCPConnector(limit=1)
        provider = TokenProvider(endpoint=TokenEndpoint(sandbox.credentials, connector=connector))
        async with (
            WireServer(_send_slowly) as server,
            provider,
            authorized_session(provider, server.url, connector=connector) as session,
            asyncio.timeout(30),
        ):
            server.rejected.add((await provider.get_token()).value)
            response = await fetch(session, server.url)

            assert ((200, "fine"), 2) == (response, sandbox.counters.token_requests)


class TestConnection:
    @pytest.mark.parametrize(("method", "is_reused"), [("GET", True), ("POST", False)])
    @pytest.mark.parametrize("may_replace", [True, False], ids=["replayed", "returned"])
    async def test_reuse(self, api_server: ApiServer, method: str, *, is_reused: bool, may_replace: bool) -> None:
        """The connection of a 401 is reused after a safe method only, since the server may be about to close it."""
        api_server.rejected.add("first")
        respond = rejecting(api_server, 401, text="why")
        peers: list[Any] = []

        async def handle(request: web.Request) -> web.StreamResponse:
            assert request.transport is not None
            peers.append(request.transport.get_extra_info("peername"))
            return await respond(request)

        api_server.handler = handle
        source = ListSource("first", "second", may_replace=may_replace)
        async with authorized_session(source, api_server.url) as session:
            responses = [await fetch(session, api_server.url, method) for _ in range(2)]

        fine = (200, '{"path": "/"}')
        assert [fine if may_replace else (401, "why"), fine] == responses
        assert is_reused == (peers[0] == peers[1])


def _set_cookies(server: ApiServer, cookies: list[str]) -> None:
    """Set cookies with each rejection."""
    server.rejected.add("first")
    handler = server.handler

    async def handle(request: web.Request) -> web.StreamResponse:
        response = await handler(request)
        if response.status == 401:
            for cookie in cookies:
                response.headers.add("Set-Cookie", cookie)
        return response

    server.handler = handle


class TestCookies:
    @pytest.mark.parametrize(
        ("before", "cookies", "after"),
        [  # cookies in the jar and of the caller; set by the rejection; sent by the replay and by the next request
            (({}, {}), ["route=b; Path=/"], ["route=b", "route=b"]),
            (({"route": "a", "user": "u"}, {}), ["route=b; Path=/"], ["route=b; user=u", "route=b; user=u"]),
            (({"route": "a"}, {}), ["route=; Max-Age=0; Path=/"], [None, None]),
            (({"route": "a"}, {}), ["route=b; Path=/", "other=c"], ["other=c; route=b", "other=c; route=b"]),
            (({}, {}), ["route=b; Path=/elsewhere"], [None, None]),
            (({}, {"route": "mine"}), ["route=b; Path=/"], ["route=mine", "route=b"]),
            (({"route": "a"}, {"user": "me"}), ["route=b; Path=/"], ["route=b; user=me", "route=b"]),
            (({}, {"user": "me"}), [], ["user=me", None]),
        ],
    )
    async def test_replay(
        self,
        api_server: ApiServer,
        *,
        before: tuple[dict[str, str], dict[str, str]],
        cookies: list[str],
        after: list[str | None],
    ) -> None:
        """Cookies set by a rejection reach the jar and the replay, but the caller's own cookies take precedence."""
        _set_cookies(api_server, cookies)
        jar = aiohttp.CookieJar(unsafe=True)
        jar.update_cookies(before[0], URL(api_server.url))
        async with authorized_session(ListSource("first", "second"), api_server.url, cookie_jar=jar) as session:
            await fetch(session, f"{api_server.url}/items", cookies=before[1])
            await fetch(session, f"{api_server.url}/items")

        sent = [request.headers.get("Cookie") for request in api_server.requests]
        assert after == [each and "; ".join(sorted(each.split("; "))) for each in sent[1:]]

    async def test_many_cookies(self, api_server: ApiServer) -> None:
        """Only the first 50 cookies of a rejection are read, and those over 4096 characters are skipped."""
        lengths = [4097, 4096, *[40] * 98]
        _set_cookies(api_server, [f"c{number}=".ljust(length, "x") for number, length in enumerate(lengths)])
        jar = aiohttp.CookieJar(unsafe=True)
        async with authorized_session(ListSource("first", "second"), api_server.url, cookie_jar=jar) as session:
            await fetch(session, api_server.url)

        sent = {pair.partition("=")[0] for pair in api_server.requests[1].headers["Cookie"].split("; ")}
        assert {f"c{number}" for number in range(1, 50)} == sent
