"""`RecordedRequest`: headers and bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from simplestore_async import ClientCredentials, TokenEndpoint, open_session
from simplestore_async.sandbox import Response, Sandbox, Status
from tests.support.sandbox_client import FORM, SECRET, ask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def session(sandbox: Sandbox) -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session(sandbox.credentials, base_url=sandbox.base_url) as session:
        yield session


async def test_form(sandbox: Sandbox) -> None:
    """A token request is recorded with its headers and its form, with the secret masked."""
    credentials = sandbox.credentials
    further = ClientCredentials(
        client_id=credentials.client_id,
        client_secret=SECRET,
        token_url=credentials.token_url,
        scope="read",
        extra_parameters={"tenant": "\u00e9"},
    )
    await TokenEndpoint(further, headers={"X-Key": "7"}).request_token()

    (request,) = sandbox.token_endpoint.requests
    assert b"grant_type=client_credentials" in request.body
    assert b"scope=read" in request.body
    assert b"tenant=%C3%A9" in request.body
    assert b"client_secret=%2A%2A%2A" in request.body
    assert "7" == request.headers["x-key"]
    assert SECRET not in f"{request!r}{request.headers}{request.body!r}"


async def test_basic(sandbox: Sandbox) -> None:
    """Only the scheme of a token request's Authorization header is recorded."""
    credentials = ClientCredentials(
        client_id=sandbox.credentials.client_id,
        client_secret=SECRET,
        token_url=sandbox.token_url,
        auth_method="client_secret_basic",
    )
    await TokenEndpoint(credentials).request_token()
    assert "Basic ***" == sandbox.requests[0].headers["Authorization"]


@pytest.mark.parametrize(
    "options",
    [{"data": None, "json": FORM}, {"data": b"client_secret=" + SECRET.encode() + b"&\xff"}],
    ids=["JSON", "binary"],
)
async def test_no_form(sandbox: Sandbox, options: dict[str, Any]) -> None:
    """The body of a token request that is not a form, and may contain the secret, is not recorded."""
    async with aiohttp.ClientSession() as client:
        await ask(client, sandbox, **options)
    assert [b""] == [request.body for request in sandbox.requests]


async def test_api(sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
    """An API request is recorded with its body and headers, with the token masked."""
    sandbox.api.respond("canned", Response(204))
    for path in ("echoed", "canned"):
        async with session.put(path, data=b"\x00body", headers={"If-Match": "7"}):
            pass

    assert 2 == len(sandbox.api.requests)
    for request in sandbox.api.requests:
        assert (b"\x00body", "7") == (request.body, request.headers["if-match"])
        assert "Bearer ***" == request.headers["Authorization"]


async def test_unread_body(sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
    """A body that the sandbox did not read, such as one that a handler streams, is not recorded."""

    async def stream(request: web.Request) -> web.Response:
        return web.Response(body=await request.content.read())

    sandbox.api.respond("stream", stream)
    async with session.put("stream", data=b"body") as response:
        assert b"body" == await response.read()
    sandbox.api.fail_next(1, Status(503))
    async with session.put("failed", data=b"body"):
        pass
    assert [b"", b""] == [request.body for request in sandbox.api.requests]


async def test_large_body(sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
    """Only the first 64 KiB of a body are recorded."""
    async with session.put("x", data=bytes(100_000)):
        pass
    assert 65_536 == len(sandbox.api.requests[0].body)
