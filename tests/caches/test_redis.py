"""`simplestore_async.caches.redis`; the contract that all caches keep is in `test_every_cache.py`."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import logging
import os
import pickle
import ssl
import sys
import threading
import traceback
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

import pytest
import redis as blocking
import trustme
from aiohttp.test_utils import unused_port
from cryptography.fernet import Fernet
from redis.asyncio import Redis, sentinel
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from simplestore_async.caches._redis_client import answer
from simplestore_async.caches._redis_failures import _PROBLEMS, explained
from simplestore_async.caches.encryption import FernetCodec
from simplestore_async.caches.redis import RedisTokenCache
from simplestore_async.errors import ConfigurationError, TokenCacheError
from simplestore_async.events import CacheFailed, Event
from tests.support.redis_server import Proxy, RedisServer
from tests.support.tokens import ISSUED_AT, make_token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path
    from types import TracebackType

    from simplestore_async import AccessToken
    from tests.support.servers import TokenServer

KEY = "key"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()
TOKEN = make_token()
PASSWORD = "canary-p:ss/w@rd"
QUOTED = "canary-p%3Ass%2Fw%40rd"


@pytest.fixture
def cache(shared_redis: RedisServer, namespace: str) -> RedisTokenCache:
    return RedisTokenCache.from_url(shared_redis.patient_url, namespace=namespace)


@pytest.fixture
async def network(redis_server: RedisServer) -> AsyncIterator[Proxy]:
    async with Proxy(redis_server.path) as proxy:
        yield proxy


def name(namespace: str, what: str) -> str:
    return f"{namespace}:{{{DIGEST}}}:{what}"


async def keys_in(server: RedisServer, namespace: str) -> list[str]:
    return sorted(key.decode() for key in await server.tell("KEYS", f"{namespace}:*"))


async def renew(token_server: TokenServer, cache: RedisTokenCache) -> tuple[AccessToken, list[str]]:
    """Return what a new provider over *cache* gives its caller, and what it tells of the cache."""
    events: list[Event] = []
    async with asyncio.timeout(60), token_server.provider(cache=cache, on_event=events.append) as provider:
        token = await provider.get_token()
    return token, [f"{each.operation}: {each.problem}" for each in events if isinstance(each, CacheFailed)]


async def problem_of(call: Awaitable[object]) -> str:
    """Return the cache's own words for why *call* fails, without what says where."""
    with pytest.raises(TokenCacheError) as caught:
        await call
    assert caught.value.__context__ is None
    return str(caught.value).partition(": ")[2]


async def enter(cache: RedisTokenCache) -> None:
    async with cache.renewal_lock(KEY):
        pass


# ---- what is stored


