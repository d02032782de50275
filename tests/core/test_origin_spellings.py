"""Spellings of one host over real connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest
from yarl import URL

from simplestore_async.errors import ConfigurationError
from tests.support.api_requests import OneToken, fetch
from tests.support.api_servers import authorized_session
from tests.support.resolver import LocalResolver

if TYPE_CHECKING:
    from tests.support.servers import ApiServer

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


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize(
    ("origin", "host"),
    [
        *(("http://b\u00fccher.example", host) for host in SPELLINGS),
        *(("http://127.0.0.1", host) for host in ADDRESSES),
        *(("http://[::ffff:127.0.0.1]", host) for host in ADDRESSES),
    ],
)
async def test_spelling(api_server: ApiServer, origin: str, host: str, *, encoded: bool) -> None:
    """A request to an origin in another spelling carries the token or is refused, and is never sent without it."""
    failure: Exception | None = None
    async with authorized_session(
        OneToken(),
        f"{origin}:{api_server.port}",
        allow_insecure_http=True,
        connector=aiohttp.TCPConnector(resolver=LocalResolver()),
    ) as session:
        try:
            status, _ = await fetch(session, URL(f"http://{host}:{api_server.port}/", encoded=encoded))
            assert 200 == status
        except (ConfigurationError, aiohttp.ClientError, ValueError) as error:
            failure = error

    assert ([] if failure else ["own-token"]) == api_server.tokens
