"""`BearerContract`: the package's clients pass it, and clients with a flaw fail it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import httpx2
import pytest

from simplestore_async import BearerAuthMiddleware
from simplestore_async.httpx import BearerTransport
from simplestore_async.testing import BearerContract, BearerResponse
from tests.support.broken_clients import FLAWS, FlawedTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Sequence

    from simplestore_async import TokenSource

    Body = bytes | AsyncIterable[bytes] | None


class TestAiohttp(BearerContract):
    @asynccontextmanager
    async def open_client(self, source: TokenSource, origins: Sequence[str]) -> AsyncIterator[aiohttp.ClientSession]:
        async with aiohttp.ClientSession(middlewares=[BearerAuthMiddleware(source, origins=origins)]) as session:
            yield session

    @asynccontextmanager
    async def send(self, client: Any, method: str, url: str, body: Body) -> AsyncIterator[BearerResponse]:
        async with client.request(method, url, data=body) as response:
            shown = [response, response.request_info, response.request_info.headers, *response.history]
            yield BearerResponse(status=response.status, read=response.read, shown=shown)


class TestHttpx2(BearerContract):
    package: Any = httpx2

    def make_transport(self, source: TokenSource, origins: Sequence[str]) -> Any:
        return BearerTransport(source, origins=origins)

    @asynccontextmanager
    async def open_client(self, source: TokenSource, origins: Sequence[str]) -> AsyncIterator[Any]:
        transport = self.make_transport(source, origins)
        async with self.package.AsyncClient(transport=transport, follow_redirects=True) as client:
            yield client

    @asynccontextmanager
    async def send(self, client: Any, method: str, url: str, body: Body) -> AsyncIterator[BearerResponse]:
        async with client.stream(method, url, content=body) as response:
            hops = [response, *response.history]
            shown = [*hops, *(hop.request for hop in hops), *(hop.request.headers.raw for hop in hops)]
            yield BearerResponse(status=response.status_code, read=response.aread, shown=shown)


class TestHttpx(TestHttpx2):
    package: Any = httpx


class TestPlainClient(TestHttpx2):
    """The client that `Flawed` is based on, without a flaw."""

    def make_transport(self, source: TokenSource, origins: Sequence[str]) -> Any:
        return FlawedTransport(source, origins, "")


class Flawed(TestHttpx2):
    """A client with one flaw."""

    patience_seconds = 0.5

    def __init__(self, flaw: str) -> None:
        self.flaw = flaw

    def make_transport(self, source: TokenSource, origins: Sequence[str]) -> Any:
        return FlawedTransport(source, origins, self.flaw)


@pytest.mark.parametrize(("flaw", "test", "arguments"), FLAWS, ids=[flaw for flaw, _, _ in FLAWS])
def test_finds(flaw: str, test: str, arguments: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """A client with a flaw fails the test of the guarantee that it breaks."""
    if test == "test_shows_nothing":
        arguments = {"caplog": caplog}
    with pytest.raises((Exception, pytest.fail.Exception)):
        asyncio.run(getattr(Flawed(flaw), test)(**arguments))


async def test_missing_method() -> None:
    """The error of a subclass without a required method names the method."""
    with pytest.raises(ValueError, match="open_client"):
        await BearerContract().test_origin()


def test_each_test_has_a_flaw() -> None:
    """Each test of the contract is failed by some client."""
    assert {name for name in dir(BearerContract) if name.startswith("test_")} == {test for _, test, _ in FLAWS}
