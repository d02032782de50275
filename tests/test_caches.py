"""The contract of `simplestore_async.TokenCache`, for every cache of the package and the smallest one of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cache_contract import CacheContract, SharedCacheContract

from simplestore_async import AccessToken, FileTokenCache, MemoryTokenCache, SharedTokenCache, TokenCache

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path


class MinimalCache:
    """As much as the protocol asks for, and as its documentation shows it."""

    def __init__(self) -> None:
        self._tokens: dict[str, AccessToken] = {}

    async def get(self, key: str, /) -> AccessToken | None:
        return self._tokens.get(key)

    async def set(self, key: str, token: AccessToken, /) -> None:
        self._tokens[key] = token


class TestMemoryTokenCache(CacheContract):
    @pytest.fixture
    def cache(self) -> TokenCache:
        return MemoryTokenCache()


class TestFileTokenCache(SharedCacheContract):
    @pytest.fixture
    def cache(self, tmp_path: Path) -> SharedTokenCache:
        return FileTokenCache(tmp_path / "cache")


class TestFileTokenCacheReopened(SharedCacheContract):
    """Every call goes through an instance of its own, as if each came from another process."""

    @pytest.fixture
    def cache(self, tmp_path: Path) -> SharedTokenCache:
        class Reopened:
            async def get(self, key: str, /) -> AccessToken | None:
                return await FileTokenCache(tmp_path).get(key)

            async def set(self, key: str, token: AccessToken, /) -> None:
                await FileTokenCache(str(tmp_path)).set(key, token)

            def renewal_lock(self, key: str, /) -> AbstractAsyncContextManager[object]:
                return FileTokenCache(tmp_path).renewal_lock(key)

        return Reopened()


class TestMinimalCache(CacheContract):
    @pytest.fixture
    def cache(self) -> TokenCache:
        return MinimalCache()


def test_what_is_no_cache() -> None:
    """An object that lacks one of the two coroutines is no `TokenCache`, and one without a lock no shared one."""

    class GetOnly:
        async def get(self, key: str, /) -> None: ...

    class SetOnly:
        async def set(self, key: str, token: AccessToken, /) -> None: ...

    assert not isinstance(GetOnly(), TokenCache)
    assert not isinstance(SetOnly(), TokenCache)
    assert not isinstance(MinimalCache(), SharedTokenCache)
    assert not isinstance(MemoryTokenCache(), SharedTokenCache)
