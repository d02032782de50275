"""`BearerAuthMiddleware`: which bodies are sent a second time, and that what is sent is what was sent before."""

from __future__ import annotations

import asyncio
import io
import json
import os
import tempfile
import threading
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import attrs
import pytest
from aiohttp import payload

from tests.support.api_servers import UNAUTHORIZED, WireServer, authorized_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from tests.support.servers import TokenServer

    # Makes a request's options, anew for each request: a generator or a file serves once.
    Options = Callable[["Files"], dict[str, Any]]

OFFSET = 7
MARK = "Grüße, Jürgen ❤ +&=% "
SHORT = (MARK * 3).encode()
# Several reads of any file, several writes to any socket.
LONG = MARK.encode() * 30_000


@attrs.frozen
class Files:
    """Opens files that are closed when the test ends: aiohttp closes most of them, but not every kind."""

    path: Path
    stack: ExitStack

    def open(self, mode: str = "rb", **options: Any) -> Any:
        """Open a file that stands where its body begins: at an offset."""
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


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    path = tmp_path / "body"
    path.write_bytes(bytes(OFFSET) + LONG)
    with ExitStack() as stack:
        yield Files(path, stack)


def _urlencoded(_: Files) -> dict[str, Any]:
    form = aiohttp.FormData()
    form.add_field("field", SHORT.decode())
    form.add_field("other", "+&=")
    return {"data": form}


def _multipart(files: Files) -> dict[str, Any]:
    form = aiohttp.FormData()
    form.add_field("field", SHORT.decode())
    form.add_field("bytes", SHORT, filename="a.bin", content_type="application/x-a")
    form.add_field("memory", io.BytesIO(SHORT), filename="b.bin")
    form.add_field("file", files.open(), filename="c.bin")
    form.add_field("text", files.open("r", encoding="utf-8"), filename="d.txt")
    return {"data": form}


def _nested(files: Files) -> dict[str, Any]:
    inner = aiohttp.MultipartWriter("mixed")
    inner.append(SHORT)
    inner.append(files.at_offset(io.BytesIO(bytes(OFFSET) + SHORT)))  # no file: aiohttp does not close nested ones
    inner.append_json({"text": SHORT.decode()})
    compressed = aiohttp.MultipartWriter("mixed")
    compressed.append(SHORT, {"Content-Encoding": "gzip"})
    compressed.append(SHORT, {"Content-Transfer-Encoding": "base64"})
    outer = aiohttp.MultipartWriter("related")
    outer.append(inner)
    outer.append(compressed)
    outer.append(SHORT.decode())
    outer.append(files.open())
    return {"data": outer}


class _FineBytes(bytes):
    pass


