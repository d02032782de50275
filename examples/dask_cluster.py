"""An authorised job on a Dask cluster: its workers share one token over Redis, and no secret travels with the tasks.

python dask_cluster.py PATH --orders 1000

The cluster is the one that DASK_SCHEDULER_ADDRESS names, or else four worker processes of this machine. Every worker
has SimpleStore's credentials and SIMPLESTORE_REDIS_URL in its own environment; the client and the scheduler need none.
"""
# Dask's own types are partly unknown, and one is wrong.
# pyright: basic, reportArgumentType=false

from __future__ import annotations

import argparse
from collections import Counter
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, cast

from dask import config
from distributed import Client, LocalCluster, Worker, WorkerPlugin, as_completed, get_worker

from simplestore_async import open_session
from simplestore_async.caches.redis import RedisTokenCache

if TYPE_CHECKING:
    from aiohttp import ClientSession


class SimpleStore(WorkerPlugin):
    """A session for each worker. What is sent to the workers is this class; they make the rest themselves."""

    name = "simplestore"
    session: ClientSession

    async def setup(self, worker: Worker) -> None:  # noqa: ARG002 - as Dask calls it
        """Open it, on the event loop on which the worker runs its coroutines."""
        self._stack = AsyncExitStack()
        self.session = await self._stack.enter_async_context(open_session(cache=RedisTokenCache.from_env()))

    async def teardown(self, worker: Worker) -> None:  # noqa: ARG002 - as above
        """Close it."""
        await self._stack.aclose()


async def ship(path: str, number: int) -> int:
    """Say that an order was shipped, and return the status; a task that is a coroutine runs on the worker's loop."""
    plugin = cast("SimpleStore", get_worker().plugins[SimpleStore.name])
    async with plugin.session.put(f"{path}/{number}", json={"state": "shipped"}) as response:
        return response.status


def main() -> None:
    """Run the job, and print how many requests were answered with which status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--orders", type=int, default=1000)
    options = parser.parse_args()
    statuses: Counter[int] = Counter()
    with ExitStack() as stack:
        cluster = config.get("scheduler-address", None)
        if cluster is None:
            cluster = stack.enter_context(LocalCluster(n_workers=4, threads_per_worker=1, dashboard_address=None))
        client = stack.enter_context(Client(cluster))
        client.register_plugin(SimpleStore())
        tasks = client.map(ship, [options.path] * options.orders, range(options.orders), pure=False)
        for _, status in as_completed(tasks, with_results=True):
            statuses[status] += 1
    for status, count in sorted(statuses.items()):
        print(f"{status}: {count}")


if __name__ == "__main__":
    main()
