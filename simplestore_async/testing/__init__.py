"""Test suites for third-party caches and HTTP adapters, for pytest with pytest-asyncio. Re-exports only."""

from ._bearer_contract import BearerContract, BearerResponse
from ._cache_contract import TokenCacheContract
from ._shared_cache_contract import SharedTokenCacheContract

__all__ = ["BearerContract", "BearerResponse", "SharedTokenCacheContract", "TokenCacheContract"]
