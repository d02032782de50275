"""`RedisTokenCache` with Sentinel and a cluster of real servers."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import unused_port
from redis.asyncio import RedisCluster, Sentinel

from simplestore_async.caches.redis import RedisTokenCache
from tests.support.cache_files import DIGEST, KEY, TOKEN
from tests.support.one_loop import OnOneLoop
from tests.support.platforms import needs_cluster_pubsub
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from simplestore_async import AccessToken, SharedTokenCache

PATIENCE_SECONDS = 60


async def test_sentinel() -> None:
    """Sentinel locates the primary for each call, and no connection stays open."""
    port, sentinel_port = unused_port(), unused_port()
    config = f"port {sentinel_port}\nsentinel monitor main 127.0.0.1 {port} 1\n"
    connect: Any = Sentinel  # untyped
    cache = RedisTokenCache(lambda: connect([("127.0.0.1", sentinel_port)]).master_for("main"))
    with (
        RedisServer(config=f"port {port}\n") as primary,
        RedisServer("--sentinel", config=config, is_ready="+monitor") as sentinel,
    ):
        async with cache.renewal_lock(KEY):
            await cache.set(KEY, TOKEN)
        assert TOKEN == await cache.get(KEY)
        for server in (primary, sentinel):
            clients = (await server.command("CLIENT", "LIST", "TYPE", "NORMAL")).decode().splitlines()
            assert 1 == len([each for each in clients if "lib-name=redis-py" in each])  # the connection of this command


@pytest.fixture(scope="session")
def cluster_port() -> Iterator[int]:
    """A port of a cluster of three primaries."""
    ports = [(unused_port(), unused_port()) for _ in range(3)]
    with ExitStack() as stack:
        servers = [
            stack.enter_context(RedisServer(config=f"port {port}\ncluster-enabled yes\ncluster-port {bus_port}\n"))
            for port, bus_port in ports
        ]
        asyncio.run(form_cluster(servers, ports))
        yield ports[0][0]


async def form_cluster(servers: list[RedisServer], ports: list[tuple[int, int]]) -> None:
    for number, server in enumerate(servers):
        first, end = (16_384 * each // len(servers) for each in (number, number + 1))
        await server.command("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        await servers[0].command("CLUSTER", "MEET", "127.0.0.1", *ports[number])
    async with asyncio.timeout(PATIENCE_SECONDS):
        for server in servers:
            while b"cluster_state:ok" not in await server.command("CLUSTER", "INFO"):
                await asyncio.sleep(0.05)  # servers set no event


async def count_waiters(client: Any, namespace: str) -> int:
    channel = f"{namespace}:{{{DIGEST}}}:news"
    counts = await client.pubsub_numsub(channel, target_nodes=RedisCluster.ALL_NODES)
    return sum(count for _, count in counts)


@pytest.mark.slow  # a cluster takes seconds to agree
class TestCluster(OnOneLoop):
    """The contract with a caller's client: a new one for each call takes long, since each requests the slots."""

    patience_seconds = PATIENCE_SECONDS

    @pytest.fixture
    async def cache(self, cluster_port: int, namespace: str) -> AsyncIterator[SharedTokenCache]:
        async with RedisCluster(host="127.0.0.1", port=cluster_port) as client:
            yield RedisTokenCache(client, namespace=namespace)

    def test_own_clients(self, cluster_port: int, namespace: str) -> None:
        """A callable that creates the cluster's client works on several event loops in sequence."""
        cache = RedisTokenCache(lambda: RedisCluster(host="127.0.0.1", port=cluster_port), namespace=namespace)

        async def use() -> AccessToken | None:
            async with asyncio.timeout(PATIENCE_SECONDS), cache.renewal_lock(KEY):
                before = await cache.get(KEY)
                await cache.set(KEY, TOKEN)
                return before

        assert [None, TOKEN] == [asyncio.run(use()) for _ in range(2)]

    @needs_cluster_pubsub
    async def test_waiters_are_woken(self, cluster_port: int, namespace: str) -> None:
        """Waiters on any node are notified when the holder has stored a token."""
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(RedisCluster(host="127.0.0.1", port=cluster_port)) for _ in range(4)
            ]
            caches = [RedisTokenCache(client, namespace=namespace) for client in clients]

            async def wait(cache: RedisTokenCache) -> AccessToken | None:
                async with cache.renewal_lock(KEY):
                    return await cache.get(KEY)

            async with asyncio.timeout(PATIENCE_SECONDS), caches[0].renewal_lock(KEY):
                waiters = [asyncio.create_task(wait(cache)) for cache in caches[1:]]
                while 3 != await count_waiters(clients[0], namespace):
                    await asyncio.sleep(0)
                await caches[0].set(KEY, TOKEN)
                await asyncio.wait(waiters)
            assert [TOKEN] * 3 == [waiter.result() for waiter in waiters]
