"""Helpers for token requests that fail."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from simplestore_async import ClientCredentials, TokenEndpoint
from simplestore_async.errors import TokenError
from tests.support.servers import SECRET

if TYPE_CHECKING:
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
