"""A service on aiohttp.web: one session, opened and closed with the application.

python -m aiohttp.web -H localhost -P 8080 service_aiohttp:create_app
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import ClientSession, web

from simplestore_async import open_session
from simplestore_async.errors import TokenEndpointError, TokenError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aiohttp.typedefs import Handler

SIMPLESTORE = web.AppKey("simplestore", ClientSession)


async def keep_session(app: web.Application) -> AsyncGenerator[None]:
    """Open the session at start-up, and close it after the last request."""
    async with open_session() as app[SIMPLESTORE]:
        yield


@web.middleware
async def respond_unavailable(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Respond 503 without a token: nothing was sent to the API, so callers can retry."""
    try:
        return await handler(request)
    except TokenError as error:
        seconds = error.retry_after if isinstance(error, TokenEndpointError) else None
        raise web.HTTPServiceUnavailable(text=f"{error}\n", headers={"Retry-After": f"{seconds or 1:.0f}"}) from error


async def show(request: web.Request) -> web.Response:
    """Return the API's response for this path."""
    async with request.app[SIMPLESTORE].get(request.match_info["path"]) as response:
        return web.Response(body=await response.read(), status=response.status, content_type=response.content_type)


def create_app(_arguments: list[str] | None = None) -> web.Application:
    """Return the application."""
    app = web.Application(middlewares=[respond_unavailable])
    app.cleanup_ctx.append(keep_session)
    app.router.add_get("/{path:.*}", show)
    return app
