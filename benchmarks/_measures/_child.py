"""Programs of other processes. Rule: figures are made by the parent only."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from benchmarks._peers import PEERS
from benchmarks._server import Server


async def get_token(name: str, server: Server, directory: str) -> None:
    """Get one token as a program that starts does, from *directory* if another has left it there."""
    peer = PEERS[name]
    assert peer.open_shared is not None  # noqa: S101 - others do not take part
    async with peer.open_shared(server, Path(directory)) as client:
        await client.get_token()


async def send(name: str, server: Server, requests: str) -> None:
    """Send API requests, one after the other."""
    from ._requests import OPENERS, send_requests

    async with OPENERS[name](server) as get:
        await send_requests(get, server.base_url, requests=int(requests), concurrency=1)


if __name__ == "__main__":
    program, name, server, *arguments = sys.argv[1:]
    main = get_token if program == "get_token" else send
    asyncio.run(main(name, Server(**json.loads(server)), *arguments))
