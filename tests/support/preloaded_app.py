"""A web application that uses its provider while it is loaded: for gunicorn, which forks its workers afterwards."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from aiohttp import web

from simplestore_async import FileTokenCache, TokenProvider

provider = TokenProvider(cache=FileTokenCache(Path(os.environ["CACHE_FOLDER"])))
loaded_with = asyncio.run(provider.get_token())
# An older aiohttp's worker begins by closing the current loop, of which asyncio.run() has left none.
asyncio.set_event_loop(asyncio.new_event_loop())


async def replace_token(_request: web.Request) -> web.Response:
    """Have the inherited token rejected, once in each worker, and return the held one."""
    token = await provider.get_token()
    if token is loaded_with:
        provider.invalidate(token)
        token = await provider.get_token()
    return web.json_response({"worker": os.getpid(), "token": token.value})


app = web.Application()
app.router.add_get("/", replace_token)
