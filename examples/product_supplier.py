"""Product Supplier to SimpleStore: a price list is sent as the file that it is, however large.

aiohttp reads the file while it sends. It can be read from its beginning once more, so that a token which is rejected on
the way costs a renewal and no price list. Which path your store's API has for it is yours to know:

`python product_supplier.py PATH prices.csv`
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from simplestore_async import open_session


async def send_file(path: str, file: Path) -> int:
    """Return the status that the API answers."""
    async with open_session() as session:
        with file.open("rb") as content:
            async with session.put(path, data=content, headers={"Content-Type": "text/csv"}) as response:
                return response.status


if __name__ == "__main__":
    print(asyncio.run(send_file(sys.argv[1], Path(sys.argv[2]))))
