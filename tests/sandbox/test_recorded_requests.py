"""`RecordedRequest`: the log of both endpoints."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
import attrs
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from simplestore_async import TokenEndpoint
from simplestore_async.sandbox import RecordedRequest, Reset, Response, Sandbox, Status
from simplestore_async.sandbox._endpoint import MOST_RECORDED
from tests.support.sandbox_client import AS_SHOP, FORM, ID, SECRET, SHOP, ask, basic, bearer, call, send

if TYPE_CHECKING:
    from tests.support.clocks import FakeClock


class TestFields:
    async def test_all(self, client: aiohttp.ClientSession, sandbox: Sandbox, clock: FakeClock) -> None:
        """Requests are recorded in order, with client, method, path, token, status, time and fault."""
        sandbox.fail_next(1)
        sandbox.api.fail_next(1, Status(500))
        await ask(client, sandbox)
        clock.advance(2)
        await bearer(client, sandbox)
        headers = await bearer(client, sandbox, **AS_SHOP)
        params = {"access_token": headers["Authorization"].removeprefix("Bearer ")}
        for _ in range(2):
            await send(client, "PATCH", sandbox.base_url + "orders/1", headers=headers, params=params)

        asked = partial(RecordedRequest, endpoint="token", method="POST", path="/connect/token", fault=None)
        called = partial(
            RecordedRequest, endpoint="api", method="PATCH", path="/api/orders/1", client_id=SHOP, token_number=2
        )
        at = 1_700_000_000.0
        assert (
            asked(number=1, client_id=ID, token_number=None, status=503, received_at=at, fault=Status(503)),
            asked(number=2, client_id=ID, token_number=1, status=200, received_at=at + 2),
            asked(number=3, client_id=SHOP, token_number=2, status=200, received_at=at + 2),
            called(number=4, status=500, received_at=at + 2, fault=Status(500)),
            called(number=5, status=200, received_at=at + 2, fault=None),
        ) == sandbox.requests
        assert sandbox.requests[:3] == sandbox.token_endpoint.requests
        assert sandbox.requests[3:] == sandbox.api.requests
        assert params["access_token"] not in repr(sandbox.requests)

    @pytest.mark.parametrize(
        ("options", "client_id"),
        [
            ({"data": FORM | {"client_secret": "wrong"}}, ID),
            ({"data": FORM | {"grant_type": "password"}}, ID),
            ({"data": {"grant_type": "client_credentials"}, "headers": basic(ID, "wrong")}, ID),
            ({"data": FORM | {"client_id": "s3cr3t"}}, None),
            ({"data": FORM | {"grant_type": "password", "client_id": "s3cr3t"}}, None),
            ({"data": FORM, "params": {"x": "s3cr3t"}}, None),
        ],
        ids=["secret", "grant", "Basic", "unknown id", "unknown id and grant", "query"],
    )
    async def test_refused_client(
        self, client: aiohttp.ClientSession, sandbox: Sandbox, options: dict[str, Any], client_id: str | None
    ) -> None:
        """A refused client is recorded by its id, and an unknown id, which may be a misplaced secret, is not."""
        status, _, _ = await ask(client, sandbox, **options)

        [request] = sandbox.requests
        assert (status, client_id) == (request.status, request.client_id)
        assert "s3cr3t" not in repr(request)

    async def test_token_number(self, client: aiohttp.ClientSession, sandbox: Sandbox, clock: FakeClock) -> None:
        """A revoked or expired token is recorded by its number, and an unknown or missing one as None."""
        revoked = await bearer(client, sandbox)
        sandbox.revoke_all()
        expired = await bearer(client, sandbox)
        clock.advance(3600)
        for headers in (revoked, expired, {"Authorization": "Bearer x"}, {}):
            assert 401 == await call(client, sandbox, headers)

        seen = [(request.client_id, request.token_number) for request in sandbox.api.requests]
        assert [(ID, 1), (ID, 2), (None, None), (None, None)] == seen


class TestLog:
    async def test_clear(self, client: aiohttp.ClientSession, sandbox: Sandbox) -> None:
        """Recorded requests can be cleared for one endpoint or all, and numbers and counters continue."""
        headers = await bearer(client, sandbox)
        await call(client, sandbox, headers)
        sandbox.token_endpoint.clear_requests()
        assert [2] == [request.number for request in sandbox.requests]

        sandbox.clear_requests()
        assert [] == list(sandbox.requests)
        await call(client, sandbox, headers)
        assert [3] == [request.number for request in sandbox.requests]
        assert 2 == sandbox.counters.api_requests

    def test_limit(self) -> None:
        """Each endpoint keeps its own newest 10 000 requests."""
        sandbox = Sandbox()
        request = make_mocked_request("GET", "/api/")
        response = web.Response()
        sandbox.token_endpoint.record(request, response, None, body=b"", client_id=None, token=None)
        for _ in range(MOST_RECORDED + 5):
            sandbox.api.record(request, response, Reset(), body=b"", client_id=None, token=None)

        assert 10_000 == MOST_RECORDED == len(sandbox.api.requests)
        assert [1, 7] == [request.number for request in sandbox.requests[:2]]
        assert MOST_RECORDED + 6 == sandbox.requests[-1].number


class TestHeadersAndBody:
    async def test_form(self, sandbox: Sandbox) -> None:
        """A token request is recorded with its headers and its form, with the secret masked."""
        credentials = attrs.evolve(sandbox.credentials, scope="read", extra_parameters={"tenant": "\u00e9"})
        await TokenEndpoint(credentials, headers={"X-Key": "7"}).request_token()

        (request,) = sandbox.token_endpoint.requests
        for field in (b"grant_type=client_credentials", b"scope=read", b"tenant=%C3%A9", b"client_secret=%2A%2A%2A"):
            assert field in request.body
        assert "7" == request.headers["x-key"]
        assert SECRET not in f"{request!r}{request.headers}{request.body!r}"

    async def test_basic(self, sandbox: Sandbox) -> None:
        """Only the scheme of a token request's Authorization header is recorded."""
        await TokenEndpoint(attrs.evolve(sandbox.credentials, auth_method="client_secret_basic")).request_token()
        assert "Basic ***" == sandbox.requests[0].headers["Authorization"]

    @pytest.mark.parametrize(
        "options",
        [{"data": None, "json": FORM}, {"data": b"client_secret=" + SECRET.encode() + b"&\xff"}],
        ids=["JSON", "binary"],
    )
    async def test_no_form(self, client: aiohttp.ClientSession, sandbox: Sandbox, options: dict[str, Any]) -> None:
        """The body of a token request that is not a form, and may contain the secret, is not recorded."""
        await ask(client, sandbox, **options)
        assert [b""] == [request.body for request in sandbox.requests]

    async def test_api(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        """An API request is recorded with its body, up to 64 KiB, and its headers, with the token masked."""
        sandbox.api.respond("canned", Response(204))
        for path in ("echoed", "canned"):
            async with session.put(path, data=bytes(100_000), headers={"If-Match": "7"}):
                pass

        assert 2 == len(sandbox.api.requests)
        for request in sandbox.api.requests:
            assert (bytes(65_536), "7") == (request.body, request.headers["if-match"])
            assert "Bearer ***" == request.headers["Authorization"]

    async def test_unread_body(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
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
