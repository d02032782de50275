"""httpx2 instead of aiohttp: fifteen lines that put the token on requests to one origin, and replace a rejected one.

python client_httpx.py PATH
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import httpx2

from simplestore_async import TokenProvider

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class SimpleStoreAuth(httpx2.Auth):
    """Authorise the requests to the origin of *base_url*; others go on without the token."""

    def __init__(self, provider: TokenProvider, base_url: str) -> None:
        self._provider, self._base = provider, httpx2.URL(base_url)

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Send the request with a token; once more, with another one, if that was rejected."""
        if (request.url.scheme, request.url.netloc) != (self._base.scheme, self._base.netloc):
            yield request
            return
        token = await self._provider.get_token()
        request.headers["Authorization"] = token.authorization
        response = yield request
        if response.status_code == 401 and self._provider.invalidate(token):
            request.headers["Authorization"] = (await self._provider.get_token()).authorization
            yield request


async def main(path: str) -> int:
    """Return the status that the API answers."""
    base_url = os.environ["SIMPLESTORE_BASE_URL"]
    async with (
        TokenProvider() as provider,
        httpx2.AsyncClient(base_url=base_url, auth=SimpleStoreAuth(provider, base_url)) as client,
    ):
        return (await client.get(path)).status_code


if __name__ == "__main__":
    print(asyncio.run(main(sys.argv[1])))
