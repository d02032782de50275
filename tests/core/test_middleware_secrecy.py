"""`BearerAuthMiddleware`: no error, response or trace shows the token."""

from __future__ import annotations

import asyncio
import errno
import io
import traceback
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.support.api_requests import fetch
from tests.support.api_servers import UNAUTHORIZED, WireServer, authorized_session, redirecting, refusing_url
from tests.support.tracebacks import shown_by

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.support.servers import ApiServer, TokenServer


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
        """Responses, including those of redirects, neither show nor hold the token."""
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
        """A request that is cancelled in flight leaves no token in its headers."""
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


async def _text_in_a_generator() -> AsyncIterator[Any]:
    yield "text, where aiohttp wants bytes"


async def _failing_generator() -> AsyncIterator[bytes]:
    mine = "visible"
    raise ZeroDivisionError(mine)
    yield b""


class _FailingPayload(aiohttp.BytesPayload):
    async def write_with_length(self, writer: Any, content_length: int | None) -> None:
        raise OSError(errno.EIO, "disk on fire")


class TestTracebacks:
    @pytest.mark.parametrize(
        ("options", "cause"),
        [
            (lambda: {"data": _text_in_a_generator()}, TypeError),
            (lambda: {"data": _text_in_a_generator(), "compress": True}, TypeError),
            (lambda: {"data": _failing_generator()}, ZeroDivisionError),
            (lambda: {"data": _FailingPayload(b"body")}, OSError),
            (lambda: {"data": aiohttp.BytesPayload(b"body"), "headers": {"Content-Length": "x"}}, None),
            (lambda: {"headers": {"X-Header": "a\nb"}}, None),
        ],
    )
    async def test_failing_body(
        self,
        token_server: TokenServer,
        api_server: ApiServer,
        options: Callable[[], dict[str, Any]],
        cause: type[BaseException] | None,
    ) -> None:
        """An error while a request is written shows no token in any frame; its cause and its lines stay."""
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            with pytest.raises((aiohttp.ClientError, ValueError)) as caught:
                await session.post(api_server.url, **options())

        assert "canary" not in shown_by(caught.value)
        assert cause is None or isinstance(caught.value.__cause__, cause)
        assert any("aiohttp" in frame.f_code.co_filename for frame, _ in traceback.walk_tb(caught.value.__traceback__))

    async def test_callers_frames(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """The locals of the caller's own code, such as a body's generator, stay readable."""
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            with pytest.raises(aiohttp.ClientConnectionError) as caught:
                await session.post(api_server.url, data=_failing_generator())

        assert "'mine': 'visible'" in shown_by(caught.value)

    @pytest.mark.parametrize("seconds", [None, 0.2])
    async def test_lost_connection(self, token_server: TokenServer, seconds: float | None) -> None:
        """A connection that breaks, or a deadline that expires, during the upload shows no token in any frame."""
        async with (
            WireServer(_reset if seconds is None else _never) as server,
            token_server.provider() as provider,
            authorized_session(provider, server.url, timeout=aiohttp.ClientTimeout(total=seconds)) as session,
        ):
            server.rejected.add("canary-token-1")
            server.reads_body = False
            with pytest.raises((aiohttp.ClientError, TimeoutError)) as caught:
                await session.post(server.url, data=io.BytesIO(bytes(20_000_000)), headers={"X-Long": "x" * 30_000})

        assert "canary" not in shown_by(caught.value)


async def _reset(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def _never(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()
