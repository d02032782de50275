"""A service behind `gunicorn --preload`: the workers inherit the provider, and what it holds.

`gunicorn --preload --workers 4 --worker-class aiohttp.GunicornWebWorker gunicorn_preload:app`

The token that the master obtained serves every worker; they share renewals through a cache directory.
The session belongs to an event loop, and is opened in each worker.
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
# Wrong credentials end the start of the service here, with their reason. A runner with a factory leaves the thread's
# own event loop alone, which the workers of aiohttp 3.12 look for.
with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
    runner.run(provider.get_token())


async def keep_session(app: web.Application) -> AsyncGenerator[None]:
    """Open a session in this worker, with the provider that all of them inherited."""
    async with open_session(provider) as app[SIMPLESTORE]:
        yield


async def show(request: web.Request) -> web.Response:
    """Pass on what the API says of this path."""
    async with request.app[SIMPLESTORE].get(request.match_info["path"]) as response:
        return web.json_response({"worker": os.getpid(), "status": response.status})


app = web.Application()
app.cleanup_ctx.append(keep_session)
app.router.add_get("/{path:.*}", show)
