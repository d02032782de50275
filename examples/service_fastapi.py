"""A service on FastAPI: one session, opened and closed with the application.

pip install fastapi uvicorn
uvicorn service_fastapi:app
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response

from simplestore_async import open_session
from simplestore_async.errors import TokenEndpointError, TokenError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[dict[str, Any]]:
    """Open the session at start-up, and close it at shutdown."""
    opening = open_session()
    async with opening as session:
        yield {"simplestore": session, "provider": opening.provider}


app = FastAPI(lifespan=lifespan)


@app.exception_handler(TokenError)
async def respond_unavailable(_request: Request, error: TokenError) -> Response:
    """Respond 503 without a token: nothing was sent to the API, so callers can retry."""
    seconds = error.retry_after if isinstance(error, TokenEndpointError) else None
    return Response(f"{error}\n", status_code=503, headers={"Retry-After": f"{seconds or 1:.0f}"})


@app.get("/health")
async def check(request: Request) -> dict[str, str]:
    """Respond 200 if requests can be sent, else 503."""
    await request.state.provider.get_token()
    return {"token": "ok"}


@app.get("/{path:path}")
async def show(path: str, request: Request) -> Response:
    """Return the API's response for this path."""
    async with request.state.simplestore.get(path) as response:
        return Response(await response.read(), status_code=response.status, media_type=response.content_type)
