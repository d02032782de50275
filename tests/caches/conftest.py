"""Fixtures: a `FileTokenCache` in its own directory, and a network in front of Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from simplestore_async import FileTokenCache
from tests.support.cache_files import KEY, NAME, TOKEN
from tests.support.redis_server import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.redis_server import RedisServer


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(directory: Path) -> FileTokenCache:
    return FileTokenCache(directory)


@pytest.fixture
async def path(cache: FileTokenCache, directory: Path) -> Path:
    """The file of KEY, which contains TOKEN."""
    await cache.set(KEY, TOKEN)
    return directory / NAME


@pytest.fixture
async def network(redis_server: RedisServer) -> AsyncIterator[Proxy]:
    async with Proxy(redis_server.path) as proxy:
        yield proxy
