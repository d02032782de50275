"""Sandbox: clients, secrets, recorded requests and ports."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
import attrs
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from simplestore_async import ClientCredentials, TokenProvider
from simplestore_async.errors import ConfigurationError
from simplestore_async.sandbox import RecordedRequest, Reset, Sandbox, Status
from simplestore_async.sandbox._endpoint import MOST_RECORDED
from tests.support.clocks import FakeClock
from tests.support.ports import held_port
from tests.support.sandbox_client import FORM, ID, SECRET, ask, basic, bearer, call, send

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SHOP, SHOP_SECRET = "shop-7", "shop-secret"
AS_SHOP = {"client_id": SHOP, "client_secret": SHOP_SECRET}


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def is_accepted(client: aiohttp.ClientSession, sandbox: Sandbox, client_id: str, client_secret: str) -> bool:
    fields = {"client_id": client_id, "client_secret": client_secret}
    return (await ask(client, sandbox, data=FORM | fields))[0] == 200


class TestClients:
    async def test_further_clients(self, client: aiohttp.ClientSession) -> None:
        """Each client gets tokens with its own secret only."""
        async with Sandbox(clients={SHOP: SHOP_SECRET}) as sandbox:
            sandbox.add_client("shop-8", client_secret="another")

            assert await is_accepted(client, sandbox, ID, SECRET)
            assert await is_accepted(client, sandbox, SHOP, SHOP_SECRET)
            assert await is_accepted(client, sandbox, "shop-8", "another")
            assert not await is_accepted(client, sandbox, SHOP, SECRET)
            assert not await is_accepted(client, sandbox, ID, SHOP_SECRET)

    async def test_credentials_of(self) -> None:
        """`credentials_of()` returns working credentials of any client, and `credentials` those of the first."""
        async with Sandbox(clients={SHOP: SHOP_SECRET}) as sandbox:
            async with TokenProvider(sandbox.credentials_of(SHOP)) as provider:
                await provider.get_token()

            assert [SHOP] == [request.client_id for request in sandbox.requests]
            assert sandbox.credentials == sandbox.credentials_of(ID)
            assert ID == sandbox.environment["SIMPLESTORE_CLIENT_ID"]

    async def test_rotation(self, client: aiohttp.ClientSession) -> None:
        """After a rotation only the new secret is accepted, and issued tokens stay valid."""
        async with Sandbox() as sandbox:
            headers = await bearer(client, sandbox)
            sandbox.rotate_secret(ID, new_secret="new")

            assert not await is_accepted(client, sandbox, ID, SECRET)
            assert await is_accepted(client, sandbox, ID, "new")
            assert 200 == await call(client, sandbox, headers)
            assert "new" == sandbox.credentials.client_secret
            assert "new" == sandbox.environment["SIMPLESTORE_CLIENT_SECRET"]

    async def test_rotation_in_two_steps(self, client: aiohttp.ClientSession) -> None:
        """With `keep_old=True` both secrets are accepted until the old one is dropped."""
        async with Sandbox() as sandbox:
            sandbox.rotate_secret(ID, new_secret="new", keep_old=True)
            assert await is_accepted(client, sandbox, ID, SECRET)
            assert await is_accepted(client, sandbox, ID, "new")
            assert "new" == sandbox.credentials.client_secret

            sandbox.drop_old_secrets(ID)
            assert not await is_accepted(client, sandbox, ID, SECRET)
            assert await is_accepted(client, sandbox, ID, "new")

    async def test_dynamic_secret(self) -> None:
        """A provider whose secret is read for each renewal gets tokens after a rotation."""
        async with Sandbox() as sandbox:

            async def read_secret() -> str:
                return sandbox.environment["SIMPLESTORE_CLIENT_SECRET"]

            credentials = ClientCredentials(client_id=ID, client_secret=read_secret, token_url=sandbox.token_url)
            async with TokenProvider(credentials) as provider:
                token = await provider.get_token()
                sandbox.rotate_secret(ID, new_secret="new")
                assert provider.invalidate(token)
                assert token != await provider.get_token()

    async def test_revoke_all_of_one_client(self, client: aiohttp.ClientSession) -> None:
        """revoke_all() of one client leaves the tokens of the others valid."""
        async with Sandbox(clients={SHOP: SHOP_SECRET}) as sandbox:
            own, shops = await bearer(client, sandbox), await bearer(client, sandbox, **AS_SHOP)
            sandbox.revoke_all(SHOP)

            assert [200, 401] == [await call(client, sandbox, headers) for headers in (own, shops)]

    async def test_reprs_show_no_secret(self) -> None:
        """No repr shows a secret."""
        sandbox = Sandbox(client_secret="hush-1", clients={SHOP: "hush-2"})
        sandbox.rotate_secret(SHOP, new_secret="hush-3", keep_old=True)
        assert "not running" in repr(sandbox)
        async with sandbox:
            shown = [sandbox, sandbox.api, sandbox.credentials_of(SHOP), sandbox.environment, sandbox._server]

            assert "http://127.0.0.1:" in repr(sandbox)
            assert "hush" not in "".join(map(repr, [*shown, sandbox.credentials, sandbox.counters]))
            assert "***" in repr(sandbox._server.clients._secrets)
            assert "hush" not in repr(sandbox._server.clients._secrets)


class TestRequests:
    async def test_fields(self, client: aiohttp.ClientSession) -> None:
        """Requests are recorded in order, with client, method, path, token, status, time and fault."""
        clock = FakeClock()
        async with Sandbox(clients={SHOP: SHOP_SECRET}, clock=clock) as sandbox:
            sandbox.fail_next(1)
            await ask(client, sandbox)
            clock.advance(2)
            await bearer(client, sandbox)
            headers = await bearer(client, sandbox, **AS_SHOP)
            await send(client, "PATCH", sandbox.base_url + "orders/1", headers=headers, params={"a": "1"})

            asked = partial(RecordedRequest, endpoint="token", method="POST", path="/connect/token", fault=None)
            at = 1_700_000_000.0
            assert (
                asked(number=1, client_id=ID, token_number=None, status=503, received_at=at, fault=Status(503)),
                asked(number=2, client_id=ID, token_number=1, status=200, received_at=at + 2),
                asked(number=3, client_id=SHOP, token_number=2, status=200, received_at=at + 2),
                RecordedRequest(
                    number=4,
                    endpoint="api",
                    method="PATCH",
                    path="/api/orders/1",
                    client_id=SHOP,
                    token_number=2,
                    status=200,
                    received_at=at + 2,
                    fault=None,
                ),
            ) == sandbox.requests
            assert sandbox.requests[:3] == sandbox.token_endpoint.requests
            assert sandbox.requests[3:] == sandbox.api.requests

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
        self, client: aiohttp.ClientSession, options: dict[str, Any], client_id: str | None
    ) -> None:
        """A refused client is recorded by its id, and an unknown id, which may be a misplaced secret, is not."""
        async with Sandbox() as sandbox:
            status, _, _ = await ask(client, sandbox, **options)

            [request] = sandbox.requests
            assert (status, client_id) == (request.status, request.client_id)
            assert "s3cr3t" not in repr(request)

    async def test_token_number(self, client: aiohttp.ClientSession) -> None:
        """A revoked or expired token is recorded by its number, and an unknown or missing one as None."""
        clock = FakeClock()
        async with Sandbox(clock=clock) as sandbox:
            revoked = await bearer(client, sandbox)
            sandbox.revoke_all()
            expired = await bearer(client, sandbox)
            clock.advance(3600)
            statuses = [await call(client, sandbox, headers) for headers in (revoked, expired)]
            statuses += [await call(client, sandbox, headers) for headers in ({"Authorization": "Bearer x"}, {})]

            assert [401, 401, 401, 401] == statuses
            seen = [(request.client_id, request.token_number) for request in sandbox.api.requests]
            assert [(ID, 1), (ID, 2), (None, None), (None, None)] == seen

    async def test_failed_api_request(self, client: aiohttp.ClientSession) -> None:
        """A scripted failure of the API is recorded with the number of the token."""
        async with Sandbox() as sandbox:
            headers = await bearer(client, sandbox)
            sandbox.api.fail_next(1, Status(500))
            await call(client, sandbox, headers)

            [request] = sandbox.api.requests
            assert (ID, 1, 500) == (request.client_id, request.token_number, request.status)

    async def test_no_secret_and_no_token(self, client: aiohttp.ClientSession) -> None:
        """No recorded request shows a secret or a token, wherever the client sent it."""
        async with Sandbox() as sandbox:
            headers = await bearer(client, sandbox)
            token = headers["Authorization"].removeprefix("Bearer ")
            await send(client, "GET", sandbox.base_url, headers=headers, params={"access_token": token})
            await ask(client, sandbox, params={"client_secret": SECRET})

            assert 3 == len(sandbox.requests)
            assert token not in repr(sandbox.requests)
            assert SECRET not in repr(sandbox.requests)

    async def test_clear(self, client: aiohttp.ClientSession) -> None:
        """Recorded requests can be cleared for one endpoint or all, and numbers and counters continue."""
        async with Sandbox() as sandbox:
            headers = await bearer(client, sandbox)
            await call(client, sandbox, headers)
            sandbox.token_endpoint.clear_requests()
            assert [2] == [request.number for request in sandbox.requests]

            sandbox.clear_requests()
            assert [] == list(sandbox.requests)
            await call(client, sandbox, headers)
            assert [3] == [request.number for request in sandbox.requests]
            assert 2 == sandbox.counters.api_requests

    async def test_snapshot(self, client: aiohttp.ClientSession) -> None:
        """`requests` is a snapshot of frozen values."""
        async with Sandbox() as sandbox:
            before = sandbox.requests
            await ask(client, sandbox)

            assert () == before
            [request] = sandbox.requests
            with pytest.raises(attrs.exceptions.FrozenInstanceError):
                request.status = 500  # type: ignore[misc]  # it must fail

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


class TestPort:
    async def test_named_port(self, client: aiohttp.ClientSession) -> None:
        """A sandbox listens on the given port each time it is entered."""
        with held_port() as port:
            sandbox = Sandbox(port=port)
            for _ in range(2):
                async with sandbox:
                    assert f"http://127.0.0.1:{port}/api/" == sandbox.base_url
                    assert 200 == (await ask(client, sandbox))[0]

    async def test_port_in_use(self) -> None:
        """A port in use raises a ConfigurationError, and the sandbox can be entered later."""
        with held_port() as port:
            second = Sandbox(port=port)
            async with Sandbox(port=port):
                with pytest.raises(ConfigurationError, match=f"^port {port} is in use"):
                    await second.__aenter__()
                assert "not running" in repr(second)
            async with second:
                assert str(port) in second.base_url

    async def test_cancelled_start(self) -> None:
        """Cancelling the start leaves the port free and the sandbox usable."""
        with held_port() as port:
            sandbox = Sandbox(port=port)
            starting = asyncio.create_task(sandbox.__aenter__())
            await asyncio.sleep(0)
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
            assert "not running" in repr(sandbox)
            async with sandbox:
                assert str(port) in sandbox.base_url

    async def test_exit_without_enter(self) -> None:
        """Leaving a sandbox that was not entered has no effect."""
        sandbox = Sandbox()
        await sandbox.__aexit__(None, None, None)
        assert "not running" in repr(sandbox)
