"""Product Supplier to SimpleStore: a price list of any size, streamed from its file.

If the token is rejected, the file is sent again from its beginning. The path is a placeholder for your API's:

`python product_supplier.py PATH prices.csv`
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from simplestore_async import open_session


async def send_file(path: str, file: Path) -> int:
    """Send the file; return the status of the API's response."""
    async with open_session() as session:
        with file.open("rb") as content:
            async with session.put(path, data=content, headers={"Content-Type": "text/csv"}) as response:
                return response.status


if __name__ == "__main__":
    print(asyncio.run(send_file(sys.argv[1], Path(sys.argv[2]))))
