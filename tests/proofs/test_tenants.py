"""Many clients in one program: a provider for each, over one cache, and one session whose requests choose."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import aiohttp
import pytest
from aiohttp import web

from simplestore_async import BearerAuthMiddleware, FileTokenCache, MemoryTokenCache, TokenCache, TokenProvider

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.servers import ApiServer, TokenServer

MANY = 1_000
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


@pytest.mark.parametrize("kind", ["memory", pytest.param("file", marks=pytest.mark.slow)])
async def test_a_thousand_clients(token_server: TokenServer, tmp_path: Path, kind: str) -> None:
    """A thousand providers over one cache get a token each, by one request each, and after that by none."""
    cache = MemoryTokenCache() if kind == "memory" else FileTokenCache(tmp_path)
    token_server.handler = name_the_client
    for _ in range(2):
        providers = build_providers(token_server, cache, MANY)
        tokens = []
        for batch in range(0, MANY, 100):
            some = list(providers.values())[batch : batch + 100]
            tokens += await asyncio.gather(*(provider.get_token() for provider in some))

        assert [f"token-of-{name}" for name in providers] == [token.value for token in tokens]
        assert MANY == len(token_server.requests)


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


class TestTenantOfARequest:
    async def test_is_chosen_by_its_middlewares(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """One session serves all tenants: each request names the middleware of its own, and carries that token."""
        token_server.handler = name_the_client
        providers = build_providers(token_server, MemoryTokenCache(), 20)
        tenants = {name: BearerAuthMiddleware(provider, origins=api_server.url) for name, provider in providers.items()}
        async with aiohttp.ClientSession(api_server.url) as session:

            async def send(name: str) -> int:
                async with session.get(f"/{name}", middlewares=[tenants[name]]) as response:
                    return response.status

            assert {200} == set(await asyncio.gather(*map(send, [*tenants] * 5)))

        assert 100 == len(api_server.requests)
        for request in api_server.requests:
            assert f"Bearer token-of-{request.path[1:]}" == request.headers["Authorization"]
        assert 20 == len(token_server.requests)

    async def test_replaces_the_session_s_own(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """A request that names a tenant carries that one's token, and not the session's; the next one does."""
        token_server.handler = name_the_client
        own, other = (
            BearerAuthMiddleware(provider, origins=api_server.url)
            for provider in build_providers(token_server, MemoryTokenCache(), 2).values()
        )
        async with (
            aiohttp.ClientSession(api_server.url, middlewares=[own]) as session,
            session.get("/", middlewares=[other]),
            session.get("/"),
        ):
            pass

        assert ["token-of-shop-1", "token-of-shop-0"] == api_server.tokens

    async def test_rejection_is_the_tenant_s_own(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """When one tenant's token is rejected, that tenant's is replaced, and no other's."""
        providers = build_providers(token_server, MemoryTokenCache(), 2)
        one, other = (BearerAuthMiddleware(provider, origins=api_server.url) for provider in providers.values())
        api_server.rejected = {"canary-token-1"}
        async with aiohttp.ClientSession(api_server.url) as session:
            for tenant in (one, other, one, other):
                async with session.get("/", middlewares=[tenant]) as response:
                    assert 200 == response.status

        # The first one's replacement is the second token that the endpoint gave.
        expected = [f"canary-token-{number}" for number in (1, 2, 3, 2, 3)]
        assert expected == api_server.tokens
