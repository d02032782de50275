"""httpx2 instead of aiohttp.

python client_httpx.py PATH
"""

from __future__ import annotations

import asyncio
import sys

from simplestore_async.httpx import open_client


async def main(path: str) -> int:
    """Return the status of the API's response."""
    async with open_client() as client:
        return (await client.get(path)).status_code


if __name__ == "__main__":
    print(asyncio.run(main(sys.argv[1])))
