"""A local SimpleStore in a process of its own, so that its work is not counted as the client's."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import attrs

from simplestore_async import ClientCredentials
from simplestore_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["Server", "run_server"]


@attrs.frozen
class Server:
    """The running server, as its clients see it."""

    credentials: ClientCredentials
    base_url: str
    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter

    async def count(self, name: str) -> int:
        """Return one of the sandbox's counters."""
        self._writer.write(b"\n")
        return int(json.loads(await self._reader.readline())[name])


@asynccontextmanager
async def run_server(*, latency_seconds: float = 0.0) -> AsyncGenerator[Server]:
    """Run a sandbox whose token endpoint takes *latency_seconds* for each reply."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks._server", str(latency_seconds)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    reader, writer = cast("tuple[asyncio.StreamReader, asyncio.StreamWriter]", (process.stdout, process.stdin))
    try:
        environment = json.loads(await reader.readline())
        credentials = ClientCredentials(
            client_id=environment["SIMPLESTORE_CLIENT_ID"],
            client_secret=environment["SIMPLESTORE_CLIENT_SECRET"],
            token_url=environment["SIMPLESTORE_TOKEN_URL"],
        )
        yield Server(credentials, environment["SIMPLESTORE_BASE_URL"], reader, writer)
    finally:
        writer.close()
        await process.wait()


async def _serve(latency_seconds: float) -> None:
    async with Sandbox(latency_seconds=latency_seconds) as sandbox:
        _say(sandbox.environment)
        while await asyncio.to_thread(sys.stdin.readline):
            _say(attrs.asdict(sandbox.counters))


def _say(words: object) -> None:
    sys.stdout.write(f"{json.dumps(words)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1])))
