"""Responses and their delivery. Rule: delivery does not change the outcome, and a disconnect is not an error."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from aiohttp import web
from multidict import CIMultiDict

from ._faults import Drip, Fault, Garbage, Late, Reset, Response, Status, Truncated
from ._recorded import mask_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._token_request import Refusal

__all__ = [
    "canned_response",
    "deliver",
    "echo_response",
    "refusal_response",
    "replacement_response",
    "token_response",
    "unauthorized_response",
]

_GARBAGE: Final = "<!DOCTYPE html><title>Welcome</title><p>This is a page, and no JSON."


def _json_response(
    content: Mapping[str, object], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=json.dumps(content).encode(), status=status, headers=headers, content_type="application/json"
    )


def _token_endpoint_response(
    content: Mapping[str, object], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    # RFC 6749 §5.1: no HTTP cache may store a token.
    return _json_response(content, status=status, headers={**(headers or {}), "Cache-Control": "no-store"})


def token_response(token: str, *, expires_in: int) -> web.Response:
    """Return the documented 200."""
    return _token_endpoint_response({"access_token": token, "expires_in": expires_in, "token_type": "Bearer"})


def refusal_response(refusal: Refusal) -> web.Response:
    """Return an error response of RFC 6749 §5.2."""
    content = {"error": refusal.error, "title": refusal.title}
    return _token_endpoint_response(content, status=refusal.status, headers=refusal.headers)


def canned_response(canned: Response) -> web.Response:
    """Return a response with exactly these headers."""
    headers = CIMultiDict(canned.headers)
    headers.setdefault("Content-Type", "text/plain; charset=utf-8")
    return web.Response(status=canned.status, headers=headers, body=canned.body)


def replacement_response(fault: Fault | None) -> web.Response | None:
    """Return the response to send without examining the request; None if the request decides."""
    match fault:
        case Status():
            headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            return _token_endpoint_response({"error": "temporarily_unavailable"}, status=fault.status, headers=headers)
        case Response():
            return canned_response(fault)
        case Garbage():
            return web.Response(text=_GARBAGE, content_type="text/html")
        case Reset():
            return web.Response()  # never sent
        case _:
            return None


def unauthorized_response(*, has_token: bool) -> web.Response:
    """Return the API's 401; without a token there is no error code (RFC 6750 §3.1)."""
    return _json_response(
        {"title": "Send a valid access token in the Authorization header"},
        status=401,
        headers={"WWW-Authenticate": 'Bearer error="invalid_token"' if has_token else "Bearer"},
    )


def echo_response(request: web.Request, body: bytes) -> web.Response:
    """Return the request as JSON, with its token masked."""
    try:
        text, is_base64 = body.decode(), False
    except UnicodeDecodeError:
        text, is_base64 = base64.b64encode(body).decode(), True
    headers = mask_headers(request.headers)
    return _json_response(
        {
            "method": request.method,
            "path": request.path,
            "query": {name: _one_or_list(request.query.getall(name)) for name in request.query},
            "headers": {name: ", ".join(headers.getall(name)) for name in headers},
            "body": text,
            "is_base64": is_base64,
        }
    )


def _one_or_list(values: list[str]) -> str | list[str]:
    return values if len(values) > 1 else values[0]


async def deliver(response: web.StreamResponse, request: web.Request, fault: Fault | None) -> web.StreamResponse:
    """Apply a fault of delivery, and return the response, or the rest of it, for aiohttp to send."""
    if isinstance(fault, Late):
        await asyncio.sleep(fault.seconds)
    # If the client has disconnected, aiohttp gets the same error and ignores it.
    with suppress(ConnectionError):
        if isinstance(fault, Reset):
            _reset(request)
        # A stream of a handler has no body to truncate.
        elif isinstance(fault, Truncated) and isinstance(response, web.Response):
            return await _send_half(response, request)
        elif isinstance(fault, Drip) and isinstance(response, web.Response):
            return await _send_slowly(response, request, seconds_per_byte=fault.seconds_per_byte)
    return response


def _reset(request: web.Request) -> None:
    transport = request.transport
    if transport is not None:
        # A linger time of zero makes closing reset the connection.
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()


async def _send_half(response: web.Response, request: web.Request) -> web.StreamResponse:
    stream, body = _begin(response, request)
    stream.force_close()
    await stream.prepare(request)
    await stream.write(body[: len(body) // 2])
    return stream


async def _send_slowly(response: web.Response, request: web.Request, *, seconds_per_byte: float) -> web.StreamResponse:
    stream, body = _begin(response, request)
    await stream.prepare(request)
    for position in range(len(body)):
        await asyncio.sleep(seconds_per_byte)
        await stream.write(body[position : position + 1])
    return stream


def _begin(response: web.Response, request: web.Request) -> tuple[web.StreamResponse, bytes]:
    """Return the response as a stream with the same head, and its body."""
    body = cast("bytes", response.body)
    stream = web.StreamResponse(status=response.status, headers=response.headers)
    stream.content_length = len(body)
    # RFC 9110 §9.3.2: a response to HEAD has no body, despite its Content-Length.
    return stream, b"" if request.method == "HEAD" else body
