"""Common parts of the tests of `simplestore_async.caches.redis`."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import pytest

from simplestore_async.errors import TokenCacheError
from simplestore_async.events import CacheFailed, Event
from tests.support.tokens import make_token

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from simplestore_async import AccessToken
    from simplestore_async.caches.redis import RedisTokenCache
    from tests.support.redis_server import RedisServer
    from tests.support.servers import TokenServer

KEY = "key"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()
TOKEN = make_token()
PASSWORD = "canary-p:ss/w@rd"
QUOTED = "canary-p%3Ass%2Fw%40rd"


def name(namespace: str, kind: str) -> str:
    return f"{namespace}:{{{DIGEST}}}:{kind}"


async def keys_in(server: RedisServer, namespace: str) -> list[str]:
    return sorted(key.decode() for key in await server.command("KEYS", f"{namespace}:*"))


async def renew(token_server: TokenServer, cache: RedisTokenCache) -> tuple[AccessToken, list[CacheFailed]]:
    """Return the token of a new provider over *cache*, and the cache's failures."""
    events: list[Event] = []
    async with asyncio.timeout(60), token_server.provider(cache=cache, on_event=events.append) as provider:
        token = await provider.get_token()
    return token, [each for each in events if isinstance(each, CacheFailed)]


async def problem_of(call: Awaitable[object]) -> str:
    """Return why *call* fails, without the server's address and the hint."""
    with pytest.raises(TokenCacheError) as caught:
        await call
    assert caught.value.__context__ is None
    return caught.value.problem.partition(": ")[2]


async def enter(cache: RedisTokenCache) -> None:
    async with cache.renewal_lock(KEY):
        pass
