"""Requests of a plain HTTP client to the sandbox."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import aiohttp

    from simplestore_async.sandbox import Sandbox

ID, SECRET = "sandbox-client", "sandbox-secret"
SHOP, SHOP_SECRET = "shop-7", "shop-secret"
AS_SHOP = {"client_id": SHOP, "client_secret": SHOP_SECRET}
FORM = {"grant_type": "client_credentials", "client_id": ID, "client_secret": SECRET}
FORM_TYPE = {"Content-Type": "application/x-www-form-urlencoded"}

Reply = tuple[int, "Mapping[str, str]", dict[str, Any]]


async def send(client: aiohttp.ClientSession, method: str, url: str, **options: Any) -> Reply:
    async with client.request(method, url, **options) as response:
        return response.status, response.headers, await response.json()


async def ask(client: aiohttp.ClientSession, sandbox: Sandbox, **options: Any) -> Reply:
    return await send(client, "POST", sandbox.token_url, **({"data": FORM} | options))


async def bearer(client: aiohttp.ClientSession, sandbox: Sandbox, **fields: str) -> dict[str, str]:
    """Return the header with a new token of the client in *fields*."""
    _, _, content = await ask(client, sandbox, data=FORM | fields)
    return {"Authorization": f"Bearer {content['access_token']}"}


async def call(client: aiohttp.ClientSession, sandbox: Sandbox, headers: Mapping[str, str], *, path: str = "") -> int:
    """Return the status of an API request."""
    status, _, _ = await send(client, "GET", sandbox.base_url + path, headers=headers)
    return status


def basic(client_id: str, client_secret: str, *, encode: Callable[[str], str] = quote) -> dict[str, str]:
    pair = f"{encode(client_id)}:{encode(client_secret)}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
