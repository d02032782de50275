"""A server on loopback that sends raw bytes, and forwarding between connections."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self, TypeAlias

if TYPE_CHECKING:
    import ssl

Script: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class RawServer:
    """A TCP server on an ephemeral port of 127.0.0.1 that records each request and then runs its script.

    A subclass may override `talk` instead.

    A script ends when the client has closed its side; `clients_left` waits for that, which detects leaks.
    """

    def __init__(
        self, script: Script | None = None, *, reads_first: bool = True, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self.script = script
        self.connections = 0
        self.requests: list[Any] = []  # bytes, or objects of a subclass
        self.arrived = asyncio.Event()  # set when the script starts
        self.port = 0
        self._reads_first = reads_first
        self._ssl = ssl_context
        self._server: asyncio.Server | None = None
        self._conversations: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token_url(self) -> str:
        return f"{self.url}/connect/token"

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
        async with asyncio.timeout(60):
            await asyncio.gather(*self._conversations)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._conversations.add(asyncio.create_task(self._converse(reader, writer)))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that gives up resets the connection or closes it before it sends a request.
        with suppress(OSError, asyncio.IncompleteReadError):
            try:
                await self.talk(reader, writer)
            finally:
                writer.close()
            await writer.wait_closed()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        assert self.script is not None
        if self._reads_first:
            self.requests.append(await _read_request(reader))
        self.arrived.set()
        await self.script(reader, writer)


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head + await reader.readexactly(int(lengths[0].partition(b":")[2]) if lengths else 0)


async def carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, on_data: Callable[[bytes], object] | None = None
) -> None:
    """Forward all data until either side ends, and close *writer*.

    *on_data* is called with each part first; if it returns an awaitable, the part is delayed until that is done.
    """
    with suppress(OSError):
        try:
            while data := await reader.read(1 << 16):
                held = on_data(data) if on_data else None
                if inspect.isawaitable(held):
                    await held
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()
        await writer.wait_closed()
