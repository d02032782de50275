"""Servers for the tests of API requests: raw bytes, redirects, rejections and proxies."""

from __future__ import annotations

import asyncio
import socket
import zlib
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import attrs
from aiohttp import web
from aiohttp.test_utils import unused_port

from simplestore_async import BearerAuthMiddleware
from tests.support.raw_server import RawServer, carry

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from yarl import URL

    from simplestore_async import TokenSource
    from tests.support.servers import ApiServer, Handler, Server

INVALID_TOKEN = 'Bearer error="invalid_token"'
UNAUTHORIZED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"


@asynccontextmanager
async def authorized_session(
    source: TokenSource, *origins: str | URL, is_rejected: Any = None, allow_insecure_http: bool = False, **options: Any
) -> AsyncIterator[aiohttp.ClientSession]:
    """A plain aiohttp session with `BearerAuthMiddleware`."""
    bearer = BearerAuthMiddleware(
        source, origins=origins, is_rejected=is_rejected, allow_insecure_http=allow_insecure_http
    )
    async with aiohttp.ClientSession(middlewares=[*options.pop("middlewares", ()), bearer], **options) as session:
        yield session


def redirecting(server: Server, targets: Mapping[str, str], *, status: int = 302) -> Handler:
    """Return a handler that redirects the paths in *targets* and passes others to the handler of *server*."""
    handler = server.handler

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.path in targets:
            return web.Response(status=status, headers={"Location": targets[request.path]})
        return await handler(request)

    return handle


def rejecting(server: ApiServer, status: int, *challenges: str, text: str = "") -> Handler:
    """Return a handler that rejects the tokens in `server.rejected` with this status, challenges and text."""

    async def handle(request: web.Request) -> web.StreamResponse:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        response = web.json_response({"path": request.path})
        if token in server.rejected:
            response = web.Response(status=status, text=text)
            for challenge in challenges:
                response.headers.add("WWW-Authenticate", challenge)
        return response

    return handle


def answering(**response: Any) -> Handler:
    """Return a handler that sends this response to every request."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return web.Response(**response)

    return handle


async def echo_websocket(request: web.Request) -> web.StreamResponse:
    """Echo the first message of a WebSocket."""
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    await websocket.send_str(await websocket.receive_str())
    return websocket


@attrs.frozen
class Wire:
    """The bytes of a request, including the framing of a chunked body."""

    head: bytes
    body: bytes

    @property
    def lines(self) -> list[bytes]:
        return self.head.splitlines()

    @property
    def token(self) -> str | None:
        value = self.header("Authorization")
        return None if value is None else value.removeprefix("Bearer ")

    @property
    def without_token(self) -> tuple[list[bytes], bytes]:
        """All parts that a replay must repeat exactly."""
        return sorted(line for line in self.lines if not line.lower().startswith(b"authorization:")), self.body

    @property
    def content(self) -> bytes:
        """The body without chunks and compression."""
        content = self.body
        if self.header("Transfer-Encoding") == "chunked":
            content, rest = b"", self.body
            while size := int(rest.partition(b"\r\n")[0], 16):
                rest = rest.partition(b"\r\n")[2]
                content, rest = content + rest[:size], rest[size + 2 :]
        if self.header("Content-Encoding"):
            content = zlib.decompress(content, zlib.MAX_WBITS | 32)
        return content

    def header(self, name: str) -> str | None:
        prefix = name.lower().encode() + b":"
        values = [line[len(prefix) :].strip().decode() for line in self.lines if line.lower().startswith(prefix)]
        assert len(values) <= 1
        return values[0] if values else None


async def _read_wire(reader: asyncio.StreamReader, head: bytes) -> Wire:
    wire = Wire(head, b"")
    if wire.header("Transfer-Encoding") != "chunked":
        return attrs.evolve(wire, body=await reader.readexactly(int(wire.header("Content-Length") or 0)))
    body = b""
    while True:
        size_line = await reader.readuntil(b"\r\n")
        size = int(size_line, 16)
        body += size_line + await reader.readexactly(size + 2)
        if size == 0:
            return attrs.evolve(wire, body=body)


class WireServer(RawServer):
    """An API that records the bytes of each request: 401 for the tokens in `rejected`, else 200.

    *reject* writes the response to a rejected request and may block. If `reads_body` is False, a rejected request gets
    its response after its head; the body is then read and dropped at once or, with `reads_late`, after the next request
    has arrived, so that no client can have finished sending a huge one by then.
    """

    def __init__(self, reject: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None) -> None:
        super().__init__()
        self.requests: list[Wire] = []
        self.rejected: set[str | None] = set()
        self.reads_body = True
        self.reads_late = False
        self.has_read_late = asyncio.Event()
        self._next_has_come = asyncio.Event()
        self._reject = reject or _answer_unauthorized

    @property
    def tokens(self) -> list[str | None]:
        return [request.token for request in self.requests]

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A fixed buffer, which the kernel does not enlarge: it cannot hold a few megabytes.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        while True:
            wire = Wire(await reader.readuntil(b"\r\n\r\n"), b"")
            is_rejected = wire.token in self.rejected
            if wire.header("Expect"):
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if self.reads_body or not is_rejected:
                wire = await _read_wire(reader, wire.head)
            self.requests.append(wire)
            if len(self.requests) > 1:
                self._next_has_come.set()
            if is_rejected:
                await self._reject(writer)
                if not self.reads_body:
                    await writer.drain()
                    if self.reads_late:
                        await self._next_has_come.wait()
                    try:
                        await _read_wire(reader, wire.head)
                    finally:
                        self.has_read_late.set()
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")
            await writer.drain()


async def _answer_unauthorized(writer: asyncio.StreamWriter) -> None:
    writer.write(UNAUTHORIZED.replace(b"Content-Length: 0\r\n\r\n", b"Content-Length: 8\r\n\r\nrejected"))


class ConnectProxy(RawServer):
    """An HTTP proxy for CONNECT that records heads and all bytes that clients sent.

    *routes* maps `host:port` to ports of 127.0.0.1; other targets are connected to *port*, or must be on 127.0.0.1.
    """

    def __init__(
        self,
        routes: Mapping[str, int] | None = None,
        *,
        port: int | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(ssl_context=ssl_context)
        self._port = port
        self.seen = bytearray()
        self._routes = routes or {}

    @property
    def heads(self) -> list[Wire]:
        return [Wire(head, b"") for head in self.requests]

    @property
    def targets(self) -> set[str]:
        """The targets of all requests: `host:port` of a tunnel, or a URL."""
        return {head.lines[0].split()[1].decode() for head in self.heads}

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.seen += head
        self.requests.append(head)
        method, target, _ = head.splitlines()[0].decode().split()
        if method != "CONNECT":
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        port = self._routes.get(target) or self._port or int(target.removeprefix("127.0.0.1:"))
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self.arrived.set()
        await asyncio.gather(carry(reader, upstream_writer, on_data=self.seen.extend), carry(upstream_reader, writer))


def refusing_url() -> str:
    """Return a loopback URL on which no server listens."""
    return f"http://127.0.0.1:{unused_port()}"


@contextmanager
def silent_url() -> Iterator[str]:
    """Yield a loopback URL whose connection attempts hang, since its backlog is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.settimeout(0)
            client.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
