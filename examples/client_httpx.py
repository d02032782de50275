"""httpx instead of aiohttp: one line to a client whose requests carry the token.

python client_httpx.py PATH
"""

from __future__ import annotations

import asyncio
import sys

from simplestore_async.httpx import open_client


async def main(path: str) -> int:
    """Return the status that the API answers."""
    async with open_client() as client:
        return (await client.get(path)).status_code


if __name__ == "__main__":
    print(asyncio.run(main(sys.argv[1])))
