"""`examples/dask_cluster.py` on a real cluster whose traffic is recorded."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from simplestore_async.caches import loads
from tests.support.batches import make_line, read_results, write_lines
from tests.support.raw_server import RawServer, carry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from simplestore_async.sandbox import Sandbox
    from tests.support.redis_server import RedisServer

EXAMPLES = Path(__file__).parents[2] / "examples"
WORKERS = 4
ORDERS = 200
DASK = {
    "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "debug",  # everything that its log may contain
    "DASK_DISTRIBUTED__COMM__COMPRESSION": "False",  # the recorded bytes are plain
    "PYTHONWARNINGS": "default",
}


class Tap(RawServer):
    """A proxy on 127.0.0.1 that records all traffic in both directions."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.seen = bytearray()
        self._upstream = port

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        await asyncio.gather(
            carry(reader, other_writer, on_data=self.seen.extend),
            carry(other_reader, writer, on_data=self.seen.extend),
        )


@asynccontextmanager
async def start(*command: str, log: Path, environment: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run one of Dask's own commands, and end it; its output is in *log*."""
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *command), env=os.environ | DASK | environment, stdout=file, stderr=file
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
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "dask_cluster.py", str(path), str(directory / "results.jsonl"), "--parts=8"),
        cwd=EXAMPLES,
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate()
    assert 0 == process.returncode, stderr.decode()
    return stdout.decode()


async def find_token(server: RedisServer) -> bytes:
    """Return the token that the workers shared."""
    [key] = await server.command("KEYS", "*:token-v2")
    token = loads((await server.command("GET", key)).partition(b"\n")[2])
    return str(token.value).encode()


def check(directory: Path, sandbox: Sandbox, printed: str) -> None:
    """Check that each request was sent once, with one token for all, and has its result in the one file."""
    assert f"succeeded: {ORDERS}\n" in printed
    assert (1, ORDERS) == (sandbox.counters.token_requests, sandbox.counters.api_requests)
    results = read_results(directory / "results.jsonl")
    assert list(range(ORDERS)) == sorted(result["id"] for result in results)


@pytest.mark.slow
async def test_on_a_cluster(sandbox: Sandbox, redis_server: RedisServer, tmp_path: Path) -> None:
    """The workers share one token, and neither it nor the secret is in Dask's traffic and logs."""
    secrets = sandbox.environment | {"SIMPLESTORE_REDIS_URL": redis_server.url}
    nowhere = {"SIMPLESTORE_CLIENT_ID": "", "SIMPLESTORE_CLIENT_SECRET": ""}
    scheduler_log, worker_log = tmp_path / "scheduler", tmp_path / "workers"
    scheduler = "distributed.cli.dask_scheduler", "--host=127.0.0.1", "--port=0", "--no-dashboard"
    workers = f"--nworkers={WORKERS}", "--nthreads=1", "--no-dashboard", f"--local-directory={tmp_path}"
    async with asyncio.timeout(120), AsyncExitStack() as stack:
        await stack.enter_async_context(start(*scheduler, log=scheduler_log, environment=nowhere))
        tap = await stack.enter_async_context(Tap(await find_port(scheduler_log)))
        address = f"tcp://127.0.0.1:{tap.port}"
        command = "distributed.cli.dask_worker", address, "--host=127.0.0.1", *workers
        await stack.enter_async_context(start(*command, log=worker_log, environment=secrets))
        printed = await run_example(tmp_path, nowhere | {"DASK_SCHEDULER_ADDRESS": address})

    check(tmp_path, sandbox, printed)
    token = await find_token(redis_server)
    seen = bytes(tap.seen) + scheduler_log.read_bytes() + worker_log.read_bytes()
    assert b"send_part" in tap.seen
    assert WORKERS == worker_log.read_bytes().count(b"Registered to:")
    for each in (sandbox.environment["SIMPLESTORE_CLIENT_SECRET"].encode(), token):
        assert each not in seen


@pytest.mark.slow
async def test_on_this_machine(sandbox: Sandbox, redis_server: RedisServer, tmp_path: Path) -> None:
    """Without a cluster it starts workers of its own; run again, it sends nothing."""
    environment = sandbox.environment | {"SIMPLESTORE_REDIS_URL": redis_server.url}
    for _ in range(2):
        check(tmp_path, sandbox, await run_example(tmp_path, environment))
