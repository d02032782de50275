"""Bodies of requests, and a server that records them."""

from __future__ import annotations

import asyncio
import io
import json
import os
import tempfile
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import attrs

from tests.support.api_requests import ListSource
from tests.support.api_servers import WireServer, authorized_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

OFFSET = 7
MARK = "Grüße, Jürgen ❤ +&=% "
SHORT = (MARK * 3).encode()
# Long enough for several reads of a file and several writes to a socket.
LONG = MARK.encode() * 30_000


@attrs.frozen
class Files:
    """Files that are closed when the test ends: aiohttp closes most kinds, but not all."""

    path: Path
    stack: ExitStack

    def open(self, mode: str = "rb", **options: Any) -> Any:
        """Open a file positioned at the offset where its body starts."""
        return self.at_offset(self.path.open(mode, **options))

    def spooled(self) -> Any:
        file = tempfile.SpooledTemporaryFile(max_size=10)  # noqa: SIM115 - the stack closes it
        file.write(bytes(OFFSET) + SHORT)
        return self.at_offset(file)

    def pipe(self) -> Any:
        read_end, write_end = os.pipe()
        os.write(write_end, SHORT)
        os.close(write_end)
        return self.stack.enter_context(os.fdopen(read_end, "rb"))

    def at_offset(self, file: Any) -> Any:
        file.seek(OFFSET)
        return self.stack.enter_context(file)


def form_of_all_kinds(files: Files) -> dict[str, Any]:
    form = aiohttp.FormData()
    form.add_field("field", SHORT.decode())
    form.add_field("bytes", SHORT, filename="a.bin", content_type="application/x-a")
    form.add_field("memory", io.BytesIO(SHORT), filename="b.bin")
    form.add_field("file", files.open(), filename="c.bin")
    form.add_field("text", files.open("r", encoding="utf-8"), filename="d.txt")
    return {"data": form}


def multipart_of(*parts: Any) -> aiohttp.MultipartWriter:
    multipart = aiohttp.MultipartWriter("mixed")
    for part in parts:
        multipart.append(part)
    return multipart


@asynccontextmanager
async def wire_and_session(
    reject: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None,
) -> AsyncIterator[tuple[WireServer, aiohttp.ClientSession]]:
    """A server that rejects the first token, and a session with one connection to it; a hanging test times out."""
    source = ListSource("canary-token-1", "canary-token-2")
    async with (
        WireServer(reject) as server,
        authorized_session(source, server.url, connector=aiohttp.TCPConnector(limit=1)) as session,
        asyncio.timeout(30),
    ):
        server.rejected.add("canary-token-1")
        yield server, session


async def send(session: aiohttp.ClientSession, url: str, *, method: str = "POST", **options: Any) -> tuple[int, str]:
    async with session.request(method, url, **options) as response:
        return response.status, await response.text()


def is_whole(content: bytes) -> bool:
    """Return whether *content* contains the text of these bodies in any encoding."""
    quoted = json.dumps(MARK)[1:-1].encode()
    return any(
        form in content
        for form in (MARK.encode() * 3, quoted * 3, MARK.encode("utf-16-le") * 3, b"%E2%9D%A4+%2B%26%3D%25+")
    )
