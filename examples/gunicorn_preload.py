"""A service behind `gunicorn --preload`: the workers inherit the provider and its token.

`gunicorn --preload --workers 4 --worker-class aiohttp.GunicornWebWorker gunicorn_preload:app`

The workers share renewals through a cache directory. A session belongs to an event loop, so each worker opens its own.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from aiohttp import ClientSession, web

from simplestore_async import FileTokenCache, TokenProvider, open_session

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

SIMPLESTORE = web.AppKey("simplestore", ClientSession)

provider = TokenProvider(cache=FileTokenCache())
asyncio.run(provider.get_token())  # fails at start-up if the credentials are wrong


async def keep_session(app: web.Application) -> AsyncGenerator[None]:
    """Open a session in this worker, with the inherited provider."""
    async with open_session(provider) as app[SIMPLESTORE]:
        yield


async def show(request: web.Request) -> web.Response:
    """Return this process's id, and the status of the API's response."""
    async with request.app[SIMPLESTORE].get(request.match_info["path"]) as response:
        return web.json_response({"worker": os.getpid(), "status": response.status})


app = web.Application()
app.cleanup_ctx.append(keep_session)
app.router.add_get("/{path:.*}", show)
