"""Faults of the wire, played by raw servers on loopback; and a search for traces of a secret afterwards."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
import struct
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache
from typing import Self, TypeAlias
from urllib.parse import quote

import trustme
from aiohttp.abc import AbstractResolver, ResolveResult

from tests.support.carrying import carry
from tests.support.servers import SECRET

Script: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class RawServer:
    """A TCP server on an ephemeral port of 127.0.0.1: reads a request whole, keeps it, then follows its script.

    A script ends when the client has closed its side; `clients_left` waits for that, and so finds a leak.
    """

    def __init__(self, script: Script, *, reads_first: bool = True, ssl_context: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.connections = 0
        self.requests: list[bytes] = []
        self.arrived = asyncio.Event()  # set when the script begins
        self.port = 0
        self._reads_first = reads_first
        self._ssl = ssl_context
        self._server: asyncio.Server | None = None
        self._conversations: set[asyncio.Task[None]] = set()

    @property
    def token_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/connect/token"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._ssl)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for conversation in self._conversations:
            conversation.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)
        await self._server.wait_closed()

    async def clients_left(self) -> None:
        """Wait until every client has closed its connection."""
        async with asyncio.timeout(5):
            await asyncio.gather(*self._conversations)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._conversations.add(asyncio.create_task(self._converse(reader, writer)))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that gives up resets the connection, or is gone before it said anything.
        with suppress(OSError, asyncio.IncompleteReadError):
            try:
                if self._reads_first:
                    self.requests.append(await _read_request(reader))
                self.arrived.set()
                await self.script(reader, writer)
            finally:
                writer.close()
            await writer.wait_closed()


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head + await reader.readexactly(int(lengths[0].partition(b":")[2]) if lengths else 0)


async def _send(writer: asyncio.StreamWriter, parts: tuple[bytes, ...]) -> None:
    for part in parts:
        writer.write(part)
        await writer.drain()
        # Client and server share the loop: the client has read it within the next few rounds.
        for _ in range(5):
            await asyncio.sleep(0)


async def _until_left(reader: asyncio.StreamReader) -> None:
    while await reader.read(1 << 16):
        pass


def says(*parts: bytes) -> Script:
    """Send the parts, each alone, and close the sending side."""

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
    """Send the parts, set the event, then nothing more."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _send(writer, parts)
        if reached is not None:
            reached.set()
        await _until_left(reader)

    return script


def repeats(start: bytes, part: bytes, *, pause_seconds: float = 0) -> Script:
    """Send the start, then the part again and again, until the client leaves."""

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while not writer.is_closing():
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_seconds)

    return script


def drips(start: bytes, part: bytes, *, pause_seconds: float) -> Script:
    """Send the start, then the part after each pause, until the client leaves, which ends a pause."""

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
    """Pass everything on to one port of 127.0.0.1 and back, its end of transmission too, until the client leaves.

    A TLS server counts no connection before its handshake is done, and closes one that fails: this one in front does
    count it, and sees whether the client closes it.
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


def tunnels_to(port: int) -> Script:
    """Run a CONNECT proxy that opens every tunnel to one port of 127.0.0.1, for any host."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(carry(reader, upstream_writer), carry(upstream_reader, writer))

    return script


class LoopbackResolver(AbstractResolver):
    """Every host is 127.0.0.1, or unknown; the hosts that were asked for are kept."""

    def __init__(self, *, knows_hosts: bool = True) -> None:
        self.hosts: list[str] = []
        self._knows_hosts = knows_hosts

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.hosts.append(host)
        if not self._knows_hosts:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=socket.AI_NUMERICHOST
            )
        ]

    async def close(self) -> None:
        pass


@cache
def authority() -> trustme.CA:
    """Return the private certificate authority of these tests."""
    return trustme.CA()


def server_context(certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    """Return a server's context; without a certificate it shows that of the authority itself, which names no host."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate is not None:
        certificate.configure_cert(context)
    else:
        with authority().private_key_pem.tempfile() as key, authority().cert_pem.tempfile() as chain:
            context.load_cert_chain(chain, key)
    return context


def client_context() -> ssl.SSLContext:
    """Return a context that trusts `authority()` alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    return context


def everything_shown(error: BaseException) -> str:
    """Return all that a log or a debugger may show of an error: text, repr, traceback with every frame's locals."""
    lines = traceback.TracebackException.from_exception(error, capture_locals=True).format()
    return "\n".join([str(error), repr(error), *lines])


def shows_secret(text: str) -> bool:
    """Return whether *text* holds the secret in any form in which client "app" sends it."""
    # The first part of it survives every encoding but base64.
    basic = base64.b64encode(f"app:{quote(SECRET, safe='')}".encode()).decode()
    return SECRET[:13] in text or basic[:20] in text
