"""`BearerAuthMiddleware`: which bodies are replayed, also after an early rejection, and that they arrive unchanged."""

from __future__ import annotations

import asyncio
import io
import json
import os
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import payload

from tests.support.api_servers import UNAUTHORIZED
from tests.support.bodies import (
    LONG,
    MARK,
    OFFSET,
    SHORT,
    Files,
    form_of_all_kinds,
    is_whole,
    multipart_of,
    send,
    wire_and_session,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    # Makes the options of one request: a generator or a file can be used only once.
    Options = Callable[["Files"], dict[str, Any]]


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


def _nested(files: Files) -> dict[str, Any]:
    inner = aiohttp.MultipartWriter("mixed")
    inner.append(SHORT)
    inner.append(files.at_offset(io.BytesIO(bytes(OFFSET) + SHORT)))  # not a file: aiohttp does not close nested ones
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
    "json-bytes": lambda _: {
        "data": payload.JsonBytesPayload({"text": MARK * 3}, dumps=lambda value: json.dumps(value).encode())
    },
    "form": lambda _: {"data": {"field": SHORT.decode(), "other": "+&="}},
    "form-urlencoded": _urlencoded,
    "form-multipart": form_of_all_kinds,
    "multipart-nested": _nested,
    "multipart-empty": lambda _: {"data": aiohttp.MultipartWriter("mixed")},
    "bytesio": lambda files: {"data": files.at_offset(io.BytesIO(bytes(OFFSET) + SHORT))},
    "bytesio-long": lambda _: {"data": io.BytesIO(LONG)},
    "stringio": lambda files: {"data": files.at_offset(io.StringIO("." * OFFSET + SHORT.decode()))},
    "file": lambda files: {"data": files.open()},
    "file-updating": lambda files: {"data": files.open("r+b")},
    "file-unbuffered": lambda files: {"data": files.open(buffering=0)},
    "file-chunked": lambda files: {"data": files.open(), "chunked": True},
    "file-spooled": lambda files: {"data": files.spooled()},
    "text-file": lambda files: {"data": files.open("r", encoding="utf-8")},
    "text-file-utf-16": lambda files: {
        "data": payload.TextIOPayload(files.open("r", encoding="utf-8"), encoding="utf-16-le")
    },
    "deflated": lambda _: {"data": SHORT, "compress": True},
    "gzipped": lambda _: {"json": {"text": SHORT.decode()}, "compress": "gzip"},
    "chunked": lambda _: {"data": SHORT, "chunked": True},
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
    """An object with `read()` that is not a file."""

    def __init__(self, content: bytes) -> None:
        self.read = io.BytesIO(content).read


class _OwnPayload(payload.BytesPayload):
    """A payload that can be written only once, although its base class can be repeated."""

    async def write_with_length(self, writer: Any, content_length: int | None) -> None:
        await super().write_with_length(writer, content_length)
        self._value = b""


class _OwnFilePayload(payload.IOBasePayload):
    pass


class _OwnMultipart(aiohttp.MultipartWriter):
    pass


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
    "file-like": lambda _: {"data": payload.IOBasePayload(_FileLike(SHORT))},  # type: ignore[arg-type]  # not a file
    "multipart-with-generator": lambda _: {"data": multipart_of(SHORT, _chunks())},
    "multipart-with-own": lambda _: {"data": multipart_of(_OwnPayload(SHORT))},
    "multipart-nested": lambda _: {"data": multipart_of(SHORT, multipart_of(multipart_of(_chunks())))},
    "form-with-pipe": lambda files: {"data": _form_of(files.pipe())},
    "expect-100": lambda _: {"data": SHORT, "expect100": True},
    "expect-100-by-hand": lambda _: {"data": SHORT, "headers": {"expect": "100-Continue"}},
    "own-payload": lambda _: {"data": _OwnPayload(SHORT)},
    "own-file-payload": lambda files: {"data": _OwnFilePayload(files.open())},
    "own-multipart": _own_multipart,
}


class TestReplay:
    @pytest.mark.parametrize("name", REPLAYABLE)
    async def test_identical(self, files: Files, name: str) -> None:
        """The replay is identical to the first request except for its token."""
        async with wire_and_session() as (server, session):
            response = await send(session, server.url, **REPLAYABLE[name](files))

            assert ((200, "fine"), ["canary-token-1", "canary-token-2"]) == (response, server.tokens)
        first, second = server.requests
        assert first.without_token == second.without_token
        assert is_whole(first.content) or name in {"get", "no-body", "empty", "multipart-empty"}


