"""A loop of aiohttp, the floor of `simplestore batch`. Rule: it is a program, and imports nothing of this package.

`python _bare_loop.py URL REQUESTS CONCURRENCY METHOD [JSON]` sends requests, and keeps nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

import aiohttp


async def main(url: str, requests: str, concurrency: str, method: str, body: str = "null") -> None:
    numbers = iter(range(int(requests)))
    connector = aiohttp.TCPConnector(limit=int(concurrency))
    headers = {"Authorization": os.environ["AUTHORIZATION"]}
    async with aiohttp.ClientSession(url, headers=headers, connector=connector) as session:

        async def send() -> None:
            for number in numbers:
                async with session.request(method, str(number), json=json.loads(body)) as response:
                    await response.read()

        await asyncio.gather(*[send() for _ in range(int(concurrency))])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
