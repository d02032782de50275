"""Scripts of raw servers for faults on the wire, and a search for secrets in errors."""

from __future__ import annotations

import asyncio
import base64
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

from tests.support.raw_server import carry
from tests.support.servers import SECRET

if TYPE_CHECKING:
    from tests.support.raw_server import Script

JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


async def _send(writer: asyncio.StreamWriter, parts: tuple[bytes, ...]) -> None:
    for part in parts:
        writer.write(part)
        await writer.drain()
        # Client and server share the loop: the client reads it within a few turns.
        for _ in range(5):
            await asyncio.sleep(0)


async def _until_left(reader: asyncio.StreamReader) -> None:
    while await reader.read(1 << 16):
        pass


def says(*parts: bytes) -> Script:
    """Send the parts separately, and close the sending side."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _send(writer, parts)
        if writer.can_write_eof():
            writer.write_eof()
        await _until_left(reader)

    return script


def resets_after(*parts: bytes) -> Script:
    """Send the parts, then reset the connection."""

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _send(writer, parts)
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return script


def hangs_after(*parts: bytes, reached: asyncio.Event | None = None) -> Script:
    """Send the parts, set the event, and send nothing more."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _send(writer, parts)
        if reached is not None:
            reached.set()
        await _until_left(reader)

    return script


def repeats(start: bytes, part: bytes, *, pause_seconds: float = 0) -> Script:
    """Send the start, and separately the part repeatedly, until the client disconnects."""

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _send(writer, (start,))
        while not writer.is_closing():
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_seconds)

    return script


def drips(start: bytes, part: bytes, *, pause_seconds: float) -> Script:
    """Send the start, then the part after each pause, until the client disconnects, which ends a pause."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        left = asyncio.create_task(_until_left(reader))
        try:
            while not left.done():
                writer.write(part)
                await asyncio.wait([left], timeout=pause_seconds)
            await left
        finally:
            left.cancel()

    return script


def relays_to(port: int) -> Script:
    """Relay everything to a port of 127.0.0.1 and back, including the end of transmission.

    A TLS server counts a connection only after its handshake and closes it after a failed one. This relay counts every
    connection, and detects whether the client closes it.
    """

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(carry(reader, upstream_writer), _answer(upstream_reader, writer))
        await _until_left(reader)

    return script


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.write_eof()


def shows_secret(text: str) -> bool:
    """Return whether *text* contains the secret in any form in which client "app" sends it."""
    # Every encoding but base64 keeps the first part of the secret.
    basic = base64.b64encode(f"app:{quote(SECRET, safe='')}".encode()).decode()
    return SECRET[:13] in text or basic[:20] in text
