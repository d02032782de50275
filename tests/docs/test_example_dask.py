"""`examples/dask_cluster.py` on a real cluster."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.batches import make_line, read_results, write_lines
from tests.support.command import finish, start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from simplestore_async.sandbox import Sandbox
    from tests.support.redis_server import RedisServer

EXAMPLES = Path(__file__).parents[2] / "examples"
WORKERS = 4
ORDERS = 200


@asynccontextmanager
async def running(*command: str, log: Path, environment: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run one of Dask's own commands, and end it; its output is in *log*."""
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *command), env=os.environ | environment, stdout=file, stderr=file
        )
    try:
        yield process
    finally:
        process.terminate()
        await process.wait()


async def find_port(log: Path) -> int:
    """Return the port that the scheduler reports."""
    while True:
        for line in log.read_text("utf-8").splitlines():  # noqa: ASYNC240 - this loop runs nothing else
            _, is_there, address = line.partition("Scheduler at:")
            if is_there:
                return int(address.strip().rpartition(":")[2])
        await asyncio.sleep(0.05)  # another process sets no event


async def run_example(directory: Path, environment: dict[str, str]) -> str:
    path = write_lines(directory / "orders.jsonl", (make_line(n, "PUT", key=n % 30) for n in range(ORDERS)))
    command = sys.executable, "dask_cluster.py", str(path), str(directory / "results.jsonl"), "--parts=8"
    outcome = await finish(await start(*command, environment=environment, directory=EXAMPLES))
    assert 0 == outcome.code, outcome.stderr
    return outcome.stdout


def check(directory: Path, sandbox: Sandbox, printed: str) -> None:
    """Check that each request was sent once, with one token for all, and has its result in the one file."""
    assert f"succeeded: {ORDERS}\n" in printed
    assert (1, ORDERS) == (sandbox.counters.token_requests, sandbox.counters.api_requests)
    results = read_results(directory / "results.jsonl")
    assert list(range(ORDERS)) == sorted(result["id"] for result in results)


@pytest.mark.slow
async def test_on_a_cluster(sandbox: Sandbox, redis_server: RedisServer, tmp_path: Path) -> None:
    """The workers share one token; client and scheduler need no credentials."""
    secrets = sandbox.environment | {"SIMPLESTORE_REDIS_URL": redis_server.url}
    nowhere = {"SIMPLESTORE_CLIENT_ID": "", "SIMPLESTORE_CLIENT_SECRET": ""}
    scheduler_log, worker_log = tmp_path / "scheduler", tmp_path / "workers"
    scheduler = "distributed.cli.dask_scheduler", "--host=127.0.0.1", "--port=0", "--no-dashboard"
    workers = f"--nworkers={WORKERS}", "--nthreads=1", "--no-dashboard", f"--local-directory={tmp_path}"
    async with asyncio.timeout(120), AsyncExitStack() as stack:
        await stack.enter_async_context(running(*scheduler, log=scheduler_log, environment=nowhere))
        address = f"tcp://127.0.0.1:{await find_port(scheduler_log)}"
        command = "distributed.cli.dask_worker", address, "--host=127.0.0.1", *workers
        await stack.enter_async_context(running(*command, log=worker_log, environment=secrets))
        printed = await run_example(tmp_path, nowhere | {"DASK_SCHEDULER_ADDRESS": address})

    check(tmp_path, sandbox, printed)
    assert WORKERS == worker_log.read_bytes().count(b"Registered to:")


@pytest.mark.slow
async def test_on_this_machine(sandbox: Sandbox, redis_server: RedisServer, tmp_path: Path) -> None:
    """Without a cluster it starts workers of its own; run again, it sends nothing."""
    environment = sandbox.environment | {"SIMPLESTORE_REDIS_URL": redis_server.url}
    for _ in range(2):
        check(tmp_path, sandbox, await run_example(tmp_path, environment))