REPLAYABLE: dict[str, Options] = {
    "get": lambda _: {"method": "GET"},
    "no-body": lambda _: {},
    "empty": lambda _: {"data": b""},
    "bytes": lambda _: {"data": SHORT},
    "bytes-subclass": lambda _: {"data": _FineBytes(SHORT)},
    "bytearray": lambda _: {"data": bytearray(SHORT)},
    "memoryview": lambda _: {"data": memoryview(SHORT)},
    "str": lambda _: {"data": SHORT.decode()},
    "json": lambda _: {"json": {"text": SHORT.decode()}},
    "form": lambda _: {"data": {"field": SHORT.decode(), "other": "+&="}},
    "form-pairs": lambda _: {"data": [("field", SHORT.decode()), ("field", "+&=")]},
    "form-urlencoded": _urlencoded,
    "form-multipart": _multipart,
    "multipart-nested": _nested,
    "multipart-empty": lambda _: {"data": aiohttp.MultipartWriter("mixed")},
    "bytesio": lambda files: {"data": files.at_offset(io.BytesIO(bytes(OFFSET) + SHORT))},
    "bytesio-long": lambda _: {"data": io.BytesIO(LONG)},
    "stringio": lambda files: {"data": files.at_offset(io.StringIO("." * OFFSET + SHORT.decode()))},
    "file": lambda files: {"data": files.open()},
    "file-updating": lambda files: {"data": files.open("r+b")},
    "file-unbuffered": lambda files: {"data": files.open(buffering=0)},
    "file-chunked": lambda files: {"data": files.open(), "chunked": True},
    "file-put": lambda files: {"data": files.open(), "method": "PUT"},
    "file-spooled": lambda files: {"data": files.spooled()},
    "text-file": lambda files: {"data": files.open("r", encoding="utf-8")},
    "text-file-utf-16": lambda files: {
        "data": payload.TextIOPayload(files.open("r", encoding="utf-8"), encoding="utf-16-le")
    },
    "deflated": lambda _: {"data": SHORT, "compress": True},
    "deflated-by-name": lambda files: {"data": files.open(), "compress": "deflate"},
    "gzipped": lambda _: {"json": {"text": SHORT.decode()}, "compress": "gzip"},
    "chunked": lambda _: {"data": SHORT, "chunked": True},
    "chunked-bytesio": lambda _: {"data": io.BytesIO(LONG), "chunked": True},
}
if hasattr(payload, "JsonBytesPayload"):  # newer aiohttp
    REPLAYABLE["json-bytes"] = lambda _: {
        "data": payload.JsonBytesPayload({"text": MARK * 3}, dumps=lambda value: json.dumps(value).encode())
    }


async def _chunks() -> AsyncIterator[bytes]:
    yield SHORT[:10]
    yield SHORT[10:]


def _stream() -> aiohttp.StreamReader:
    protocol = aiohttp.base_protocol.BaseProtocol(asyncio.get_running_loop())
    stream = aiohttp.StreamReader(protocol, 2**16)
    stream.feed_data(SHORT)
    stream.feed_eof()
    return stream


class _UnseekableFile(io.RawIOBase):
    def __init__(self, content: bytes) -> None:
        self._rest = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._rest.read(size)


class _FileLike:
    """Not a file, but aiohttp can read it."""

    def __init__(self, content: bytes) -> None:
        self.read = io.BytesIO(content).read


class _OwnPayload(payload.BytesPayload):
    """A payload that can be written once, which nobody outside it can know."""

    async def write_with_length(self, writer: Any, content_length: int | None) -> None:
        await super().write_with_length(writer, content_length)
        self._value = b""


class _OwnFilePayload(payload.IOBasePayload):
    pass


class _OwnMultipart(aiohttp.MultipartWriter):
    pass


def _multipart_of(*parts: Any) -> aiohttp.MultipartWriter:
    multipart = aiohttp.MultipartWriter("mixed")
    for part in parts:
        multipart.append(part)
    return multipart


def _form_of(part: Any) -> aiohttp.FormData:
    form = aiohttp.FormData()
    form.add_field("bytes", SHORT, filename="bytes")
    form.add_field("part", part, filename="part")
    return form


def _own_multipart(_: Files) -> dict[str, Any]:
    multipart = _OwnMultipart("mixed")
    multipart.append(SHORT)
    return {"data": multipart}


