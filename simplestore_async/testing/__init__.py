"""The contracts by which authors of caches and of HTTP adapters prove theirs, with pytest and pytest-asyncio.

Re-exports only.
"""

from ._bearer_contract import BearerContract, BearerResponse
from ._cache_contract import TokenCacheContract
from ._shared_cache_contract import SharedTokenCacheContract

__all__ = ["BearerContract", "BearerResponse", "SharedTokenCacheContract", "TokenCacheContract"]
