"""`BearerAuthMiddleware`: rejections that arrive before the body is sent."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.api_servers import UNAUTHORIZED
from tests.support.bodies import (
    LONG,
    MARK,
    OFFSET,
    SHORT,
    Files,
    form_of_all_kinds,
    multipart_of,
    send,
    wire_and_session,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    # Makes the options of one request: a file can be used only once.
    Options = Callable[["Files"], dict[str, Any]]

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
HUGE_BODY = LONG * 8
# Bodies larger than any socket buffer.
HUGE: dict[str, Options] = {
    "bytes": lambda _: {"data": HUGE_BODY},
    "bytesio": lambda _: {"data": io.BytesIO(HUGE_BODY)},
    "file": lambda files: {"data": files.open()},
    "file-unbuffered": lambda files: {"data": files.open(buffering=0)},
    "file-deflated": lambda files: {"data": files.open(), "compress": True},
    "file-chunked": lambda files: {"data": files.open(), "chunked": True},
    "text-file": lambda files: {"data": files.open("r", encoding="utf-8")},
    "multipart": lambda _: {"data": multipart_of(SHORT, io.BytesIO(HUGE_BODY), multipart_of(SHORT))},
    "multipart-files": lambda files: {"data": multipart_of(SHORT, files.open(), files.open("r", encoding="utf-8"))},
    "form": form_of_all_kinds,
}


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    path = tmp_path / "body"
    path.write_bytes(bytes(OFFSET) + HUGE_BODY)
    with ExitStack() as stack:
        yield Files(path, stack)


async def _close_gracefully(writer: asyncio.StreamWriter) -> None:
    # A lingering close, as most servers do: a reset could overtake the response.
    writer.write(UNAUTHORIZED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    writer.write_eof()


class TestEarlyRejection:
    @pytest.mark.parametrize("name", HUGE)
    async def test_server_that_reads_late(self, files: Files, name: str) -> None:
        """Every kind of large body is replayed whole after a 401 that was sent before the body was read."""
        async with wire_and_session() as (server, session):
            server.reads_body, server.reads_late = False, True
            response = await send(session, server.url, **HUGE[name](files))
            await server.has_read_late.wait()

            assert ((200, "fine"), ["canary-token-1", "canary-token-2"]) == (response, server.tokens)
        assert HUGE_BODY in server.requests[1].content

    @pytest.mark.parametrize("name", ["bytesio", "file-chunked", "form"])
    async def test_server_that_closes(self, files: Files, name: str) -> None:
        """A large body is replayed whole after a 401 with `Connection: close`."""
        async with wire_and_session(_close_gracefully) as (server, session):
            server.reads_body = False
            response = await send(session, server.url, **HUGE[name](files))

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