# case 53
async def test_expiry_follows_the_token(cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
    """A token is kept in Redis until the millisecond in which it expires."""
    await cache.set(KEY, TOKEN)
    assert int(TOKEN.expires_at * 1000) == await shared_redis.tell("PEXPIRETIME", name(namespace, "token-v1"))


@pytest.mark.parametrize(
    ("expires_at", "is_kept"), [(1e308, True), (ISSUED_AT + 1e-6, True), (1e-9, False), (-1e9, False)]
)
async def test_far_expiry(cache: RedisTokenCache, expires_at: float, is_kept: bool) -> None:
    """What expires at no instant that Redis knows is kept as long as it can, or not at all."""
    token = make_token(issued_at=min(ISSUED_AT, expires_at - 1), expires_at=expires_at)
    await cache.set(KEY, token)
    assert (token if is_kept else None) == await cache.get(KEY)


async def test_what_is_in_redis(cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
    """Keys hold the digest only; a lock is there while it is held, for as long as its lease."""
    async with cache.renewal_lock(KEY):
        await cache.set(KEY, TOKEN)
        assert [name(namespace, "lock"), name(namespace, "token-v1")] == await keys_in(shared_redis, namespace)
        left = await shared_redis.tell("PTTL", name(namespace, "lock"))
        assert 30_000 < left <= 45_000
    assert [name(namespace, "token-v1")] == await keys_in(shared_redis, namespace)


async def test_token_under_another_key(cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
    """A token that somebody copied onto another key is a miss."""
    await cache.set("other", TOKEN)
    [other] = await keys_in(shared_redis, namespace)
    await shared_redis.tell("COPY", other, name(namespace, "token-v1"))
    assert await cache.get(KEY) is None
    assert TOKEN == await cache.get("other")


@pytest.mark.parametrize("junk", [b"", b"\xff\0", b"{}", DIGEST.encode() + b"\n{}", b"x" * 100_000])
async def test_junk(cache: RedisTokenCache, shared_redis: RedisServer, namespace: str, junk: bytes) -> None:
    """What is no token is a miss, and is replaced."""
    await shared_redis.tell("SET", name(namespace, "token-v1"), junk)
    assert await cache.get(KEY) is None
    await cache.set(KEY, TOKEN)
    assert TOKEN == await cache.get(KEY)


async def test_another_type(cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
    """Where somebody put a list, reading fails, and a token takes its place."""
    await shared_redis.tell("LPUSH", name(namespace, "token-v1"), "x")
    assert "it answered WRONGTYPE" == await problem_of(cache.get(KEY))
    await cache.set(KEY, TOKEN)
    assert TOKEN == await cache.get(KEY)


async def test_too_long(cache: RedisTokenCache) -> None:
    """A token that would not be read back is not stored, and the old one stays."""
    await cache.set(KEY, TOKEN)
    with pytest.raises(TokenCacheError, match=r"The token is too long to be kept: in Redis it takes 100\d{3} bytes"):
        await cache.set(KEY, make_token("x" * 100_000))
    assert TOKEN == await cache.get(KEY)


async def test_namespaces(cache: RedisTokenCache, shared_redis: RedisServer) -> None:
    """Programs with different namespaces share nothing."""
    await cache.set(KEY, TOKEN)
    assert await RedisTokenCache.from_url(shared_redis.patient_url, namespace="another").get(KEY) is None


# case 54
async def test_encrypted(cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
    """With a codec no token is in Redis; what it did not encrypt, or encrypted for another key, is a miss."""
    keys = [Fernet.generate_key() for _ in range(2)]

    def open_with(*keys: bytes) -> RedisTokenCache:
        return RedisTokenCache.from_url(shared_redis.patient_url, namespace=namespace, codec=FernetCodec(keys))

    await cache.set(KEY, TOKEN)
    encrypted = open_with(keys[0])
    assert await encrypted.get(KEY) is None
    await encrypted.set(KEY, TOKEN)
    assert await cache.get(KEY) is None
    stored = await shared_redis.tell("GET", name(namespace, "token-v1"))
    assert not [each for each in (TOKEN.value.encode(), b"version", DIGEST.encode()) if each in stored]

    assert TOKEN == await open_with(keys[1], keys[0]).get(KEY)
    assert await open_with(keys[1]).get(KEY) is None
    await shared_redis.tell("SETRANGE", name(namespace, "token-v1"), 100, b"#")
    assert await encrypted.get(KEY) is None

    await encrypted.set("other", TOKEN)
    [other] = set(await keys_in(shared_redis, namespace)) - {name(namespace, "token-v1")}
    await shared_redis.tell("COPY", other, name(namespace, "token-v1"), "REPLACE")
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
    assert {"simplestore-cache_0"} == threads


def test_wrong_codec() -> None:
    """What is no codec is refused."""
    with pytest.raises(ConfigurationError, match="codec must be an object with encode and decode, which str is not"):
        RedisTokenCache.from_url("redis://host", codec="key")  # type: ignore[arg-type]  # what is tested


# ---- the lock


async def lose_lock(server: RedisServer, namespace: str) -> None:
    """End the lease of KEY's lock, as its time would."""
    assert 1 == await server.tell("DEL", name(namespace, "lock"))


class TestLeaseIsOver:
    """The lock's lease ends while its holder asks the endpoint."""

    async def test_another_has_stored(self, cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
        """What another process stored since stays, and the holder is told; it need not hold the lock any more."""
        await cache.set(KEY, make_token("rejected"))
        async with cache.renewal_lock(KEY):
            assert make_token("rejected") == await cache.get(KEY)
            await lose_lock(shared_redis, namespace)
            await RedisTokenCache.from_url(shared_redis.patient_url, namespace=namespace).set(KEY, make_token("newer"))
            with pytest.raises(TokenCacheError, match="Set lease_seconds above the policy's budget_seconds"):
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
    await shared_redis.tell("SET", name(namespace, "lock"), "one that is gone", "PX", 1000)
    async with asyncio.timeout(30):
        await enter(cache)


async def test_waiters_need_not_queue(cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
    """As soon as the holder has stored a token, all who wait are let go, and find it, while it holds the lock."""
    async with asyncio.timeout(30), asyncio.TaskGroup() as waiters:

        async def wait() -> None:
            async with cache.renewal_lock(KEY):
                found.append(await cache.get(KEY))

        found: list[AccessToken | None] = []
        async with cache.renewal_lock(KEY):
            tasks = [waiters.create_task(wait()) for _ in range(20)]
            while [20] != (await shared_redis.tell("PUBSUB", "NUMSUB", name(namespace, "news")))[1:]:
                await asyncio.sleep(0)
            await cache.set(KEY, TOKEN)
            await asyncio.wait(tasks)
            assert [name(namespace, "lock"), name(namespace, "token-v1")] == await keys_in(shared_redis, namespace)

    assert [TOKEN] * 20 == found


async def test_who_was_let_go_may_store(cache: RedisTokenCache, shared_redis: RedisServer, namespace: str) -> None:
    """One who waited, and has no use for the token that the holder stored, stores another in its place."""

    async def wait() -> None:
        async with cache.renewal_lock(KEY):
            await cache.set(KEY, make_token("better"))

    async with asyncio.timeout(30), cache.renewal_lock(KEY):
        waiter = asyncio.create_task(wait())
        while [1] != (await shared_redis.tell("PUBSUB", "NUMSUB", name(namespace, "news")))[1:]:
            await asyncio.sleep(0)
        await cache.set(KEY, TOKEN)
        await waiter
    assert make_token("better") == await cache.get(KEY)


async def test_client_without_messages(shared_redis: RedisServer, namespace: str) -> None:
    """With a client that has no messages, as a cluster's before redis-py 8, whoever waits looks each second."""
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


# case 47
async def test_rejected_token(token_server: TokenServer, cache: RedisTokenCache) -> None:
    """A rejected token that is still in Redis is not taken again; one that another provider put there since is."""
    async with token_server.provider(cache=cache) as first, token_server.provider(cache=cache) as second:
        rejected = await first.get_token()
        assert rejected == await second.get_token()
        assert first.invalidate(rejected)
        replacement = await first.get_token()
        assert second.invalidate(rejected)
        assert replacement == await second.get_token()

    assert ("canary-token-1", "canary-token-2") == (rejected.value, replacement.value)
    assert 2 == len(token_server.requests)


# ---- what befalls the server


UNREACHABLE = "it cannot be reached: is it up, and may this machine reach it?"
SILENT = "it did not answer in time: is it overloaded, stopped, or behind a firewall?"


@pytest.fixture
async def broken_connections(watch_over_asyncio: None) -> None:
    """Leave alone what asyncio says of a broken connection: redis-py does not ask what became of it."""
    loop = asyncio.get_running_loop()
    watch = loop.get_exception_handler()
    assert watch is not None

    def complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), ConnectionError):
            watch(loop, context)

    loop.set_exception_handler(complain)


@pytest.fixture(params=["made", "given"])
async def failing_cache(
    request: pytest.FixtureRequest, redis_server: RedisServer, broken_connections: None
) -> AsyncIterator[RedisTokenCache]:
    """A cache over a server of the test's own, which makes its clients, or was given one."""
    if request.param == "made":
        yield RedisTokenCache.from_url(redis_server.url)
        return
    async with Redis(unix_socket_path=str(redis_server.path), socket_timeout=1, retry=Retry(NoBackoff(), 0)) as client:
        yield RedisTokenCache(client)


# cases 46, 53
async def test_server_is_gone_and_comes_back(
    token_server: TokenServer, redis_server: RedisServer, failing_cache: RedisTokenCache
) -> None:
    """While the server is down tokens come from the endpoint, with one problem told; once it is up they are shared."""
    await renew(token_server, failing_cache)
    redis_server.kill()
    token, failures = await renew(token_server, failing_cache)
    assert "canary-token-2" == token.value
    where = f"Cannot keep tokens in Redis at {redis_server.path}: {UNREACHABLE}"
    assert {"get", "set"} == {failure.partition(":")[0] for failure in failures}
    assert where in failures[-1]

    redis_server.start()
    while (await renew(token_server, failing_cache))[1]:
        pass  # a connection that was open until then may fail once
    before = len(token_server.requests)
    assert [] == (await renew(token_server, failing_cache))[1]
    assert before == len(token_server.requests)


# cases 46, 53
async def test_server_hangs(
    token_server: TokenServer, redis_server: RedisServer, failing_cache: RedisTokenCache
) -> None:
    """While the server is stopped tokens come from the endpoint, within the policy's patience; then it serves again."""
    await renew(token_server, failing_cache)
    redis_server.stop()
    try:
        token, failures = await renew(token_server, failing_cache)
    finally:
        redis_server.go_on()
    assert "canary-token-2" == token.value
    place = f"Cannot keep tokens in Redis at {redis_server.path}"
    assert [f"get: {place}: {SILENT}", f"set: {place}: {SILENT}"] == failures
    assert ("canary-token-1", []) == await shared(token_server, failing_cache)


async def shared(token_server: TokenServer, cache: RedisTokenCache) -> tuple[str, list[str]]:
    token, failures = await renew(token_server, cache)
    return token.value, failures


# case 53
async def test_server_pauses(redis_server: RedisServer) -> None:
    """A call that takes shorter than the client waits is none the worse for it."""
    cache = RedisTokenCache.from_url(redis_server.patient_url)
    await redis_server.tell("CLIENT", "PAUSE", 200, "ALL")
    await cache.set(KEY, TOKEN)
    assert TOKEN == await cache.get(KEY)


# cases 46, 53
async def test_replica(token_server: TokenServer, redis_server: RedisServer, failing_cache: RedisTokenCache) -> None:
    """A server that became a replica is read, and not written to; it is used again once it is the primary."""
    await renew(token_server, failing_cache)
    await redis_server.tell("REPLICAOF", "127.0.0.1", "1")
    assert ("canary-token-1", []) == await shared(token_server, failing_cache)
    words = "it is a replica, which cannot be written to: name the primary, or ask Sentinel for it"
    assert words == await problem_of(failing_cache.set(KEY, TOKEN))
    assert words == await problem_of(enter(failing_cache))

    await redis_server.tell("REPLICAOF", "NO", "ONE")
    await failing_cache.set(KEY, TOKEN)
    assert TOKEN == await failing_cache.get(KEY)


# case 53
async def test_memory_is_full(token_server: TokenServer, redis_server: RedisServer) -> None:
    """A server without memory to give is read, and not written to; it is used again once it has some."""
    cache = RedisTokenCache.from_url(redis_server.url)
    await cache.set(KEY, TOKEN)
    await redis_server.tell("CONFIG", "SET", "maxmemory", "1")
    words = "its memory is full (maxmemory): give it more, or a policy that evicts what has an expiry"
    assert words == await problem_of(cache.set(KEY, make_token("newer")))
    assert words == await problem_of(enter(cache))
    assert TOKEN == await cache.get(KEY)
    token, failures = await renew(token_server, cache)
    assert "canary-token-1" == token.value
    assert ["lock", "set"] == [failure.partition(":")[0] for failure in failures]

    await redis_server.tell("CONFIG", "SET", "maxmemory", "0")
    await cache.set(KEY, make_token("newer"))
    assert make_token("newer") == await cache.get(KEY)


# case 53
async def test_wrong_password(token_server: TokenServer, redis_server: RedisServer) -> None:
    """With a password that the server refuses tokens come from the endpoint; with the right one they are shared."""
    place = f"Cannot keep tokens in Redis at {redis_server.path}"
    words = "it refused the user name or the password: set those that it knows"
    await redis_server.tell("ACL", "SETUSER", "default", "resetpass", f">{PASSWORD}")
    for url in (
        redis_server.url,
        f"unix://:canary-wrong@{redis_server.path}",
        f"unix://nobody:{QUOTED}@{redis_server.path}",
    ):
        _, failures = await renew(token_server, RedisTokenCache.from_url(url))
        assert [f"get: {place}: {words}", f"set: {place}: {words}"] == failures
    cache = RedisTokenCache.from_url(f"unix://:{QUOTED}@{redis_server.path}")
    for _ in range(2):
        assert ("canary-token-4", []) == await shared(token_server, cache)


LEAST_RIGHTS = "resetkeys ~simplestore-async:* resetchannels &simplestore-async:* -@all "
LEAST_RIGHTS += "+getrange +get +set +del +eval +publish +subscribe"


async def test_least_rights(token_server: TokenServer, redis_server: RedisServer) -> None:
    """The commands, keys and channels that the page names are enough, also for those who wait; others are refused."""
    await redis_server.tell("ACL", "SETUSER", "app", "on", f">{PASSWORD}", *LEAST_RIGHTS.split())
    url = f"unix://app:{QUOTED}@{redis_server.path}"
    cache = RedisTokenCache.from_url(url)
    async with asyncio.timeout(30):
        async with cache.renewal_lock(KEY):
            waiter = asyncio.create_task(enter(cache))
            while not await redis_server.tell("PUBSUB", "CHANNELS"):
                await asyncio.sleep(0)
        await waiter
    for _ in range(2):
        assert ("canary-token-1", []) == await shared(token_server, cache)

    words = "its user may not do this: give it the commands, keys and channels of the page on many hosts"
    assert words == await problem_of(RedisTokenCache.from_url(url, namespace="other").get(KEY))


# case 53
@pytest.mark.usefixtures("broken_connections")
async def test_network_is_cut(token_server: TokenServer, network: Proxy) -> None:
    """A network that is cut in mid-renewal costs a token request; once it is mended tokens are shared."""
    cache = RedisTokenCache.from_url(network.url)
    token_server.gate.clear()
    renewal = asyncio.create_task(renew(token_server, cache))
    await token_server.arrived.wait()
    network.cut()
    token_server.gate.set()
    token, failures = await renewal
    assert "canary-token-1" == token.value
    # It may connect anew before it notices.
    assert {failure.partition(":")[0] for failure in failures} <= {"set"}

    while (await renew(token_server, cache))[1]:
        pass
    before = len(token_server.requests)
    assert [] == (await renew(token_server, cache))[1]
    assert before == len(token_server.requests)


# case 53
async def test_server_cannot_be_reached() -> None:
    """The system's reason is in the message, and the address, if it is known."""
    port = unused_port()
    with pytest.raises(TokenCacheError) as caught:
        await RedisTokenCache.from_url(f"redis://:canary@127.0.0.1:{port}").get(KEY)
    place = f"Redis at 127.0.0.1:{port}"
    assert f"Cannot keep tokens in {place}: {UNREACHABLE} (Connection refused)" == str(caught.value)


# case 53
async def test_network_is_slow(network: Proxy) -> None:
    """An answer that takes its time is waited for, and is the call's own."""
    cache = RedisTokenCache.from_url(network.url)
    await cache.set(KEY, TOKEN)
    network.gate.clear()
    network.arrived.clear()
    call = asyncio.create_task(cache.get(KEY))
    await network.arrived.wait()
    network.gate.set()
    assert TOKEN == await call


@pytest.fixture
async def tls_network(redis_server: RedisServer) -> AsyncIterator[tuple[Proxy, trustme.CA]]:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with Proxy(redis_server.path, ssl_context=context) as proxy:
        yield proxy, authority


async def test_tls(tls_network: tuple[Proxy, trustme.CA], tmp_path: Path) -> None:
    """Over TLS certificates are checked: a private CA is named in the URL, and an unknown one is told about."""
    network, authority = tls_network
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    cache = RedisTokenCache.from_url(f"{network.url}&ssl_ca_certs={tmp_path}/ca.pem")
    await cache.set(KEY, TOKEN)
    assert TOKEN == await cache.get(KEY)

    words = f"{UNREACHABLE} (unable to get local issuer certificate)"
    assert words == await problem_of(RedisTokenCache.from_url(network.url).get(KEY))


# ---- clients


@pytest.mark.parametrize(("name", "problem"), _PROBLEMS.items(), ids=_PROBLEMS.keys())
async def test_words_for_each_error(shared_redis: RedisServer, name: str, problem: str) -> None:
    """Whatever error of redis-py's we have words for, redis-py has, and it is told by them; not by its own text."""
    kind = getattr(blocking.exceptions, name, None) or getattr(sentinel, name)

    async def fail() -> None:
        raise kind("canary")

    async with Redis(unix_socket_path=str(shared_redis.path)) as client:
        assert problem == await problem_of(explained(fail(), client))


async def test_nothing_stays_open(network: Proxy) -> None:
    """A client that is made for a call is closed after it, with all its connections; under a lock there is only one."""
    cache = RedisTokenCache.from_url(network.url)
    await cache.get(KEY)
    assert 1 == network.count
    async with cache.renewal_lock(KEY):
        await cache.get(KEY)
        await cache.set(KEY, TOKEN)
        # Another task is not the holder.
        await asyncio.create_task(cache.get(KEY))
    assert 3 == network.count
    while network.open_count:
        await asyncio.sleep(0)


async def test_client_that_was_given(network: Proxy) -> None:
    """A client that was given serves again and again by the same connection, and stays open."""
    async with Redis.from_url(network.url) as client:
        cache = RedisTokenCache(client)
        for _ in range(3):
            async with cache.renewal_lock(KEY):
                await cache.set(KEY, TOKEN)
                assert TOKEN == await cache.get(KEY)
        assert (1, 1) == (network.count, network.open_count)


@pytest.mark.parametrize("is_text", [True, False])
async def test_cancelled_calls_leave_no_replies(network: Proxy, is_text: bool) -> None:
    """Of many tasks at once on one client, whose calls are cancelled at any moment, none ever gets another's token."""
    async with Redis.from_url(network.url, decode_responses=is_text) as client:
        cache = RedisTokenCache(client)
        expected = [make_token(f"token-{number}") for number in range(8)]
        for number, token in enumerate(expected):
            await cache.set(f"key {number}", token)

        async def get(number: int) -> None:
            for steps in range(10):
                call = asyncio.create_task(cache.get(f"key {number}"))
                for _ in range(steps):
                    await asyncio.sleep(0)
                call.cancel()
                await asyncio.wait([call])
                assert call.cancelled() or expected[number] == call.result()
                assert expected[number] == await cache.get(f"key {number}")

        await asyncio.gather(*map(get, range(8)))


async def test_cancelled_at_any_step(shared_redis: RedisServer, namespace: str) -> None:
    """Whoever is cancelled at any step, closing and release included, leaves neither a lock nor an open connection."""
    cache = RedisTokenCache.from_url(shared_redis.patient_url, namespace=namespace)

    async def use() -> None:
        async with cache.renewal_lock(KEY):
            await cache.get(KEY)
            await cache.set(KEY, TOKEN)

    steps, is_over = 0, False
    while not is_over:
        task = asyncio.create_task(use())
        for _ in range(steps):
            await asyncio.sleep(0)
        is_over = task.done()
        task.cancel()
        await asyncio.wait([task])
        steps += 1
        assert task.cancelled() or task.exception() is None
        assert name(namespace, "lock") not in await keys_in(shared_redis, namespace), steps


async def test_cancellation_that_redis_py_swallows() -> None:
    """A call that goes on when it is cancelled, as redis-py's may before Python 3.12, ends as cancelled."""

    async def call() -> int:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return 1

    task = asyncio.create_task(answer(call()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_cancelled_while_it_lets_go(network: Proxy, redis_server: RedisServer, namespace: str) -> None:
    """A holder who is cancelled before the server says that the lock is gone ends as cancelled, without it."""
    cache, is_held = RedisTokenCache.from_url(network.url, namespace=namespace), asyncio.Event()

    async def hold() -> None:
        async with cache.renewal_lock(KEY):
            network.gate.clear()
            network.arrived.clear()
            is_held.set()

    holder = asyncio.create_task(hold())
    await is_held.wait()
    await network.arrived.wait()
    holder.cancel()
    network.gate.set()
    await asyncio.wait([holder])
    assert holder.cancelled()
    assert [] == await keys_in(redis_server, namespace)


def test_client_of_another_loop(shared_redis: RedisServer, namespace: str) -> None:
    """A client that was given serves the event loop that used it first; on another one the message says what to do."""
    client = Redis(unix_socket_path=str(shared_redis.path))
    cache = RedisTokenCache(client, namespace=namespace)

    async def use() -> None:
        async with client:
            await cache.get(KEY)

    asyncio.run(use())
    with pytest.raises(TokenCacheError) as caught:
        asyncio.run(cache.get(KEY))
    assert "The Redis client belongs to another event loop: give RedisTokenCache a callable that makes a client" == str(
        caught.value
    )


async def coroutine() -> None: ...


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (blocking.Redis, "returned redis.client.Redis, no client of redis.asyncio"),
        (coroutine, "returned builtins.coroutine, no client of redis.asyncio"),
        (lambda: Redis.from_url("canary"), "raised ValueError"),
    ],
    ids=["blocking", "coroutine", "raises"],
)
async def test_callable_without_client(make: Any, problem: str) -> None:
    """A callable that makes no client is told about, in words without its values."""
    with pytest.raises(TokenCacheError) as caught:
        await RedisTokenCache(make).get(KEY)
    assert f"The callable that makes the Redis client {problem}" == str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("client", [None, "redis://:canary@host", blocking.Redis()], ids=["none", "url", "blocking"])
def test_wrong_client(client: Any) -> None:
    """What is no client is named by its type."""
    with pytest.raises(ConfigurationError) as caught:
        RedisTokenCache(client)
    kind = f"{type(client).__module__}.{type(client).__qualname__}"
    assert f"client must be a client of redis.asyncio, or a callable that makes one, which {kind} is not" == str(
        caught.value
    )


@pytest.mark.parametrize("namespace", ["", "a b", "{a}", "a*", "ä", "a\n", None])
def test_wrong_namespace(namespace: Any) -> None:
    """A namespace that would change which keys belong together, or match others', is refused."""
    with pytest.raises(ConfigurationError, match=r"namespace must be one or more ASCII letters, digits and any of"):
        RedisTokenCache(Redis, namespace=namespace)


@pytest.mark.parametrize("lease_seconds", [0, 0.5, -1, float("nan"), float("inf"), True, "45", None])
def test_wrong_lease(lease_seconds: Any) -> None:
    """A lease is a number of seconds, one or more."""
    with pytest.raises(ConfigurationError, match="lease_seconds must be a number of seconds, 1 or more"):
        RedisTokenCache(Redis, lease_seconds=lease_seconds)


URL_WORDS = "must be the URL of a Redis server: redis://host:6379/0, rediss://… for TLS, or unix:///path"


@pytest.mark.parametrize(
    "url",
    ["https://host", "canary", "redis://:canary@host:canary", "redis://host?socket_timeout=canary", 7, None, b"x"],
)
def test_wrong_url(url: Any) -> None:
    """What is no URL of a server is refused, and not quoted."""
    with pytest.raises(ConfigurationError) as caught:
        RedisTokenCache.from_url(url)
    assert f"url {URL_WORDS}" == str(caught.value)
    assert caught.value.__context__ is None


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is named if it is missing, empty, or no URL."""
    for value, words in (
        ("", "not set: set it to the URL of a Redis server, redis://host:6379/0"),
        ("canary", URL_WORDS),
    ):
        monkeypatch.setenv("SIMPLESTORE_REDIS_URL", value)
        with pytest.raises(ConfigurationError) as caught:
            RedisTokenCache.from_env()
        assert f"SIMPLESTORE_REDIS_URL {words}" == str(caught.value)


# ---- secrecy


async def test_pickles_as_a_recipe(shared_redis: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that came from the environment pickles without the URL, and reads that of the process that it comes to."""
    monkeypatch.setenv("SIMPLESTORE_REDIS_URL", "redis://:canary@nowhere")
    pickled = pickle.dumps(RedisTokenCache.from_env(namespace=namespace, lease_seconds=30))
    monkeypatch.setenv("SIMPLESTORE_REDIS_URL", shared_redis.url)
    cache = pickle.loads(pickled)
    await cache.set(KEY, TOKEN)

    assert b"canary" not in pickled
    assert TOKEN == await cache.get(KEY)
    assert f"RedisTokenCache(namespace='{namespace}', lease_seconds=30)" == repr(cache)


def test_pickles_with_its_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its codec travels as a recipe, too, and one that cannot keeps it here."""
    monkeypatch.setenv("SIMPLESTORE_REDIS_URL", "redis://host")
    key = Fernet.generate_key().decode()
    monkeypatch.setenv("SIMPLESTORE_CACHE_KEY", key)
    pickled = pickle.dumps(RedisTokenCache.from_env(codec=FernetCodec.from_env()))
    assert key.encode() not in pickled
    monkeypatch.delenv("SIMPLESTORE_CACHE_KEY")
    with pytest.raises(ConfigurationError, match="SIMPLESTORE_CACHE_KEY not set"):
        pickle.loads(pickled)
    with pytest.raises(TypeError, match="FernetCodec cannot be pickled"):
        pickle.dumps(RedisTokenCache.from_env(codec=FernetCodec(key)))


@pytest.mark.parametrize(
    "make", [lambda: RedisTokenCache(Redis), lambda: RedisTokenCache.from_url("redis://:canary@host")]
)
def test_others_are_not_pickled(make: Callable[[], RedisTokenCache]) -> None:
    """One whose client may hold a password refuses to be pickled."""
    with pytest.raises(TypeError) as caught:
        pickle.dumps(make())
    assert (
        "a RedisTokenCache cannot be pickled, because its password would travel along: "
        "use RedisTokenCache.from_env() in each process" == str(caught.value)
    )


def below(error: Exception) -> TracebackType | None:
    assert error.__traceback__ is not None
    return error.__traceback__.tb_next


# case 55
async def test_nothing_secret_shows(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the password nor a token is in what can be seen of a cache: its repr, its errors with locals, the log."""
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    await redis_server.tell("ACL", "SETUSER", "app", "on", f">{PASSWORD}", "+@all", "~*", "-set", "-getrange")
    errors: list[Exception] = []
    for url in (f"unix://app:{QUOTED}@{redis_server.path}", f"redis://app:{QUOTED}@127.0.0.1:1", f"x://{QUOTED}"):
        monkeypatch.setenv("SIMPLESTORE_REDIS_URL", url)
        makers: list[Callable[[], RedisTokenCache]] = [
            lambda: RedisTokenCache.from_url(os.environ["SIMPLESTORE_REDIS_URL"]),
            RedisTokenCache.from_env,
        ]
        for make in makers:
            try:
                cache = make()
            except ConfigurationError as error:
                errors.append(error)
                continue
            assert "canary" not in repr(cache) + repr(vars(cache))
            for call in (
                cache.get(KEY),
                cache.set(KEY, TOKEN),
                cache.set(KEY, make_token("canary" * 20_000)),
                enter(cache),
            ):
                with pytest.raises(TokenCacheError) as caught:
                    await call
                errors.append(caught.value)
    shown = "".join(
        line
        for error in errors
        # From below the test, which knows them all.
        for line in traceback.TracebackException(type(error), error, below(error), capture_locals=True).format()
    )

    assert 18 == len(errors)
    assert "canary" not in shown
    assert "canary" not in caplog.text


def test_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without redis-py the import says what to install."""
    ours = [
        each
        for each in sys.modules
        if each.startswith(("simplestore_async.caches.redis", "simplestore_async.caches._redis"))
    ]
    for module in ours:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "redis", None)

    with pytest.raises(ImportError) as caught:
        importlib.import_module("simplestore_async.caches.redis")

    assert 'simplestore_async.caches.redis needs redis: pip install "simplestore-async[redis]"' == str(caught.value)
