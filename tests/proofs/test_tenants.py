"""Many clients in one program: a provider for each over one cache, and one session for all."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import aiohttp
from aiohttp import web

from simplestore_async import BearerAuthMiddleware, MemoryTokenCache, TokenCache, TokenProvider

if TYPE_CHECKING:
    from tests.support.servers import ApiServer, TokenServer

# What one provider takes with its credentials and its token; README says 5 kB.
LARGEST_PROVIDER_BYTES = 5_000


async def name_the_client(request: web.Request) -> web.Response:
    form = dict(parse_qsl((await request.read()).decode()))
    return web.json_response({"access_token": f"token-of-{form['client_id']}", "expires_in": 3600})


def build_providers(token_server: TokenServer, cache: TokenCache, count: int) -> dict[str, TokenProvider]:
    names = [f"shop-{number}" for number in range(count)]
    return {
        name: token_server.provider(credentials=token_server.credentials(client_id=name), cache=cache) for name in names
    }


async def test_memory_of_a_provider(token_server: TokenServer) -> None:
    """A provider with a token takes no more memory than documented."""
    cache = MemoryTokenCache()
    token_server.handler = name_the_client
    for provider in build_providers(token_server, cache, 1).values():
        await provider.get_token()  # what is imported and cached once is no provider's
    tracemalloc.start()
    try:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        providers = build_providers(token_server, cache, 100)
        for provider in providers.values():
            await provider.get_token()
        token_server.requests.clear()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (after - before) / len(providers) <= LARGEST_PROVIDER_BYTES


async def test_tenant_of_a_request(token_server: TokenServer, api_server: ApiServer) -> None:
    """One session serves all tenants: a request carries the token of the middleware it names, or of the session's."""
    token_server.handler = name_the_client
    own, *others = build_providers(token_server, MemoryTokenCache(), 20).items()
    tenants = {name: BearerAuthMiddleware(provider, origins=api_server.url) for name, provider in others}
    session_s = BearerAuthMiddleware(own[1], origins=api_server.url)
    async with aiohttp.ClientSession(api_server.url, middlewares=[session_s]) as session:

        async def send(name: str) -> int:
            options: dict[str, Any] = {"middlewares": [tenants[name]]} if name in tenants else {}
            async with session.get(f"/{name}", **options) as response:
                return response.status

        assert {200} == set(await asyncio.gather(*map(send, [own[0], *tenants] * 5)))

    assert 100 == len(api_server.requests)
    for request in api_server.requests:
        assert f"Bearer token-of-{request.path[1:]}" == request.headers["Authorization"]
    assert 20 == len(token_server.requests)
