"""Helpers for the tests of `RedisTokenCache`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from simplestore_async.errors import TokenCacheError
from tests.support.cache_files import DIGEST, KEY

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from simplestore_async.caches.redis import RedisTokenCache
    from tests.support.redis_server import RedisServer

PASSWORD = "canary-p:ss/w@rd"
QUOTED = "canary-p%3Ass%2Fw%40rd"


def name(namespace: str, kind: str) -> str:
    return f"{namespace}:{{{DIGEST}}}:{kind}"


async def keys_in(server: RedisServer, namespace: str) -> list[str]:
    return sorted(key.decode() for key in await server.command("KEYS", f"{namespace}:*"))


async def problem_of(call: Awaitable[object]) -> str:
    """Return the problem of the failing *call*, without the server's address."""
    with pytest.raises(TokenCacheError) as caught:
        await call
    assert caught.value.__context__ is None
    return caught.value.problem.partition(": ")[2]


async def enter(cache: RedisTokenCache) -> None:
    async with cache.renewal_lock(KEY):
        pass
