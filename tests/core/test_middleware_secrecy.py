"""`BearerAuthMiddleware`: no error, response or trace shows the token."""

from __future__ import annotations

import asyncio
import errno
import traceback
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.support.api_requests import ListSource, fetch
from tests.support.api_servers import WireServer, authorized_session
from tests.support.tracebacks import shown_by

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.servers import ApiServer


class TestSecrecy:
    async def test_trace(self, api_server: ApiServer) -> None:
        """No aiohttp trace hook shows the token, not even the one for the headers sent."""
        shown: list[str] = []

        async def show(session: object, context: object, params: object) -> None:
            shown.append(repr(params))

        trace_config = aiohttp.TraceConfig()
        for name in dir(trace_config):
            if name.startswith("on_"):
                getattr(trace_config, name).append(show)
        api_server.rejected.add("canary-token-1")
        source = ListSource("canary-token-1", "canary-token-2")
        async with authorized_session(source, api_server.url, trace_configs=[trace_config]) as session:
            await fetch(session, api_server.url, "POST", data=b"body")

        assert 2 == sum("'Authorization': '***'" in each for each in shown)
        assert "canary" not in "".join(shown)

    async def test_cancelled(self) -> None:
        """Cancelling a request in flight removes the token from its headers."""
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
            authorized_session(ListSource("canary-token-1"), server.url, middlewares=[outer]) as session,
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
            (lambda: {"data": _failing_generator()}, ZeroDivisionError),
            (lambda: {"data": _FailingPayload(b"body")}, OSError),
            (lambda: {"headers": {"X-Header": "a\nb"}}, None),
        ],
        ids=["text in a generator", "failing generator", "failing payload", "header of two lines"],
    )
    async def test_failing_body(
        self, api_server: ApiServer, options: Callable[[], dict[str, Any]], cause: type[BaseException] | None
    ) -> None:
        """The traceback of an error in writing a request keeps the cause and the caller's locals but shows no token."""
        async with authorized_session(ListSource("canary-token"), api_server.url) as session:
            with pytest.raises((aiohttp.ClientError, ValueError)) as caught:
                await session.post(api_server.url, **options())

        shown = shown_by(caught.value)
        assert "canary" not in shown
        assert cause is None or isinstance(caught.value.__cause__, cause)
        assert cause is not ZeroDivisionError or "'mine': 'visible'" in shown
        assert any("aiohttp" in frame.f_code.co_filename for frame, _ in traceback.walk_tb(caught.value.__traceback__))