UNREPEATABLE: dict[str, Options] = {
    "async-generator": lambda _: {"data": _chunks()},
    "pipe": lambda files: {"data": files.pipe()},
    "stream": lambda _: {"data": _stream()},
    "unseekable-file": lambda _: {"data": _UnseekableFile(SHORT)},
    "file-like": lambda _: {"data": payload.IOBasePayload(_FileLike(SHORT))},  # type: ignore[arg-type]  # that is the case
    "multipart-with-generator": lambda _: {"data": _multipart_of(SHORT, _chunks())},
    "multipart-with-pipe": lambda files: {"data": _multipart_of(SHORT, files.pipe(), SHORT)},
    "multipart-with-own": lambda _: {"data": _multipart_of(_OwnPayload(SHORT))},
    "multipart-nested": lambda _: {"data": _multipart_of(SHORT, _multipart_of(_multipart_of(_chunks())))},
    "form-with-pipe": lambda files: {"data": _form_of(files.pipe())},
    "form-with-unseekable": lambda _: {"data": _form_of(_UnseekableFile(SHORT))},
    "expect-100": lambda _: {"data": SHORT, "expect100": True},
    "expect-100-by-hand": lambda _: {"data": SHORT, "headers": {"expect": "100-Continue"}},
    "expect-100-file": lambda files: {"data": files.open(), "expect100": True},
    "own-payload": lambda _: {"data": _OwnPayload(SHORT)},
    "own-file-payload": lambda files: {"data": _OwnFilePayload(files.open())},
    "own-multipart": _own_multipart,
    "generator-deflated": lambda _: {"data": _chunks(), "compress": True},
}
# Bodies that no socket takes whole before their reader reads.
HUGE: dict[str, Callable[[], dict[str, Any]]] = {
    "bytes": lambda: {"data": LONG * 20},
    "bytesio": lambda: {"data": io.BytesIO(LONG * 20)},
    "multipart": lambda: {"data": _multipart_of(SHORT, io.BytesIO(LONG * 20), _multipart_of(SHORT))},
}


@asynccontextmanager
async def wire_and_session(
    token_server: TokenServer, reject: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None
) -> AsyncIterator[tuple[WireServer, aiohttp.ClientSession]]:
    """A server that rejects the first token, and a session for it; a hanging test ends by itself."""
    async with (
        WireServer(reject) as server,
        token_server.provider() as provider,
        authorized_session(provider, server.url) as session,
        asyncio.timeout(30),
    ):
        server.rejected.add("canary-token-1")
        yield server, session


async def send(session: aiohttp.ClientSession, url: str, *, method: str = "POST", **options: Any) -> tuple[int, str]:
    async with session.request(method, url, **options) as response:
        return response.status, await response.text()


def is_whole(content: bytes) -> bool:
    """Return whether *content* holds the text that every body here holds, in whatever form it was sent."""
    quoted = json.dumps(MARK)[1:-1].encode()
    return any(
        form in content
        for form in (MARK.encode() * 3, quoted * 3, MARK.encode("utf-16-le") * 3, b"%E2%9D%A4+%2B%26%3D%25+")
    )


# case 40
class TestReplay:
    @pytest.mark.parametrize("name", REPLAYABLE)
    async def test_identical(self, token_server: TokenServer, files: Files, name: str) -> None:
        """The second request is the first one, byte for byte, but for its token."""
        async with wire_and_session(token_server) as (server, session):
            answer = await send(session, server.url, **REPLAYABLE[name](files))

            assert ((200, "fine"), ["canary-token-1", "canary-token-2"]) == (answer, server.tokens)
        first, second = server.requests
        assert first.without_token == second.without_token
        assert is_whole(first.content) or name in {"get", "no-body", "empty", "multipart-empty"}
        assert len(token_server.requests) == 2

    @pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
    @pytest.mark.parametrize("name", HUGE)
    async def test_early_rejection(self, token_server: TokenServer, name: str) -> None:
        """So it is when the 401 comes before the body was sent, if the body is in memory: the replay has all of it."""
        async with wire_and_session(token_server) as (server, session):
            server.reads_body, server.reads_late = False, True
            answer = await send(session, server.url, **HUGE[name]())
            await server.has_read_late.wait()

            assert ((200, "fine"), ["canary-token-1", "canary-token-2"]) == (answer, server.tokens)
        assert LONG * 20 in server.requests[1].content


