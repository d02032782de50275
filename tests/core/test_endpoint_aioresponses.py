"""Token requests in tests that patch aiohttp with aioresponses."""

from __future__ import annotations

from functools import partialmethod
from typing import TYPE_CHECKING, Final
from unittest.mock import Mock

import aiohttp
import pytest
from aioresponses import aioresponses

from simplestore_async import ClientCredentials, RetryPolicy, TokenEndpoint, TokenProvider
from simplestore_async.errors import InvalidClientError
from tests.support.servers import SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN_URL: Final = "https://store.example/connect/token"
GRANT: Final = {"access_token": "canary-token", "expires_in": 3600, "token_type": "Bearer"}
CREDENTIALS: Final = ClientCredentials(client_id="app", client_secret=SECRET, token_url=TOKEN_URL)


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> Iterator[aioresponses]:
    """Responses without a server. aioresponses 0.7.9 does not pass `stream_writer`, which aiohttp 3.14 requires."""

    class Response(aiohttp.ClientResponse):
        __init__ = partialmethod(aiohttp.ClientResponse.__init__, stream_writer=Mock(output_size=0))

    monkeypatch.setattr("aioresponses.core.ClientResponse", Response)
    with aioresponses() as patched:
        yield patched


async def test_token(patched: aioresponses) -> None:
    """A provider gets its token, once for two calls."""
    patched.post(TOKEN_URL, payload=GRANT)
    async with TokenProvider(CREDENTIALS) as provider:
        assert ["canary-token"] * 2 == [(await provider.get_token()).value for _ in range(2)]
    (requests,) = patched.requests.values()
    assert 1 == len(requests)


async def test_wrong_client(patched: aioresponses) -> None:
    """A refusal is an `InvalidClientError` with the server's title, and is not repeated."""
    patched.post(TOKEN_URL, status=400, payload={"error": "invalid_client", "title": "Unknown client"})
    with pytest.raises(InvalidClientError) as caught:
        await TokenEndpoint(CREDENTIALS).request_token()
    assert (400, "Unknown client") == (caught.value.status, caught.value.title)
    (requests,) = patched.requests.values()
    assert 1 == len(requests)


async def test_retry(patched: aioresponses) -> None:
    """A 503 is retried."""
    patched.post(TOKEN_URL, status=503)
    patched.post(TOKEN_URL, payload=GRANT)
    endpoint = TokenEndpoint(CREDENTIALS, policy=RetryPolicy(retry_seconds=0.01))
    assert "canary-token" == (await endpoint.request_token()).value
