"""`RedisTokenCache`: stored tokens and locks."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, nullcontext
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis

from simplestore_async.caches.redis import RedisTokenCache
from simplestore_async.errors import TokenCacheError
from tests.support.cache_files import DIGEST, KEY, MAX_BYTES, TOKEN, enter, keys_in, name, problem_of
from tests.support.tokens import ISSUED_AT, make_token

if TYPE_CHECKING:
    from simplestore_async import AccessToken
    from tests.support.redis_server import RedisServer


@pytest.fixture
def cache(shared_redis: RedisServer, namespace: str) -> RedisTokenCache:
    return RedisTokenCache.from_url(shared_redis.patient_url, namespace=namespace)


async def test_expiry_follows_the_token(cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
    """A token's key in Redis expires in the same millisecond as the token."""
    await cache.set(KEY, TOKEN)
    assert int(TOKEN.expires_at * 1000) == await shared_redis.command("PEXPIRETIME", name(namespace, "token-v2"))


@pytest.mark.parametrize(
    ("expires_at", "is_kept"), [(1e308, True), (ISSUED_AT + 1e-6, True), (1e-9, False), (-1e9, False)]
)
async def test_far_expiry(cache: RedisTokenCache, expires_at: float, is_kept: bool) -> None:
    """A token that expires beyond Redis's range is stored as long as possible, and an expired one not at all."""
    token = make_token(issued_at=min(ISSUED_AT, expires_at - 1), expires_at=expires_at)
    await cache.set(KEY, token)
    assert (token if is_kept else None) == await cache.get(KEY)


async def test_keys(cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
    """Redis keys contain only the digest, and a lock's key exists with the lease's expiry while it is held."""
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


@pytest.mark.parametrize(
    "junk",
    [b"", b"\xff\0", b"{}", DIGEST.encode() + b"\n{}", b"x" * 100_000],
    ids=["empty", "binary", "no digest", "digest only", "too long"],
)
async def test_junk(cache: RedisTokenCache, shared_redis: RedisServer, namespace: str, junk: bytes) -> None:
    """Anything but a token is a cache miss and is replaced."""
    await shared_redis.command("SET", name(namespace, "token-v2"), junk)
    assert await cache.get(KEY) is None
    await cache.set(KEY, TOKEN)
    assert TOKEN == await cache.get(KEY)


async def test_another_type(cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
    """A list under the token's key fails the read and is replaced by the next token."""
    await shared_redis.command("LPUSH", name(namespace, "token-v2"), "x")
    assert "it responded WRONGTYPE" == await problem_of(cache.get(KEY))
    await cache.set(KEY, TOKEN)
    assert TOKEN == await cache.get(KEY)


@pytest.mark.parametrize(("size", "is_kept"), [(MAX_BYTES, True), (MAX_BYTES + 1, False)])
async def test_largest_entry(
    cache: RedisTokenCache, shared_redis: RedisServer, namespace: str, size: int, *, is_kept: bool
) -> None:
    """A token that takes 64 KiB in Redis is stored, and a longer one is refused without losing the old one."""
    await cache.set(KEY, TOKEN)
    rest = await shared_redis.command("STRLEN", name(namespace, "token-v2")) - len(TOKEN.value)
    token = make_token("v" * (size - rest))
    with nullcontext() if is_kept else pytest.raises(TokenCacheError, match=f"in Redis it takes {size} bytes"):
        await cache.set(KEY, token)
    assert (token if is_kept else TOKEN) == await cache.get(KEY)


async def lose_lock(server: RedisServer, namespace: str) -> None:
    """Remove KEY's lock, as the end of its lease would."""
    assert 1 == await server.command("DEL", name(namespace, "lock"))


class TestExpiredLease:
    """The lock's lease ends while its holder requests a token."""

    async def test_stored_by_another(self, cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
        """A token that another process stored since is kept, and the former holder's set() fails."""
        await cache.set(KEY, make_token("rejected"))
        async with cache.renewal_lock(KEY):
            assert make_token("rejected") == await cache.get(KEY)
            await lose_lock(shared_redis, namespace)
            await RedisTokenCache.from_url(shared_redis.patient_url, namespace=namespace).set(KEY, make_token("newer"))
            with pytest.raises(TokenCacheError, match="set lease_seconds above the policy's budget_seconds"):
                await cache.set(KEY, make_token("older"))
        assert make_token("newer") == await cache.get(KEY)

    @pytest.mark.parametrize("is_there", [True, False], ids=["a rejected token", "no token"])
    async def test_not_stored_by_another(
        self, cache: RedisTokenCache, shared_redis: RedisServer, namespace: str, is_there: bool
    ) -> None:
        """The former holder's token is stored, even in place of a token that it read under the lock."""
        if is_there:
            await cache.set(KEY, make_token("rejected"))
        async with cache.renewal_lock(KEY):
            await cache.get(KEY)
            await lose_lock(shared_redis, namespace)
            await cache.set(KEY, TOKEN)
        assert TOKEN == await cache.get(KEY)

    async def test_locked_by_another(self, cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
        """The former holder does not release the lock of the next one."""
        other = RedisTokenCache.from_url(shared_redis.patient_url, namespace=namespace)
        async with AsyncExitStack() as stack:
            async with cache.renewal_lock(KEY):
                await lose_lock(shared_redis, namespace)
                await stack.enter_async_context(other.renewal_lock(KEY))
            assert [name(namespace, "lock")] == await keys_in(shared_redis, namespace)
        assert [] == await keys_in(shared_redis, namespace)


async def test_holder_overwrites(cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
    """During its lease the holder overwrites a token that another process has stored without the lock."""
    async with cache.renewal_lock(KEY):
        await RedisTokenCache.from_url(shared_redis.patient_url, namespace=namespace).set(KEY, make_token("other"))
        await cache.set(KEY, TOKEN)
    assert TOKEN == await cache.get(KEY)


async def test_abandoned_lock(shared_redis: RedisServer, namespace: str) -> None:
    """A lock whose holder has died is acquired by the next one after its lease."""
    cache = RedisTokenCache.from_url(shared_redis.patient_url, namespace=namespace, lease_seconds=1)
    await shared_redis.command("SET", name(namespace, "lock"), "dead holder", "PX", 1000)
    async with asyncio.timeout(30):
        await enter(cache)


async def test_waiters_do_not_queue(cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
    """As soon as the holder has stored a token, all waiters continue and read it, even while the lock is held."""
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


async def test_waiter_may_store(cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
    """A waiter that cannot use the holder's token may store another."""

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


async def test_client_without_pubsub(shared_redis: RedisServer, namespace: str) -> None:
    """With a client that has no pub/sub, such as a cluster's before redis-py 8, waiters poll the lock."""
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
