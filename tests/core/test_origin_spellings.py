"""Spellings of one host, over real connections: each request has the token, or is not sent."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from simplestore_async import AccessToken, BearerAuthMiddleware
from simplestore_async.errors import ConfigurationError

if TYPE_CHECKING:
    from tests.support.servers import ApiServer

TOKEN = AccessToken("canary-token", issued_at=1, expires_at=2)
SPELLINGS = [
    *("xn--bcher-kva.example", "XN--BCHER-KVA.Example", "xn--bcher-kva.example.", "xn--bcher-kva.example.."),
    *("b\u00fccher.example", "B\u00dcCHER.EXAMPLE", "bu\u0308cher.example", "b\u00fccher\u3002example\uff61"),
    *("b\u00fccher\uff0eexample", "\uff42\u00fccher.example", "b\u00fc\u200bcher.example", "b\u00fccher.%65xample"),
    *("xn--bcher-kva%2eexample", "b\u00fc\u00adcher.example"),
]
ADDRESSES = [
    *("127.0.0.1", "127.0.0.1.", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7F.1", "0177.0.0.1", "127.0.0.01"),
    *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::FFFF:127.0.0.1%25lo]", "\uff11\uff12\uff17.0.0.1", "127\u30020.0.1"),
]


class Source:
    async def get_token(self) -> AccessToken:
        return TOKEN

    def invalidate(self, token: AccessToken) -> bool:
        return token is not TOKEN


class EveryNameIsHere(AbstractResolver):
    """A name server that is as generous as can be."""

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None: ...


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize(
    ("origin", "host"),
    [
        *(("http://b\u00fccher.example", host) for host in SPELLINGS),
        *(("http://127.0.0.1", host) for host in ADDRESSES),
        *(("http://[::ffff:127.0.0.1]", host) for host in ADDRESSES),
    ],
    ids=ascii,
)
async def test_spelling(api_server: ApiServer, origin: str, host: str, *, encoded: bool) -> None:
    """A named origin in another spelling gets the token, or the request is refused; it is never sent without."""
    middleware = BearerAuthMiddleware(Source(), origins=f"{origin}:{api_server.port}", allow_insecure_http=True)
    connector = aiohttp.TCPConnector(resolver=EveryNameIsHere())
    failure: Exception | None = None
    async with aiohttp.ClientSession(connector=connector, middlewares=[middleware]) as session:
        try:
            url = URL(f"http://{host}:{api_server.port}/", encoded=encoded)
            async with session.get(url) as response:
                assert 200 == response.status
        except (ConfigurationError, aiohttp.ClientError, ValueError) as error:
            failure = error

    sent: list[Any] = [request.headers.get("Authorization") for request in api_server.requests]
    assert sent in ([], [TOKEN.authorization])
    assert bool(sent) is (failure is None)


async def test_another_host(api_server: ApiServer) -> None:
    """A request to another host is sent without the token."""
    middleware = BearerAuthMiddleware(Source(), origins=f"http://127.0.0.1:{api_server.port}")
    connector = aiohttp.TCPConnector(resolver=EveryNameIsHere())
    async with (
        aiohttp.ClientSession(connector=connector, middlewares=[middleware]) as session,
        session.get(f"http://b\u00fccher.example.:{api_server.port}/"),
    ):
        pass

    assert [None] == [request.headers.get("Authorization") for request in api_server.requests]