# case 41
class TestNoReplay:
    @pytest.mark.parametrize("name", UNREPEATABLE)
    async def test_rejection_comes_back(self, token_server: TokenServer, files: Files, name: str) -> None:
        """A body that cannot be sent again is sent once, whole; its 401 comes back, readable, and the token is done."""
        async with wire_and_session(token_server) as (server, session):
            answer = await send(session, server.url, **UNREPEATABLE[name](files))
            after_rejection = len(token_server.requests)
            later = await send(session, server.url)

            assert ((401, "rejected"), (200, "fine")) == (answer, later)
        assert ["canary-token-1", "canary-token-2"] == server.tokens
        assert (1, 2) == (after_rejection, len(token_server.requests))
        assert is_whole(server.requests[0].content)

    async def test_expectation_not_met(self, token_server: TokenServer) -> None:
        """A 401 in place of "100 Continue" comes back too, readable, and the body is never sent."""
        async with wire_and_session(token_server) as (server, session):
            server.reads_body = server.sends_continue = False
            answer = await send(session, server.url, data=SHORT, expect100=True)

            assert ((401, "rejected"), ["canary-token-1"]) == (answer, server.tokens)

    @pytest.mark.parametrize("name", ["async-generator", "expect-100", "own-payload"])
    async def test_accepted(self, token_server: TokenServer, files: Files, name: str) -> None:
        """With a token that is accepted such a body is sent like any other."""
        async with wire_and_session(token_server) as (server, session):
            server.rejected.clear()
            answer = await send(session, server.url, **UNREPEATABLE[name](files))

            assert ((200, "fine"), ["canary-token-1"]) == (answer, server.tokens)
        assert is_whole(server.requests[0].content)


class _SlowFile(io.RawIOBase):
    """A seekable file whose second read is still at work, in its thread, when the third begins."""

    def __init__(self) -> None:
        self._position = 0
        self._read_count = 0
        self.is_slow, self.may_end, self._has_ended = threading.Event(), threading.Event(), threading.Event()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        self._read_count += 1
        if self._read_count == 2:
            self.is_slow.set()
            self.may_end.wait(30)
            data = self._advance()
            self._has_ended.set()
            return data
        if self._read_count == 3:
            self.may_end.set()
            self._has_ended.wait(30)
        return self._advance()

    def _advance(self) -> bytes:
        start, self._position = self._position, self._position + 10_000
        return LONG[start : self._position]


# case 41
class TestNothingCorrupt:
    @pytest.mark.parametrize("name", ["file", "file-unbuffered", "text-file", "form-multipart"])
    async def test_unsent_file(self, token_server: TokenServer, files: Files, name: str) -> None:
        """A file whose sending an early 401 interrupts may still be read by a thread: the 401 comes back, readable."""
        files.path.write_bytes(bytes(OFFSET) + LONG * 20)
        async with wire_and_session(token_server) as (server, session):
            server.reads_body, server.reads_late = False, True
            answer = await send(session, server.url, **REPLAYABLE[name](files))
            later = await send(session, server.url)
            await server.has_read_late.wait()

            assert ((401, "rejected"), (200, "fine")) == (answer, later)
        assert ["canary-token-1", "canary-token-2"] == server.tokens

    @pytest.mark.parametrize("is_early", [False, True])
    async def test_iterated_text_file(self, token_server: TokenServer, files: Files, *, is_early: bool) -> None:
        """A text file that is being iterated over cannot tell its position: it is sent once, or whole again."""
        files.path.write_text("first\n" + MARK * 30_000, "utf-8")
        file = files.stack.enter_context(files.path.open(encoding="utf-8"))
        assert "first\n" == next(file)
        async with wire_and_session(token_server) as (server, session):
            server.reads_body = not is_early
            await send(session, server.url, data=file)

            assert "canary-token-1" == server.tokens[0]
        assert [] == [each.token for each in server.requests[is_early:] if each.content != LONG]

    async def test_slow_file(self, token_server: TokenServer) -> None:
        """A file that is still being read when an early 401 comes is not read by the replay at the same time."""
        file = _SlowFile()

        async def reject(writer: asyncio.StreamWriter) -> None:
            await asyncio.to_thread(file.is_slow.wait, 30)
            writer.write(UNAUTHORIZED)

        async with wire_and_session(token_server, reject) as (server, session):
            server.reads_body = False
            try:
                await send(session, server.url, data=file)
            finally:
                file.may_end.set()

        assert [] == [each.token for each in server.requests[1:] if each.content != LONG]
