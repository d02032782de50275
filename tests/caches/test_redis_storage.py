"""`simplestore_async.caches.redis`: stored tokens and locks."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet
from redis.asyncio import Redis

from simplestore_async.caches.encryption import FernetCodec
from simplestore_async.caches.redis import RedisTokenCache
from simplestore_async.errors import TokenCacheError
from tests.support.cache_files import DIGEST, KEY, TOKEN
from tests.support.redis_caches import enter, keys_in, name, problem_of
from tests.support.tokens import ISSUED_AT, make_token

if TYPE_CHECKING:
    from simplestore_async import AccessToken
    from tests.support.redis_server import RedisServer


@pytest.fixture
def cache(shared_redis: RedisServer, namespace: str) -> RedisTokenCache:
    return RedisTokenCache.from_url(shared_redis.patient_url, namespace=namespace)


async def test_expiry_follows_the_token(cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
    """A token is kept in Redis until the millisecond in which it expires."""
    await cache.set(KEY, TOKEN)
    assert int(TOKEN.expires_at * 1000) == await shared_redis.command("PEXPIRETIME", name(namespace, "token-v2"))


@pytest.mark.parametrize(
    ("expires_at", "is_kept"), [(1e308, True), (ISSUED_AT + 1e-6, True), (1e-9, False), (-1e9, False)]
)
async def test_far_expiry(cache: RedisTokenCache, expires_at: float, is_kept: bool) -> None:
    """A token whose expiry exceeds Redis's range is stored as long as possible, or not at all."""
    token = make_token(issued_at=min(ISSUED_AT, expires_at - 1), expires_at=expires_at)
    await cache.set(KEY, token)
    assert (token if is_kept else None) == await cache.get(KEY)


