"""What the sandbox answers. Rule: every reply but garbage is JSON, and none repeats a credential."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Final

from aiohttp import web

from simplestore_async._core.redaction import MASK

from ._faults import Fault, Garbage, Reset, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._token_request import Refusal

__all__ = ["echo_reply", "refusal_reply", "substitute_reply", "token_reply", "unauthorized_reply"]

_GARBAGE: Final = "<!DOCTYPE html><title>Welcome</title><p>This is a page, and no JSON."


def _json_reply(
    content: Mapping[str, object], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=json.dumps(content).encode(), status=status, headers=headers, content_type="application/json"
    )


def _token_endpoint_reply(
    content: Mapping[str, object], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    # RFC 6749 5.1: no cache on the way may keep a token.
    return _json_reply(content, status=status, headers={**(headers or {}), "Cache-Control": "no-store"})


def token_reply(token: str, *, expires_in: int) -> web.Response:
    """Return the documented 200."""
    return _token_endpoint_reply({"access_token": token, "expires_in": expires_in, "token_type": "Bearer"})


def refusal_reply(refusal: Refusal) -> web.Response:
    """Return an error reply of RFC 6749 5.2."""
    content = {"error": refusal.error, "title": refusal.title}
    return _token_endpoint_reply(content, status=refusal.status, headers=refusal.headers)


def _failure_reply(failure: Status) -> web.Response:
    headers = {} if failure.retry_after is None else {"Retry-After": str(failure.retry_after)}
    return _token_endpoint_reply({"error": "temporarily_unavailable"}, status=failure.status, headers=headers)


def substitute_reply(fault: Fault | None) -> web.Response | None:
    """Return what is answered without a look at the request, or None if that decides."""
    if isinstance(fault, Status):
        return _failure_reply(fault)
    if isinstance(fault, Garbage):
        return web.Response(text=_GARBAGE, content_type="text/html")
    # Of a reset connection nobody sees the reply.
    return web.Response() if isinstance(fault, Reset) else None


def unauthorized_reply(*, has_token: bool) -> web.Response:
    """Return the API's 401; RFC 6750 3.1 gives no error code to a request that tried no token."""
    return _json_reply(
        {"title": "Send a valid access token in the Authorization header."},
        status=401,
        headers={"WWW-Authenticate": 'Bearer error="invalid_token"' if has_token else "Bearer"},
    )


async def echo_reply(request: web.Request) -> web.Response:
    """Return the request as JSON, with its token masked."""
    body = await request.read()
    try:
        text, is_base64 = body.decode(), False
    except UnicodeDecodeError:
        text, is_base64 = base64.b64encode(body).decode(), True
    headers = {name: ", ".join(request.headers.getall(name)) for name in request.headers}
    return _json_reply(
        {
            "method": request.method,
            "path": request.path,
            "query": {name: _one_or_list(request.query.getall(name)) for name in request.query},
            "headers": {
                name: f"Bearer {MASK}" if name.lower() == "authorization" else value for name, value in headers.items()
            },
            "body": text,
            "is_base64": is_base64,
        }
    )


def _one_or_list(values: list[str]) -> str | list[str]:
    return values if len(values) > 1 else values[0]