class TestNoReplay:
    @pytest.mark.parametrize("name", UNREPEATABLE)
    async def test_rejection_is_returned(self, files: Files, name: str) -> None:
        """A body that cannot be repeated is sent once; its 401 is returned readable, and the token is replaced."""
        async with wire_and_session() as (server, session):
            response = await send(session, server.url, **UNREPEATABLE[name](files))
            later = await send(session, server.url)

            assert ((401, "rejected"), (200, "fine")) == (response, later)
        assert ["canary-token-1", "canary-token-2"] == server.tokens
        assert is_whole(server.requests[0].content)


HUGE_BODY = LONG * 8
# Bodies larger than any socket buffer.
HUGE: dict[str, Options] = {
    "bytes": lambda _: {"data": HUGE_BODY},
    "bytesio": lambda _: {"data": io.BytesIO(HUGE_BODY)},
    "file": lambda files: {"data": files.open()},
    "file-chunked": lambda files: {"data": files.open(), "chunked": True},
    "multipart-files": lambda files: {"data": multipart_of(SHORT, files.open(), files.open("r", encoding="utf-8"))},
    "form": form_of_all_kinds,
}


@pytest.fixture
def huge_files(files: Files) -> Files:
    files.path.write_bytes(bytes(OFFSET) + HUGE_BODY)
    return files


@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
class TestEarlyRejection:
    @pytest.mark.parametrize("name", HUGE)
    async def test_server_that_reads_late(self, huge_files: Files, name: str) -> None:
        """Every kind of large body is replayed whole after a 401 that was sent before the body was read."""
        async with wire_and_session() as (server, session):
            server.reads_body, server.reads_late = False, True
            response = await send(session, server.url, **HUGE[name](huge_files))
            await server.has_read_late.wait()

            assert ((200, "fine"), ["canary-token-1", "canary-token-2"]) == (response, server.tokens)
        assert HUGE_BODY in server.requests[1].content


class _SlowFile(io.RawIOBase):
    """A seekable file whose second read blocks its thread until `may_end` is set."""

    def __init__(self) -> None:
        self._position = 0
        self._read_count = 0
        self._reading = 0
        self.has_overlapped = False
        self.is_slow, self.may_end = threading.Event(), threading.Event()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        self.has_overlapped = self.has_overlapped or self._reading > 0
        self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        self._reading += 1
        self._read_count += 1
        if self._read_count == 2:
            self.is_slow.set()
            self.may_end.wait(30)
        start, self._position = self._position, self._position + 100_000
        self._reading -= 1
        return LONG[start : self._position]


@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
class TestSlowFile:
    @pytest.mark.parametrize(
        "text", [UNAUTHORIZED, UNAUTHORIZED.replace(b"Length: 0", b"Length: 9")], ids=["complete", "incomplete"]
    )
    async def test_replay(self, text: bytes) -> None:
        """The replay waits until the thread that still reads the file is done, even if the 401 is incomplete."""
        file = _SlowFile()

        async def reject(writer: asyncio.StreamWriter) -> None:
            await asyncio.to_thread(file.is_slow.wait, 30)
            writer.write(text)

        async def let_it_end() -> None:
            await server.has_read_late.wait()  # the client has closed the connection of the rejection
            for _ in range(1_000):  # enough turns for a replay that does not wait to start
                await asyncio.sleep(0)
            file.may_end.set()

        async with wire_and_session(reject) as (server, session), asyncio.TaskGroup() as group:
            server.reads_body = False
            group.create_task(let_it_end())
            response = await send(session, server.url, data=file)

        assert ((200, "fine"), False) == (response, file.has_overlapped)
        assert LONG == server.requests[1].content

    async def test_cancelled(self) -> None:
        """Cancelling a request while its replay waits for the file prevents the replay."""
        file = _SlowFile()

        async def reject(writer: asyncio.StreamWriter) -> None:
            await asyncio.to_thread(file.is_slow.wait, 30)
            writer.write(UNAUTHORIZED)

        async with wire_and_session(reject) as (server, session):
            server.reads_body = False
            request = asyncio.create_task(send(session, server.url, data=file))
            await server.has_read_late.wait()
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            uploads = [task for task in asyncio.all_tasks() if "write_bytes" in repr(task.get_coro())]
            file.may_end.set()
            await asyncio.wait(uploads)

        assert ["canary-token-1"] == server.tokens

    async def test_iterated_text_file(self, files: Files) -> None:
        """The 401 of a text file that is being iterated, and so has no position, is returned."""
        files.path.write_text("first\n" + MARK * 30_000, "utf-8")
        file = files.stack.enter_context(files.path.open(encoding="utf-8"))
        assert "first\n" == next(file)
        async with wire_and_session() as (server, session):
            server.reads_body = False
            status, _ = await send(session, server.url, data=file)

        assert (401, ["canary-token-1"]) == (status, server.tokens)
