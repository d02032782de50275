"""`simplestore request`: connections that fail, time limits and Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from tests.support.api_servers import refusing_url
from tests.support.command import COMMAND, assert_one_line, finish, simplestore, start
from tests.support.platforms import needs_posix
from tests.support.raw_server import RawServer
from tests.support.wire_faults import says

if TYPE_CHECKING:
    from tests.support.raw_server import Script
    from tests.support.servers import ApiServer, TokenServer


class TestFailure:
    async def test_refused_connection(self, environment: dict[str, str]) -> None:
        """Connection refused: exit code 1, and the host is named."""
        nowhere = environment | {"SIMPLESTORE_BASE_URL": refusing_url()}
        outcome = await simplestore("request", "GET", "x", environment=nowhere)
        assert_one_line(outcome, code=1, says="cannot connect to 127.0.0.1:")

    @pytest.mark.parametrize(
        ("script", "stdout"),
        [
            (says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), "half"),
            (says(b"220 mail.example ESMTP\r\n"), ""),
            (says(), ""),
        ],
        ids=["cut", "smtp", "closed"],
    )
    async def test_broken_response(self, environment: dict[str, str], script: Script, stdout: str) -> None:
        """A truncated or invalid response: exit code 1; the part received is printed."""
        async with RawServer(script) as broken:
            elsewhere = environment | {"SIMPLESTORE_BASE_URL": broken.url}
            outcome = await simplestore("request", "GET", "x", environment=elsewhere)

        assert (1, stdout) == (outcome.code, outcome.stdout)
        assert outcome.stderr.startswith("simplestore: no complete response: ")
        assert 1 == outcome.stderr.count("\n")

    @pytest.mark.parametrize("is_api_slow", [True, False])
    async def test_timeout(
        self, token_server: TokenServer, api_server: ApiServer, environment: dict[str, str], is_api_slow: bool
    ) -> None:
        """An API or a token endpoint that does not respond: exit code 1 when the time is over."""
        is_over = asyncio.Event()

        async def handle(request: web.Request) -> web.StreamResponse:
            await is_over.wait()
            return web.Response()

        if is_api_slow:
            api_server.handler = handle
        else:
            token_server.gate.clear()
        outcome = await simplestore("request", "GET", "x", "--timeout", "0.3", environment=environment)
        is_over.set()
        token_server.gate.set()
        assert_one_line(outcome, code=1, says="no complete response within 0.3 s (--timeout)")

    @needs_posix
    async def test_interrupted(
        self, token_server: TokenServer, api_server: ApiServer, environment: dict[str, str]
    ) -> None:
        """Ctrl-C ends it at once, with 130 and no traceback."""
        token_server.gate.clear()
        process = await start(*COMMAND, "request", "GET", "x", environment=environment)
        await token_server.arrived.wait()
        os.killpg(process.pid, signal.SIGINT)
        outcome = await finish(process)
        token_server.gate.set()

        assert (130, "", "") == (outcome.code, outcome.stdout, outcome.stderr.strip())
        assert [] == api_server.requests
