"""`simplestore_async.httpx`: no error or log shows the token."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from aiohttp import web

from simplestore_async.httpx import BearerTransport, open_client
from tests.support.api_requests import ListSource, OneToken
from tests.support.api_servers import refusing_url
from tests.support.servers import Server
from tests.support.tracebacks import everything_shown


class TestSecrecy:
    @pytest.mark.parametrize("kind", ["refused", "timeout", "cancelled"])
    async def test_errors(self, package: Any, caplog: pytest.LogCaptureFixture, kind: str) -> None:
        """Neither errors, nor cancellations, nor logs at DEBUG show the token."""
        caplog.set_level(logging.DEBUG)

        async def respond(request: web.Request) -> web.StreamResponse:
            await may_end.wait()
            return web.Response()

        may_end = asyncio.Event()
        timeout = package.Timeout(10, read=0.05 if kind == "timeout" else 10)
        async with Server(respond) as server:
            url = refusing_url() if kind == "refused" else server.url
            client_class: Any = package.AsyncClient
            source = ListSource("canary-token-1")
            async with open_client(source, base_url=url, client_class=client_class, timeout=timeout) as client:
                request = asyncio.create_task(client.post("path", content=b"x" * 1_000_000))
                if kind == "cancelled":
                    await server.arrived.wait()
                    request.cancel()
                with pytest.raises((package.HTTPError, asyncio.CancelledError)) as caught:
                    await request
            may_end.set()

        assert "canary" not in everything_shown(caught.value)
        assert "canary" not in caplog.text

    async def test_write_error(self, package: Any) -> None:
        """An error in writing the headers does not show the token."""
        transport = BearerTransport(ListSource("canary-token-1"), origins="http://127.0.0.1:9")
        async with package.AsyncClient(transport=transport) as client:
            with pytest.raises(package.HTTPError) as caught:
                await client.get("http://127.0.0.1:9/", headers=[(b"X-Bad", b"a\r\nb")])
        assert "canary" not in everything_shown(caught.value)

    @pytest.mark.parametrize("is_own", [True, False])
    def test_http2(self, package: Any, caplog: pytest.LogCaptureFixture, *, is_own: bool) -> None:
        """With HTTP/2 one filter keeps hpack's header blocks, which contain the token, out of the log."""
        logger = logging.getLogger("hpack.hpack")
        logger.filters.clear()
        caplog.set_level(logging.DEBUG)
        options = {"transport": package.AsyncHTTPTransport(http2=True)} if is_own else {"http2": True}
        for _ in range(2):
            open_client(OneToken(), base_url="https://api.example", client_class=package.AsyncClient, **options)
        logger.debug("Encoded header block to %s", b"canary")
        logger.debug("other")

        assert ["other"] == caplog.messages
        assert 1 == len(logger.filters)
