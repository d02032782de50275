"""A loop of aiohttp, the floor of `simplestore batch`. Rule: it is a program, and imports nothing of this package.

`python _bare_loop.py least|whole BASE_URL REQUESTS RESULTS CONCURRENCY`, with AUTHORIZATION in the environment.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Iterator


async def send_least(session: aiohttp.ClientSession, numbers: Iterator[int], method: str, body: object) -> None:
    """Send requests from memory, and keep nothing."""
    for number in numbers:
        async with session.request(method, f"api/{number}", json=body) as response:
            await response.read()


async def send_lines(session: aiohttp.ClientSession, lines: Iterator[str], results: IO[str]) -> None:
    """Send each line's request, and write its response."""
    for line in lines:
        request = json.loads(line)
        async with session.request(request["method"], request["path"], json=request.get("json")) as response:
            result = {"id": request["id"], "status": response.status, "body": await response.json()}
        results.write(f"{json.dumps(result)}\n")


async def main(what: str, base_url: str, requests: str, results: str, concurrency: str) -> None:
    connector = aiohttp.TCPConnector(limit=int(concurrency))
    headers = {"Authorization": os.environ["AUTHORIZATION"]}
    with Path(requests).open() as lines, Path(results).open("w") as file:  # noqa: ASYNC230 - as such programs do
        async with aiohttp.ClientSession(base_url, headers=headers, connector=connector) as session:

            async def send() -> None:
                if what == "least":
                    await send_least(session, numbers, first["method"], first.get("json"))
                else:
                    await send_lines(session, lines, file)

            first = json.loads(next(lines))
            numbers = iter(range(1 + sum(1 for _ in lines)))
            lines.seek(0)
            await asyncio.gather(*[send() for _ in range(int(concurrency))])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
