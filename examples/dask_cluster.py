"""A batch on a Dask cluster: one batch per part of a file, one token for all workers, and the results in one file.

python dask_cluster.py requests.jsonl results.jsonl --parts 16

The cluster is DASK_SCHEDULER_ADDRESS, or four worker processes on this machine. Every worker has SimpleStore's
credentials, SIMPLESTORE_BASE_URL and SIMPLESTORE_REDIS_URL in its own environment; the client and the scheduler need
none. Client and workers share a directory. A second run continues the first: each part has a database.
"""
# Dask's own types are partly unknown, and one is wrong.
# pyright: basic, reportArgumentType=false

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dask import config
from distributed import Client, LocalCluster, Worker, WorkerPlugin, as_completed, get_worker

from simplestore_async import open_session
from simplestore_async.batch import BatchDatabase, RequestFile, run_batch
from simplestore_async.caches.redis import RedisTokenCache

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import ClientSession

    from simplestore_async.batch import Outcome


class SimpleStore(WorkerPlugin):
    """One session per worker. Workers receive only this class, and open the session themselves."""

    name = "simplestore"
    session: ClientSession

    async def setup(self, worker: Worker) -> None:  # noqa: ARG002 - as Dask calls it
        """Open the session on the event loop that runs the worker's coroutines."""
        self._stack = AsyncExitStack()
        self.session = await self._stack.enter_async_context(open_session(cache=RedisTokenCache.from_env()))

    async def teardown(self, worker: Worker) -> None:  # noqa: ARG002 - Dask's signature
        """Close the session."""
        await self._stack.aclose()


async def send_part(part: str) -> Mapping[Outcome, int]:
    """Send the requests of a part, on the worker's event loop, and return the number of each outcome."""
    plugin = cast("SimpleStore", get_worker().plugins[SimpleStore.name])
    with ExitStack() as stack:
        requests = stack.enter_context(await asyncio.to_thread(RequestFile, part))
        database = await asyncio.to_thread(BatchDatabase, f"{part}.batch", requests=requests, results=f"{part}.results")
        stack.enter_context(database)
        return (await run_batch(requests, session=plugin.session, database=database)).counts


def write_parts(path: Path, count: int) -> list[Path]:
    """Divide a file, once: existing parts stay, because their batches may have begun.

    Lines of one `key` are in one part.
    """
    parts = [path.with_name(f"{path.name}.{number}") for number in range(count)]
    if not all(part.exists() for part in parts):
        with path.open(encoding="utf-8") as lines, ExitStack() as stack:
            files = [stack.enter_context(part.open("w", encoding="utf-8")) for part in parts]
            for number, line in enumerate(lines):
                key = json.loads(line).get("key") if line.strip() else None
                place = number if key is None else sum(str(key).encode())
                files[place % count].write(line)
    return parts


def merge_results(parts: list[Path], results: Path) -> None:
    """Write the results of all parts to one file."""
    with results.open("wb") as file:
        for part in parts:
            file.write(Path(f"{part}.results").read_bytes())


def main() -> None:
    """Send the file, and print the number of each outcome."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("requests", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--parts", type=int, default=16)
    options = parser.parse_args()
    outcomes: Counter[str] = Counter()
    with ExitStack() as stack:
        cluster = config.get("scheduler-address", None)
        if cluster is None:
            cluster = stack.enter_context(LocalCluster(n_workers=4, threads_per_worker=1, dashboard_address=None))
        client = stack.enter_context(Client(cluster))
        client.register_plugin(SimpleStore())
        parts = write_parts(options.requests.absolute(), options.parts)
        tasks = client.map(send_part, [str(part) for part in parts], pure=False)
        for _, counts in as_completed(tasks, with_results=True):
            outcomes.update(counts)
    merge_results(parts, options.results)
    for outcome, count in sorted(outcomes.items()):
        print(f"{outcome}: {count}")


if __name__ == "__main__":
    main()
