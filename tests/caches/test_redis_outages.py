"""`RedisTokenCache`: outages of server and network."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import unused_port
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from simplestore_async.caches import _redis_entry
from simplestore_async.caches.redis import RedisTokenCache
from simplestore_async.errors import TokenCacheError
from tests.support.cache_files import KEY, PASSWORD, QUOTED, TOKEN, enter, problem_of, renew
from tests.support.redis_server import Proxy, RedisServer
from tests.support.tls import authority, private_ca
from tests.support.tokens import make_token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from simplestore_async.events import CacheFailed
    from simplestore_async.sandbox import Sandbox


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


async def use(sandbox: Sandbox, cache: RedisTokenCache) -> tuple[int, list[CacheFailed]]:
    """Return the number of token requests of a new provider with *cache*, and the failures of the cache."""
    before = sandbox.counters.token_requests
    _, failures = await renew(sandbox, cache)
    return sandbox.counters.token_requests - before, failures


async def use_until_it_works(sandbox: Sandbox, cache: RedisTokenCache) -> None:
    while (await use(sandbox, cache))[1]:
        pass  # a connection that was open until then may fail once


@pytest.mark.parametrize(
    ("interrupt", "recover", "problem", "hint"),
    [
        (RedisServer.kill, RedisServer.start, "cannot be reached", "is it up, and may this machine reach it?"),
        (
            RedisServer.stop,
            RedisServer.go_on,
            "did not respond in time",
            "is it overloaded, stopped, or behind a firewall?",
        ),
    ],
    ids=["down", "hangs"],
)
async def test_outage(
    *,
    sandbox: Sandbox,
    redis_server: RedisServer,
    failing_cache: RedisTokenCache,
    interrupt: Callable[[RedisServer], None],
    recover: Callable[[RedisServer], None],
    problem: str,
    hint: str,
) -> None:
    """During an outage tokens come from the endpoint and failures are reported, and later tokens are shared."""
    await use(sandbox, failing_cache)
    interrupt(redis_server)
    requests, failures = await use(sandbox, failing_cache)
    recover(redis_server)
    assert (1, {"get", "set"}) == (requests, {failure.operation for failure in failures})
    assert failures[-1].problem.startswith(f"cannot use Redis at {redis_server.path}: it {problem}")
    assert hint == failures[-1].hint

    await use_until_it_works(sandbox, failing_cache)
    assert (0, []) == await use(sandbox, failing_cache)


@pytest.mark.parametrize(
    ("interrupt", "recover", "problem"),
    [
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "it is a read-only replica"),
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "its memory is full (maxmemory)"),
    ],
    ids=["replica", "full"],
)
async def test_no_writes(
    *,
    sandbox: Sandbox,
    redis_server: RedisServer,
    failing_cache: RedisTokenCache,
    interrupt: str,
    recover: str,
    problem: str,
) -> None:
    """A server that became a replica, or has no memory left, serves reads and fails writes until it recovers."""
    await use(sandbox, failing_cache)
    await failing_cache.set(KEY, TOKEN)
    await redis_server.command(*interrupt.split())
    assert (0, []) == await use(sandbox, failing_cache)
    assert problem == await problem_of(failing_cache.set(KEY, make_token("newer")))
    assert problem == await problem_of(enter(failing_cache))
    assert TOKEN == await failing_cache.get(KEY)

    await redis_server.command(*recover.split())
    await failing_cache.set(KEY, make_token("newer"))
    assert make_token("newer") == await failing_cache.get(KEY)


async def test_wrong_password(sandbox: Sandbox, redis_server: RedisServer) -> None:
    """With a wrong password tokens come from the endpoint and failures are reported."""
    problem = f"cannot use Redis at {redis_server.path}: it refused the user name or the password"
    await redis_server.command("ACL", "SETUSER", "default", "resetpass", f">{PASSWORD}")
    for url in (
        redis_server.url,
        f"unix://:canary-wrong@{redis_server.path}",
        f"unix://no-user:{QUOTED}@{redis_server.path}",
    ):
        requests, failures = await use(sandbox, RedisTokenCache.from_url(url))
        assert [("get", problem), ("set", problem)] == [(failure.operation, failure.problem) for failure in failures]
        assert 1 == requests
    cache = RedisTokenCache.from_url(f"unix://:{QUOTED}@{redis_server.path}")
    assert [(1, []), (0, [])] == [await use(sandbox, cache) for _ in range(2)]


LEAST_RIGHTS = "resetkeys ~simplestore-async:* resetchannels &simplestore-async:* -@all "
LEAST_RIGHTS += "+getrange +get +set +del +eval +publish +subscribe"


async def test_least_rights(sandbox: Sandbox, redis_server: RedisServer) -> None:
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
    assert [(1, []), (0, [])] == [await use(sandbox, cache) for _ in range(2)]
    assert "its user lacks a permission" == await problem_of(RedisTokenCache.from_url(url, namespace="other").get(KEY))


@pytest.mark.usefixtures("broken_connections")
async def test_network_is_cut(sandbox: Sandbox, network: Proxy) -> None:
    """If the network is cut during a renewal, its caller gets a token, and later tokens are shared."""
    cache = RedisTokenCache.from_url(network.url)
    with sandbox.token_endpoint.hold() as held:
        renewal = asyncio.create_task(use(sandbox, cache))
        await held.wait_for_requests()
        network.cut()
    requests, failures = await renewal
    assert 1 == requests
    # The client may reconnect before it notices.
    assert {failure.operation for failure in failures} <= {"set"}

    await use_until_it_works(sandbox, cache)
    assert (0, []) == await use(sandbox, cache)


async def test_release_takes_a_second_at_most(network: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving a lock neither fails nor waits for a server that hangs."""
    monkeypatch.setattr(_redis_entry, "_RELEASE_SECONDS", 0.01)
    async with asyncio.timeout(30), RedisTokenCache.from_url(network.url).renewal_lock(KEY):
        network.gate.clear()


async def test_server_is_unreachable() -> None:
    """The error names the address and the reason of the operating system."""
    port = unused_port()
    with pytest.raises(TokenCacheError) as caught:
        await RedisTokenCache.from_url(f"redis://:canary@127.0.0.1:{port}").get(KEY)
    problem = caught.value.problem
    assert problem.startswith(f"cannot use Redis at 127.0.0.1:{port}: it cannot be reached (")
    assert "refused" in problem  # the system's reason


async def test_tls(redis_server: RedisServer, tmp_path: Path) -> None:
    """TLS certificates are verified, and a private CA can be named in the URL."""
    authority().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with Proxy(redis_server.path, ssl_context=private_ca().server) as network:
        cache = RedisTokenCache.from_url(f"{network.url}&ssl_ca_certs={tmp_path}/ca.pem")
        await cache.set(KEY, TOKEN)
        assert TOKEN == await cache.get(KEY)

        words = "it cannot be reached (unable to get local issuer certificate)"
        assert words == await problem_of(RedisTokenCache.from_url(network.url).get(KEY))
