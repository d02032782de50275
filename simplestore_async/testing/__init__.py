"""The contracts by which authors of caches prove theirs, with pytest and pytest-asyncio. Re-exports only."""

from ._cache_contract import TokenCacheContract
from ._shared_cache_contract import SharedTokenCacheContract

__all__ = ["SharedTokenCacheContract", "TokenCacheContract"]
