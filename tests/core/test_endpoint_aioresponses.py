"""Compatibility with aioresponses."""

from __future__ import annotations

from functools import partialmethod
from typing import TYPE_CHECKING, Final
from unittest.mock import Mock

import aiohttp
from aioresponses import aioresponses

from simplestore_async import ClientCredentials, TokenProvider

if TYPE_CHECKING:
    import pytest

TOKEN_URL: Final = "https://store.example/connect/token"


class Response(aiohttp.ClientResponse):
    """A response with the `stream_writer` that aiohttp 3.14 requires and aioresponses 0.7.9 does not pass."""

    __init__ = partialmethod(aiohttp.ClientResponse.__init__, stream_writer=Mock(output_size=0))


async def test_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider gets its token through aioresponses."""
    monkeypatch.setattr("aioresponses.core.ClientResponse", Response)
    credentials = ClientCredentials(client_id="app", client_secret="secret", token_url=TOKEN_URL)
    with aioresponses() as patched:
        patched.post(TOKEN_URL, payload={"access_token": "canary-token", "expires_in": 3600, "token_type": "Bearer"})
        async with TokenProvider(credentials) as provider:
            assert "canary-token" == (await provider.get_token()).value
