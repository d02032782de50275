"""Many clients in one program: a provider for each, one cache, and one session for all."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from typing import Any

import aiohttp
import attrs
from yarl import URL

from simplestore_async import BearerAuthMiddleware, ClientCredentials, MemoryTokenCache, TokenProvider
from simplestore_async.sandbox import Sandbox
from tests.support.virtual_wire import Reply, VirtualEndpoint, grant

# For a provider with its credentials and its token; README says 5 kB.
LARGEST_PROVIDER_BYTES = 5_000
CREDENTIALS = ClientCredentials(client_id="app", client_secret="secret")


async def test_memory_of_a_provider() -> None:
    """A provider with a token takes no more memory than documented."""
    cache = MemoryTokenCache()

    async def answer() -> Reply:
        return grant("token", 3600)

    async def build_provider(number: int) -> TokenProvider:
        credentials = attrs.evolve(CREDENTIALS, client_id=f"shop-{number}")
        provider = TokenProvider(endpoint=VirtualEndpoint(credentials, answer=answer), cache=cache)
        await provider.get_token()
        return provider

    await build_provider(0)  # imports and caches of the process are no provider's
    tracemalloc.start()
    try:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        providers = [await build_provider(number) for number in range(1, 101)]
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (after - before) / len(providers) <= LARGEST_PROVIDER_BYTES


async def test_tenant_of_a_request() -> None:
    """One session serves all tenants: a request has the token of its own middleware, or else of the session's."""
    own, *others = [f"shop-{number}" for number in range(20)]
    cache = MemoryTokenCache()
    async with Sandbox(clients=dict.fromkeys([own, *others], "secret")) as sandbox:
        middlewares = {
            name: BearerAuthMiddleware(
                TokenProvider(sandbox.credentials_of(name), cache=cache), origins=URL(sandbox.base_url).origin()
            )
            for name in [own, *others]
        }
        async with aiohttp.ClientSession(sandbox.base_url, middlewares=[middlewares[own]]) as session:

            async def send(name: str) -> int:
                options: dict[str, Any] = {} if name == own else {"middlewares": [middlewares[name]]}
                async with session.get(name, **options) as response:
                    return response.status

            assert {200} == set(await asyncio.gather(*map(send, [own, *others] * 5)))

    assert 100 == len(sandbox.api.requests)
    assert [] == [each for each in sandbox.api.requests if each.path != f"/api/{each.client_id}"]
    assert 20 == sandbox.counters.token_requests
