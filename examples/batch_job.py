"""A batch job: several processes share one token in a directory, with a progress bar.

python batch_job.py PATH --requests 10000 --processes 8
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial

from rich.progress import track

from simplestore_async import FileTokenCache, open_session

CHUNK = 250


async def send_chunk(path: str, numbers: range) -> Counter[int]:
    """Send one request per number, all at once, and count the statuses."""
    async with open_session(cache=FileTokenCache()) as session:

        async def send(number: int) -> int:
            async with session.post(path, json={"number": number}) as response:
                return response.status

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(send(number)) for number in numbers]
    return Counter(task.result() for task in tasks)


def run_chunk(path: str, numbers: range) -> Counter[int]:
    """Send a chunk in this process."""
    return asyncio.run(send_chunk(path, numbers))


def main() -> None:
    """Divide the requests among processes, and print the number of responses per status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=8)
    options = parser.parse_args()
    everything = range(options.requests)
    chunks = [everything[start : start + CHUNK] for start in range(0, options.requests, CHUNK)]
    statuses: Counter[int] = Counter()
    with ProcessPoolExecutor(options.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(partial(run_chunk, options.path), chunk) for chunk in chunks]
        for chunk in track(as_completed(running), "Sending", total=len(chunks)):
            statuses += chunk.result()
    for status, count in sorted(statuses.items()):
        print(f"{status}: {count}")


if __name__ == "__main__":
    main()
