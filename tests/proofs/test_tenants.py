"""Many clients in one program: a provider for each, and one cache for all."""

from __future__ import annotations

import gc
import tracemalloc

import attrs

from simplestore_async import ClientCredentials, MemoryTokenCache, TokenProvider
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
