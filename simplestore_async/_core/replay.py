"""Sending a request twice. Rule: the second request is identical to the first, except for token and cookies.

Whether a body can be sent twice is decided before it is sent once, by an allow-list of types.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import hdrs, payload

from .cookies import bounded, cookie_pairs

if TYPE_CHECKING:
    from io import IOBase

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.connector import Connection

__all__ = ["Replay", "find_replay", "retire_connection"]

# Exact types: the behaviour of subclasses is unknown.
_IN_MEMORY: Final = {
    payload.BytesIOPayload,
    payload.BytesPayload,
    payload.JsonBytesPayload,
    payload.JsonPayload,
    payload.StringIOPayload,
    payload.StringPayload,
}
_FILES: Final = {payload.BufferedReaderPayload, payload.BytesIOPayload, payload.IOBasePayload, payload.TextIOPayload}
# RFC 9110 §9.2.1: aiohttp resends these itself if a reused connection turns out to be closed.
_SAFE_METHODS: Final = {hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS, hdrs.METH_TRACE}


def find_replay(request: aiohttp.ClientRequest) -> Replay | None:
    """Return the replay of *request*, before it is sent; None if its body can be sent only once."""
    if hdrs.EXPECT in request.headers:
        return None  # the second send would wait for an interim response that has already arrived
    body = request.body
    if not body:
        return _FROM_MEMORY
    if not _is_repeatable(body):
        return None
    return _FROM_MEMORY if _is_in_memory(body) else Replay(_Upload(request))


class Replay:
    """Second request after a rejection."""

    def __init__(self, upload: _Upload | None = None) -> None:
        self._upload = upload

    async def prepare(self, request: aiohttp.ClientRequest, response: aiohttp.ClientResponse) -> None:
        """End the first exchange, whose *response* becomes unreadable, and take over its cookies."""
        _update_cookies(request, response)
        if _is_safe(request):
            # Released before the renewal: with a pool of one connection, the renewal would deadlock.
            response.release()
            return
        _abort_connection(request, response)
        response.close()
        with suppress(Exception):
            await request.close()  # waits for aiohttp's writer
        if self._upload is not None:
            await self._upload.wait()


_FROM_MEMORY: Final = Replay()


class _Upload:
    """Writing of a body that threads read: it ends with its last read, even if aiohttp cancels it.

    A cancelled writer would leave its thread reading, and the second send would share the file with it.
    """

    def __init__(self, request: aiohttp.ClientRequest) -> None:
        self._write = request.write_bytes
        self._task: asyncio.Task[None] | None = None
        request.write_bytes = self._run  # type: ignore[method-assign]

    async def _run(self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None) -> None:
        self._task = asyncio.create_task(self._write(writer, conn, content_length))
        self._task.add_done_callback(_retrieve_exception)
        try:
            await asyncio.shield(self._task)
        except asyncio.CancelledError:
            # The next write fails, and so the task ends.
            if conn.transport is not None:
                conn.transport.abort()
            conn.close()
            raise

    async def wait(self) -> None:
        """Wait until no thread reads the body."""
        if self._task is not None:
            await asyncio.wait([self._task])


def retire_connection(request: aiohttp.ClientRequest, response: aiohttp.ClientResponse) -> None:
    """Prevent the reuse of a rejection's connection; the caller can still read *response*.

    A server may close it after a rejection, and aiohttp never resends a POST.
    """
    if _is_safe(request):
        return
    if response.connection is not None and response.connection.protocol is not None:
        response.connection.protocol.force_close()
    else:
        _abort_connection(request, response)


def _is_safe(request: aiohttp.ClientRequest) -> bool:
    return request.method in _SAFE_METHODS and not request.body


def _abort_connection(request: aiohttp.ClientRequest, response: aiohttp.ClientResponse) -> None:
    """Close the connection of *response*, even if it has returned to the pool with the end of the response.

    It is aborted: a server that no longer reads the body would keep a closed connection open.
    """
    protocol = response._protocol  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - aiohttp has no public name
    if protocol is None or request.session.connector is None:
        return
    # If there is another inner middleware, another request may have taken it from the pool.
    in_use = request.session.connector._acquired  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - no public name
    if response.connection is not None or protocol not in in_use:
        protocol.abort()


def _retrieve_exception(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()


def _update_cookies(request: aiohttp.ClientRequest, response: aiohttp.ClientResponse) -> None:
    """Put the cookies of *response* into the session's jar and into *request*, as a redirect would."""
    lines = bounded(response.headers.getall(hdrs.SET_COOKIE, ()))
    if not lines:
        return
    jar = request.session.cookie_jar
    before = cookie_pairs(jar.filter_cookies(request.url).output(header="", sep=";"))
    jar.update_cookies_from_headers(lines, response.url)
    after = cookie_pairs(jar.filter_cookies(request.url).output(header="", sep=";"))
    # The caller's cookies take precedence over the jar's, as in aiohttp.
    own = {
        name: pair
        for name, pair in cookie_pairs(request.headers.get(hdrs.COOKIE, "")).items()
        if before.get(name) != pair
    }
    if pairs := after | own:
        request.headers[hdrs.COOKIE] = "; ".join(pairs.values())
    else:
        request.headers.pop(hdrs.COOKIE, None)


def _is_in_memory(body: object) -> bool:
    if type(body) is aiohttp.MultipartWriter:
        return all(_is_in_memory(part) for part, _, _ in body)
    return type(body) in _IN_MEMORY


def _is_repeatable(body: object) -> bool:
    if type(body) is aiohttp.MultipartWriter:
        return all(_is_repeatable(part) for part, _, _ in body)
    if isinstance(body, payload.IOBasePayload) and type(body) in _FILES:
        return _can_rewind(body._value)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - `size` is None for text
    return _is_in_memory(body)


def _can_rewind(file: IOBase) -> bool:
    try:
        file.tell()  # fails for a text file that is being iterated over
        return file.seekable()
    except (AttributeError, OSError, ValueError):
        return False
