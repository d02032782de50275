"""The contract of `TokenCache` for every cache of the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis.asyncio import Redis

from simplestore_async import FileTokenCache, MemoryTokenCache, SharedTokenCache, TokenCache
from simplestore_async.caches.redis import RedisTokenCache
from simplestore_async.testing import SharedTokenCacheContract, TokenCacheContract
from tests.support.one_loop import OnOneLoop
from tests.support.tokens import make_token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.redis_server import RedisServer

SURROGATES = ["\ud800", "\udfff"]


class Beyond:
    """Guarantees of the package's caches beyond the contract."""

    patience_seconds = 60.0  # the machine may be busy

    async def test_surrogates(self, cache: TokenCache) -> None:
        """Keys that UTF-8 cannot encode work, and differ from each other and from their replacement characters."""
        keys = [*SURROGATES, "\ufffd", "?"]
        for number, key in enumerate(keys):
            assert await cache.get(key) is None
            await cache.set(key, make_token(f"token-{number}"))
        assert [make_token(f"token-{number}") for number in range(len(keys))] == [await cache.get(key) for key in keys]


class BeyondShared(Beyond):
    @pytest.mark.parametrize("key", SURROGATES)
    async def test_locks_of_surrogates(self, cache: SharedTokenCache, key: str) -> None:
        """Keys that UTF-8 cannot encode have renewal locks."""
        for _ in range(2):
            async with cache.renewal_lock(key):
                pass


class TestMemoryTokenCache(Beyond, TokenCacheContract):
    @pytest.fixture
    def cache(self) -> TokenCache:
        return MemoryTokenCache()


class TestFileTokenCache(BeyondShared, SharedTokenCacheContract):
    @pytest.fixture
    def cache(self, tmp_path: Path) -> SharedTokenCache:
        return FileTokenCache(tmp_path / "cache")


class TestRedisTokenCache(BeyondShared, SharedTokenCacheContract):
    @pytest.fixture
    def cache(self, shared_redis: RedisServer, namespace: str) -> SharedTokenCache:
        return RedisTokenCache.from_url(shared_redis.patient_url, namespace=namespace)


class TestRedisTokenCacheWithAClient(OnOneLoop, BeyondShared):
    """A client passed by the caller, which serves one event loop and decodes responses."""

    @pytest.fixture
    async def cache(self, shared_redis: RedisServer, namespace: str) -> AsyncIterator[SharedTokenCache]:
        async with Redis.from_url(shared_redis.patient_url, decode_responses=True) as client:
            yield RedisTokenCache(client, namespace=namespace)
