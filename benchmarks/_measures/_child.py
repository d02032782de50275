"""Programs of other processes: `NAME SERVER`, the server as JSON. Rule: figures are made by the parent only."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._peers import OURS, PEERS
from benchmarks._server import Server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from benchmarks._peers import Get


async def get_token(name: str, server: Server, directory: str) -> None:
    """Get one token, as a program that starts does; from *directory* if the client can share tokens."""
    peer = PEERS[name]
    async with peer.open_shared(server, Path(directory)) if peer.open_shared else peer.open(server) as client:
        await client.get_token()


@asynccontextmanager
async def _open(name: str, server: Server) -> AsyncGenerator[Get]:
    from ._requests import YARDSTICKS

    if name in YARDSTICKS:
        async with YARDSTICKS[name](server) as get:
            yield get
        return
    async with (OURS if name == OURS.name else PEERS[name]).open(server) as client:
        assert client.get is not None  # noqa: S101 - the parent checked it
        yield client.get


async def _send_requests(name: str, server: Server) -> None:
    """For each concurrency: print a dot, read the number of requests, send them, print a dot, read a line.

    Connections are opened just before, because callgrind is so slow that idle ones would be closed.
    """
    from ._requests import CONCURRENCIES, send_requests

    async with _open(name, server) as get:
        for concurrency in CONCURRENCIES:
            await send_requests(get, server.base_url, requests=100, concurrency=concurrency)
            _sign()
            requests = int(sys.stdin.readline())
            await send_requests(get, server.base_url, requests=requests, concurrency=concurrency)
            _sign()
            sys.stdin.readline()


def _sign() -> None:
    sys.stdout.write(".")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_send_requests(sys.argv[1], Server(**json.loads(sys.argv[2]))))
