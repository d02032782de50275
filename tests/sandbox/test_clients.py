"""Sandbox: clients, secrets and ports."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from simplestore_async import TokenProvider
from simplestore_async.errors import ConfigurationError
from simplestore_async.sandbox import Sandbox
from tests.support.ports import held_port
from tests.support.sandbox_client import AS_SHOP, FORM, ID, SECRET, SHOP, SHOP_SECRET, ask, bearer, call

if TYPE_CHECKING:
    import aiohttp


async def is_accepted(client: aiohttp.ClientSession, sandbox: Sandbox, client_id: str, client_secret: str) -> bool:
    fields = {"client_id": client_id, "client_secret": client_secret}
    return (await ask(client, sandbox, data=FORM | fields))[0] == 200


class TestClients:
    async def test_further_clients(self, client: aiohttp.ClientSession, sandbox: Sandbox) -> None:
        """Each client gets tokens with its own secret only."""
        sandbox.add_client("shop-8", client_secret="another")
        for client_id, client_secret in ((ID, SECRET), (SHOP, SHOP_SECRET), ("shop-8", "another")):
            assert await is_accepted(client, sandbox, client_id, client_secret)
        assert not await is_accepted(client, sandbox, SHOP, SECRET)
        assert not await is_accepted(client, sandbox, ID, SHOP_SECRET)

    async def test_credentials_of(self, sandbox: Sandbox) -> None:
        """`credentials_of()` returns working credentials of any client, and `credentials` those of the first."""
        async with TokenProvider(sandbox.credentials_of(SHOP)) as provider:
            await provider.get_token()

        assert [SHOP] == [request.client_id for request in sandbox.requests]
        assert sandbox.credentials == sandbox.credentials_of(ID)

    async def test_rotation(self, client: aiohttp.ClientSession, sandbox: Sandbox) -> None:
        """After a rotation only the new secret is accepted, and issued tokens stay valid."""
        headers = await bearer(client, sandbox)
        sandbox.rotate_secret(ID, new_secret="new")

        assert not await is_accepted(client, sandbox, ID, SECRET)
        assert await is_accepted(client, sandbox, ID, "new")
        assert 200 == await call(client, sandbox, headers)
        assert "new" == sandbox.credentials.client_secret
        assert "new" == sandbox.environment["SIMPLESTORE_CLIENT_SECRET"]

    async def test_rotation_in_two_steps(self, client: aiohttp.ClientSession, sandbox: Sandbox) -> None:
        """With `keep_old=True` both secrets are accepted until the old one is dropped."""
        sandbox.rotate_secret(ID, new_secret="new", keep_old=True)
        assert await is_accepted(client, sandbox, ID, SECRET)
        assert await is_accepted(client, sandbox, ID, "new")
        assert "new" == sandbox.credentials.client_secret

        sandbox.drop_old_secrets(ID)
        assert not await is_accepted(client, sandbox, ID, SECRET)
        assert await is_accepted(client, sandbox, ID, "new")

    async def test_revoke_all(self, client: aiohttp.ClientSession, sandbox: Sandbox) -> None:
        """revoke_all() revokes the issued tokens of one client or all, and no later token."""
        own, shops = await bearer(client, sandbox), await bearer(client, sandbox, **AS_SHOP)
        sandbox.revoke_all(SHOP)
        assert [200, 401] == [await call(client, sandbox, headers) for headers in (own, shops)]
        sandbox.revoke_all()
        later = await bearer(client, sandbox)
        assert [401, 200] == [await call(client, sandbox, headers) for headers in (own, later)]

    async def test_reprs_show_no_secret(self) -> None:
        """No repr shows a secret."""
        sandbox = Sandbox(client_secret="hush-1", clients={SHOP: "hush-2"})
        sandbox.rotate_secret(SHOP, new_secret="hush-3", keep_old=True)
        assert "not running" in repr(sandbox)
        async with sandbox:
            shown = [sandbox, sandbox.api, sandbox.credentials_of(SHOP), sandbox.environment, sandbox._server]
            secrets = repr(sandbox._server.clients._secrets)

            assert "http://127.0.0.1:" in repr(sandbox)
            assert "hush" not in secrets + "".join(map(repr, [*shown, sandbox.credentials, sandbox.counters]))
            assert "***" in secrets


class TestPort:
    async def test_port_in_use(self, client: aiohttp.ClientSession) -> None:
        """A named port in use raises a ConfigurationError; later the sandbox listens on it, each time it is entered."""
        with held_port() as port:
            second = Sandbox(port=port)
            async with Sandbox(port=port):
                with pytest.raises(ConfigurationError, match=f"^port {port} is in use"):
                    await second.__aenter__()
                assert "not running" in repr(second)
            for _ in range(2):
                async with second:
                    assert f"http://127.0.0.1:{port}/api/" == second.base_url
                    assert 200 == (await ask(client, second))[0]

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
