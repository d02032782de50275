"""Helpers for token requests: failures and cancellation."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from simplestore_async import ClientCredentials, TokenEndpoint
from simplestore_async.errors import TokenError
from tests.support.servers import SECRET

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tests.support.raw_server import RawServer

GRANT = b'{"access_token": "canary-token", "expires_in": 3600, "token_type": "Bearer"}'
CLOSED = "the connection was closed before the response was complete"


async def failure(endpoint: TokenEndpoint) -> TokenError:
    """Return the error of a request, which must have no cause or context."""
    with pytest.raises(TokenError) as caught:
        async with asyncio.timeout(60):
            await endpoint.request_token()
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)
    return caught.value


def raw_endpoint(server: RawServer, **options: Any) -> TokenEndpoint:
    return TokenEndpoint(raw_credentials(server), **options)


def raw_credentials(server: RawServer, **changes: Any) -> ClientCredentials:
    return ClientCredentials(**{"client_id": "app", "client_secret": SECRET, "token_url": server.token_url} | changes)


async def cancelled(request: Awaitable[object], reached: asyncio.Event) -> asyncio.CancelledError:
    """Cancel *request* once *reached* is set, and return its CancelledError."""
    task = asyncio.ensure_future(request)
    async with asyncio.timeout(60):
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
    assert task.cancelled()
    return caught.value


class WatchedConnector(aiohttp.TCPConnector):
    """A connector that signals that a connection was requested."""

    def __init__(self, *, limit: int) -> None:
        super().__init__(limit=limit)
        self.asked = asyncio.Event()

    async def connect(self, *args: Any, **options: Any) -> Any:
        self.asked.set()
        return await super().connect(*args, **options)
