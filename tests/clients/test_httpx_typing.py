"""Type hints of `simplestore_async.httpx`: mypy's `warn_unused_ignores` fails if an error is not reported."""

from __future__ import annotations

import httpx
import httpx2
import pytest

from simplestore_async.errors import ConfigurationError
from simplestore_async.httpx import BearerTransport, open_client
from tests.support.api_requests import OneToken

API = "https://api.example"


async def test_default() -> None:
    """By default the client is of the type `httpx2.AsyncClient`."""
    async with open_client(OneToken(), base_url=API, timeout=5, headers={"X-Tag": "1"}) as client:
        typed: httpx2.AsyncClient = client
    assert typed.is_closed


async def test_class() -> None:
    """With `client_class` the client has that type, even for a subclass."""

    class Client(httpx.AsyncClient):
        tag = "own"

    async with open_client(OneToken(), base_url=API, client_class=httpx.AsyncClient) as client:
        typed: httpx.AsyncClient = client
    async with open_client(OneToken(), base_url=API, client_class=Client) as own:
        assert "own" == own.tag
    assert typed.is_closed


async def test_transport() -> None:
    """A BearerTransport is accepted by both packages and wraps a transport of either."""
    transport = BearerTransport(OneToken(), origins=API, transport=httpx2.AsyncHTTPTransport())
    async with httpx2.AsyncClient(transport=transport):
        pass
    older = BearerTransport(OneToken(), origins=API, transport=httpx.AsyncHTTPTransport())
    async with httpx.AsyncClient(transport=older):
        pass


def test_misuse() -> None:
    """Misspelt options, other classes and synchronous transports are errors for the type checker and at run time."""
    with pytest.raises(ConfigurationError):
        open_client(OneToken(), base_url=API, time_out=5)  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError):
        open_client(OneToken(), base_url=API, client_class=httpx2.Client)  # type: ignore[type-var]
    with pytest.raises(ConfigurationError):
        BearerTransport(OneToken(), origins=API, transport=httpx2.HTTPTransport())  # type: ignore[arg-type]


async def test_not_entered() -> None:
    """Any use other than `async with` is an error for the type checker and at run time."""
    with pytest.raises(ConfigurationError):
        open_client(OneToken(), base_url=API).get("items")  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError), open_client(OneToken(), base_url=API):  # type: ignore[attr-defined]
        pass
