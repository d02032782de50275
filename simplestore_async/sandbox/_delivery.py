"""How an answer gets to the client. Rule: a fault spoils the way, never the words; a client that left is no error."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import cast

from aiohttp import web

from ._faults import Drip, Fault, Late, Reset, Truncated

__all__ = ["deliver"]


async def deliver(reply: web.Response, request: web.Request, fault: Fault | None) -> web.StreamResponse:
    """Return what aiohttp is to send, or what is left to send of it, after the fault has done its work."""
    if isinstance(fault, Late):
        await asyncio.sleep(fault.seconds)
    # A client that left meanwhile: aiohttp meets the same error with the reply, and passes over it.
    with suppress(ConnectionError):
        if isinstance(fault, Reset):
            _reset(request)
        elif isinstance(fault, Truncated):
            return await _send_half(reply, request)
        elif isinstance(fault, Drip):
            return await _send_slowly(reply, request, seconds_per_byte=fault.seconds_per_byte)
    return reply


def _reset(request: web.Request) -> None:
    transport = request.transport
    if transport is not None:
        # To linger for no time means that closing resets the connection.
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()


async def _send_half(reply: web.Response, request: web.Request) -> web.StreamResponse:
    stream, body = _begin(reply, request)
    stream.force_close()
    await stream.prepare(request)
    await stream.write(body[: len(body) // 2])
    return stream


async def _send_slowly(reply: web.Response, request: web.Request, *, seconds_per_byte: float) -> web.StreamResponse:
    stream, body = _begin(reply, request)
    await stream.prepare(request)
    for position in range(len(body)):
        await asyncio.sleep(seconds_per_byte)
        await stream.write(body[position : position + 1])
    return stream


def _begin(reply: web.Response, request: web.Request) -> tuple[web.StreamResponse, bytes]:
    """Return the reply as a stream with the same head, and the body that belongs behind it."""
    body = cast("bytes", reply.body)
    stream = web.StreamResponse(status=reply.status, headers=reply.headers)
    stream.content_length = len(body)
    # RFC 9110 9.3.2: the answer to HEAD has no body, whatever its Content-Length.
    return stream, b"" if request.method == "HEAD" else body