async def test_what_is_in_redis(cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
    """Keys hold the digest only; a lock is there while it is held, for as long as its lease."""
    async with cache.renewal_lock(KEY):
        await cache.set(KEY, TOKEN)
        assert [name(namespace, "lock"), name(namespace, "token-v2")] == await keys_in(shared_redis, namespace)
        left = await shared_redis.command("PTTL", name(namespace, "lock"))
        assert 30_000 < left <= 45_000
    assert [name(namespace, "token-v2")] == await keys_in(shared_redis, namespace)


async def test_token_under_another_key(cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
    """A token copied to another key is a cache miss."""
    await cache.set("other", TOKEN)
    [other] = await keys_in(shared_redis, namespace)
    await shared_redis.command("COPY", other, name(namespace, "token-v2"))
    assert await cache.get(KEY) is None
    assert TOKEN == await cache.get("other")


@pytest.mark.parametrize("junk", [b"", b"\xff\0", b"{}", DIGEST.encode() + b"\n{}", b"x" * 100_000])
async def test_junk(cache: RedisTokenCache, shared_redis: RedisServer, namespace: str, junk: bytes) -> None:
    """Anything but a token is a cache miss, and is replaced."""
    await shared_redis.command("SET", name(namespace, "token-v2"), junk)
    assert await cache.get(KEY) is None
    await cache.set(KEY, TOKEN)
    assert TOKEN == await cache.get(KEY)


async def test_another_type(cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
    """A list under the token's key makes a read fail, and is replaced by the next token."""
    await shared_redis.command("LPUSH", name(namespace, "token-v2"), "x")
    assert "it responded WRONGTYPE" == await problem_of(cache.get(KEY))
    await cache.set(KEY, TOKEN)
    assert TOKEN == await cache.get(KEY)


async def test_too_long(cache: RedisTokenCache) -> None:
    """A token that would not be read back is not stored, and the old one stays."""
    await cache.set(KEY, TOKEN)
    with pytest.raises(TokenCacheError, match=r"too long to be stored: in Redis it takes 100\d{3} bytes"):
        await cache.set(KEY, make_token("x" * 100_000))
    assert TOKEN == await cache.get(KEY)


async def test_namespaces(cache: RedisTokenCache, shared_redis: RedisServer) -> None:
    """Programs with different namespaces share nothing."""
    await cache.set(KEY, TOKEN)
    assert await RedisTokenCache.from_url(shared_redis.patient_url, namespace="another").get(KEY) is None


async def test_encrypted(cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
    """With a codec no token is in Redis; data in clear, or encrypted for another key, is a cache miss."""
    keys = [Fernet.generate_key() for _ in range(2)]

    def open_with(*keys: bytes) -> RedisTokenCache:
        return RedisTokenCache.from_url(shared_redis.patient_url, namespace=namespace, codec=FernetCodec(keys))

    await cache.set(KEY, TOKEN)
    encrypted = open_with(keys[0])
    assert await encrypted.get(KEY) is None
    await encrypted.set(KEY, TOKEN)
    assert await cache.get(KEY) is None
    stored = await shared_redis.command("GET", name(namespace, "token-v2"))
    assert not [each for each in (TOKEN.value.encode(), b"version", DIGEST.encode()) if each in stored]

    assert TOKEN == await open_with(keys[1], keys[0]).get(KEY)
    assert await open_with(keys[1]).get(KEY) is None
    await shared_redis.command("SETRANGE", name(namespace, "token-v2"), 100, b"#")
    assert await encrypted.get(KEY) is None

    await encrypted.set("other", TOKEN)
    [other] = set(await keys_in(shared_redis, namespace)) - {name(namespace, "token-v2")}
    await shared_redis.command("COPY", other, name(namespace, "token-v2"), "REPLACE")
    assert await encrypted.get(KEY) is None
    assert TOKEN == await encrypted.get("other")


async def test_codec_that_blocks(shared_redis: RedisServer, namespace: str) -> None:
    """A codec works in a thread of the cache's own: neither on the event loop, nor in its default executor."""
    threads: set[str] = set()

    class Codec:
        def encode(self, data: bytes, /) -> bytes:
            threads.add(threading.current_thread().name)
            return data[::-1]

        def decode(self, data: bytes, /) -> bytes:
            return self.encode(data)

    cache = RedisTokenCache.from_url(shared_redis.patient_url, namespace=namespace, codec=Codec())
    await cache.set(KEY, TOKEN)
    assert TOKEN == await cache.get(KEY)
    assert {"simplestore-cache"} == threads


async def lose_lock(server: RedisServer, namespace: str) -> None:
    """End the lease of KEY's lock, as its time would."""
    assert 1 == await server.command("DEL", name(namespace, "lock"))


class TestLeaseIsOver:
    """The lock's lease ends while its holder asks the endpoint."""

    async def test_another_has_stored(self, cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
        """A token stored by another process since stays, and the former holder of the lock gets an error."""
        await cache.set(KEY, make_token("rejected"))
        async with cache.renewal_lock(KEY):
            assert make_token("rejected") == await cache.get(KEY)
            await lose_lock(shared_redis, namespace)
            await RedisTokenCache.from_url(shared_redis.patient_url, namespace=namespace).set(KEY, make_token("newer"))
            with pytest.raises(TokenCacheError, match="set lease_seconds above the policy's budget_seconds"):
                await cache.set(KEY, make_token("older"))
        assert make_token("newer") == await cache.get(KEY)

    @pytest.mark.parametrize("is_there", [True, False], ids=["a rejected token", "no token"])
    async def test_nobody_has_stored(
        self, cache: RedisTokenCache, shared_redis: RedisServer, namespace: str, is_there: bool
    ) -> None:
        """The token is stored nevertheless, also in place of one that was seen under the lock."""
        if is_there:
            await cache.set(KEY, make_token("rejected"))
        async with cache.renewal_lock(KEY):
            await cache.get(KEY)
            await lose_lock(shared_redis, namespace)
            await cache.set(KEY, TOKEN)
        assert TOKEN == await cache.get(KEY)

    async def test_another_holds_it(self, cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
        """The lock that another one holds by then is not let go of."""
        other = RedisTokenCache.from_url(shared_redis.patient_url, namespace=namespace)
        async with AsyncExitStack() as stack:
            async with cache.renewal_lock(KEY):
                await lose_lock(shared_redis, namespace)
                await stack.enter_async_context(other.renewal_lock(KEY))
            assert [name(namespace, "lock")] == await keys_in(shared_redis, namespace)
        assert [] == await keys_in(shared_redis, namespace)


async def test_lock_ends_with_its_lease(shared_redis: RedisServer, namespace: str) -> None:
    """A lock whose holder is gone is given to the next one, within a second after its lease."""
    cache = RedisTokenCache.from_url(shared_redis.patient_url, namespace=namespace, lease_seconds=1)
    await shared_redis.command("SET", name(namespace, "lock"), "one that is gone", "PX", 1000)
    async with asyncio.timeout(30):
        await enter(cache)


async def test_waiters_need_not_queue(cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
    """As soon as the holder has stored a token, all waiters continue and find it, even while the lock is held."""
    async with asyncio.timeout(30), asyncio.TaskGroup() as waiters:

        async def wait() -> None:
            async with cache.renewal_lock(KEY):
                found.append(await cache.get(KEY))

        found: list[AccessToken | None] = []
        async with cache.renewal_lock(KEY):
            tasks = [waiters.create_task(wait()) for _ in range(20)]
            while [20] != (await shared_redis.command("PUBSUB", "NUMSUB", name(namespace, "news")))[1:]:
                await asyncio.sleep(0)
            await cache.set(KEY, TOKEN)
            await asyncio.wait(tasks)
            assert [name(namespace, "lock"), name(namespace, "token-v2")] == await keys_in(shared_redis, namespace)

    assert [TOKEN] * 20 == found


async def test_who_was_let_go_may_store(cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
    """A waiter that cannot use the stored token stores another in its place."""

    async def wait() -> None:
        async with cache.renewal_lock(KEY):
            await cache.set(KEY, make_token("better"))

    async with asyncio.timeout(30), cache.renewal_lock(KEY):
        waiter = asyncio.create_task(wait())
        while [1] != (await shared_redis.command("PUBSUB", "NUMSUB", name(namespace, "news")))[1:]:
            await asyncio.sleep(0)
        await cache.set(KEY, TOKEN)
        await waiter
    assert make_token("better") == await cache.get(KEY)


async def test_client_without_messages(shared_redis: RedisServer, namespace: str) -> None:
    """With a client that has no messages, as a cluster's before redis-py 8, waiters poll every second."""
    has_looked = asyncio.Event()

    class Silent(Redis):
        @property
        def pubsub(self) -> Any:
            has_looked.set()
            raise AttributeError

    cache = RedisTokenCache(lambda: Silent.from_url(shared_redis.patient_url), namespace=namespace)
    async with asyncio.timeout(30):
        async with cache.renewal_lock(KEY):
            waiter = asyncio.create_task(enter(cache))
            await has_looked.wait()
        await waiter
