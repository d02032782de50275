"""`RedisTokenCache`: outages of server and network."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import unused_port
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from simplestore_async.caches.redis import RedisTokenCache
from simplestore_async.errors import TokenCacheError
from tests.support.cache_files import KEY, TOKEN, renew
from tests.support.redis_caches import PASSWORD, QUOTED, enter, problem_of
from tests.support.redis_server import Proxy, RedisServer
from tests.support.tls import authority, private_ca
from tests.support.tokens import make_token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from simplestore_async.events import CacheFailed
    from tests.support.servers import TokenServer


@pytest.fixture
async def broken_connections(watch_over_asyncio: None) -> None:
    """Ignore broken connections whose outcome redis-py does not retrieve."""
    loop = asyncio.get_running_loop()
    watch = loop.get_exception_handler()
    assert watch is not None

    def complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), ConnectionError):
            watch(loop, context)

    loop.set_exception_handler(complain)


@pytest.fixture(params=["own client", "client of the caller"])
async def failing_cache(
    request: pytest.FixtureRequest, redis_server: RedisServer, broken_connections: None
) -> AsyncIterator[RedisTokenCache]:
    """A cache for the test's own server, which creates its clients or uses the caller's."""
    if request.param == "own client":
        yield RedisTokenCache.from_url(redis_server.url)
        return
    async with Redis(unix_socket_path=str(redis_server.path), socket_timeout=1, retry=Retry(NoBackoff(), 0)) as client:
        yield RedisTokenCache(client)


async def test_server_is_down(
    token_server: TokenServer, redis_server: RedisServer, failing_cache: RedisTokenCache
) -> None:
    """While the server is down tokens come from the endpoint and failures are reported, and later tokens are shared."""
    await renew(token_server, failing_cache)
    redis_server.kill()
    token, failures = await renew(token_server, failing_cache)
    assert "canary-token-2" == token.value
    assert {"get", "set"} == {failure.operation for failure in failures}
    assert failures[-1].problem.startswith(f"cannot use Redis at {redis_server.path}: it cannot be reached")
    assert "is it up, and may this machine reach it?" == failures[-1].hint

    redis_server.start()
    while (await renew(token_server, failing_cache))[1]:
        pass  # a connection that was open until then may fail once
    before = len(token_server.requests)
    assert [] == (await renew(token_server, failing_cache))[1]
    assert before == len(token_server.requests)


async def test_server_hangs(
    token_server: TokenServer, redis_server: RedisServer, failing_cache: RedisTokenCache
) -> None:
    """While the server hangs tokens come from the endpoint and failures are reported, and later tokens are shared."""
    await renew(token_server, failing_cache)
    redis_server.stop()
    try:
        token, failures = await renew(token_server, failing_cache)
    finally:
        redis_server.go_on()
    assert "canary-token-2" == token.value
    problem = f"cannot use Redis at {redis_server.path}: it did not respond in time"
    assert [("get", problem), ("set", problem)] == [(failure.operation, failure.problem) for failure in failures]
    assert ("canary-token-1", []) == await shared(token_server, failing_cache)


async def shared(token_server: TokenServer, cache: RedisTokenCache) -> tuple[str, list[CacheFailed]]:
    token, failures = await renew(token_server, cache)
    return token.value, failures


async def test_replica(token_server: TokenServer, redis_server: RedisServer, failing_cache: RedisTokenCache) -> None:
    """A server that became a replica serves reads and fails writes until it is the primary again."""
    await renew(token_server, failing_cache)
    await redis_server.command("REPLICAOF", "127.0.0.1", "1")
    assert ("canary-token-1", []) == await shared(token_server, failing_cache)
    words = "it is a read-only replica"
    assert words == await problem_of(failing_cache.set(KEY, TOKEN))
    assert words == await problem_of(enter(failing_cache))

    await redis_server.command("REPLICAOF", "NO", "ONE")
    await failing_cache.set(KEY, TOKEN)
    assert TOKEN == await failing_cache.get(KEY)


async def test_memory_is_full(token_server: TokenServer, redis_server: RedisServer) -> None:
    """A server whose memory is full serves reads and fails writes until it has memory again."""
    cache = RedisTokenCache.from_url(redis_server.url)
    await cache.set(KEY, TOKEN)
    await redis_server.command("CONFIG", "SET", "maxmemory", "1")
    words = "its memory is full (maxmemory)"
    assert words == await problem_of(cache.set(KEY, make_token("newer")))
    assert words == await problem_of(enter(cache))
    assert TOKEN == await cache.get(KEY)
    token, failures = await renew(token_server, cache)
    assert "canary-token-1" == token.value
    assert ["lock", "set"] == [failure.operation for failure in failures]

    await redis_server.command("CONFIG", "SET", "maxmemory", "0")
    await cache.set(KEY, make_token("newer"))
    assert make_token("newer") == await cache.get(KEY)


async def test_wrong_password(token_server: TokenServer, redis_server: RedisServer) -> None:
    """With a wrong password tokens come from the endpoint and failures are reported."""
    problem = f"cannot use Redis at {redis_server.path}: it refused the user name or the password"
    await redis_server.command("ACL", "SETUSER", "default", "resetpass", f">{PASSWORD}")
    for url in (
        redis_server.url,
        f"unix://:canary-wrong@{redis_server.path}",
        f"unix://no-user:{QUOTED}@{redis_server.path}",
    ):
        _, failures = await renew(token_server, RedisTokenCache.from_url(url))
        assert [("get", problem), ("set", problem)] == [(failure.operation, failure.problem) for failure in failures]
    cache = RedisTokenCache.from_url(f"unix://:{QUOTED}@{redis_server.path}")
    for _ in range(2):
        assert ("canary-token-4", []) == await shared(token_server, cache)


LEAST_RIGHTS = "resetkeys ~simplestore-async:* resetchannels &simplestore-async:* -@all "
LEAST_RIGHTS += "+getrange +get +set +del +eval +publish +subscribe"


async def test_least_rights(token_server: TokenServer, redis_server: RedisServer) -> None:
    """The documented permissions are sufficient, even for waiters, and apply to the namespace only."""
    await redis_server.command("ACL", "SETUSER", "app", "on", f">{PASSWORD}", *LEAST_RIGHTS.split())
    url = f"unix://app:{QUOTED}@{redis_server.path}"
    cache = RedisTokenCache.from_url(url)
    async with asyncio.timeout(30):
        async with cache.renewal_lock(KEY):
            waiter = asyncio.create_task(enter(cache))
            while not await redis_server.command("PUBSUB", "CHANNELS"):
                await asyncio.sleep(0)
        await waiter
    for _ in range(2):
        assert ("canary-token-1", []) == await shared(token_server, cache)

    assert "its user lacks a permission" == await problem_of(RedisTokenCache.from_url(url, namespace="other").get(KEY))


@pytest.mark.usefixtures("broken_connections")
async def test_network_is_cut(token_server: TokenServer, network: Proxy) -> None:
    """If the network is cut during a renewal, its caller gets a token, and later tokens are shared."""
    cache = RedisTokenCache.from_url(network.url)
    token_server.gate.clear()
    renewal = asyncio.create_task(renew(token_server, cache))
    await token_server.arrived.wait()
    network.cut()
    token_server.gate.set()
    token, failures = await renewal
    assert "canary-token-1" == token.value
    # The client may reconnect before it notices.
    assert {failure.operation for failure in failures} <= {"set"}

    while (await renew(token_server, cache))[1]:
        pass
    before = len(token_server.requests)
    assert [] == (await renew(token_server, cache))[1]
    assert before == len(token_server.requests)


async def test_server_is_unreachable() -> None:
    """The error names the address and the reason of the operating system."""
    port = unused_port()
    with pytest.raises(TokenCacheError) as caught:
        await RedisTokenCache.from_url(f"redis://:canary@127.0.0.1:{port}").get(KEY)
    problem = caught.value.problem
    assert problem.startswith(f"cannot use Redis at 127.0.0.1:{port}: it cannot be reached (")
    assert "refused" in problem  # the system's reason


async def test_network_is_slow(network: Proxy) -> None:
    """A slow response is awaited."""
    cache = RedisTokenCache.from_url(network.url)
    await cache.set(KEY, TOKEN)
    network.gate.clear()
    network.arrived.clear()
    call = asyncio.create_task(cache.get(KEY))
    await network.arrived.wait()
    network.gate.set()
    assert TOKEN == await call


async def test_tls(redis_server: RedisServer, tmp_path: Path) -> None:
    """TLS certificates are verified, and a private CA can be named in the URL."""
    authority().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with Proxy(redis_server.path, ssl_context=private_ca().server) as network:
        cache = RedisTokenCache.from_url(f"{network.url}&ssl_ca_certs={tmp_path}/ca.pem")
        await cache.set(KEY, TOKEN)
        assert TOKEN == await cache.get(KEY)

        words = "it cannot be reached (unable to get local issuer certificate)"
        assert words == await problem_of(RedisTokenCache.from_url(network.url).get(KEY))
