"""One attempt. Rule: it is sent once, by nobody's retry but the batch's own, and what comes of it is a value."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs
from aiohttp import ClientResponse, ClientTimeout, hdrs

from simplestore_async._core.target import find_target
from simplestore_async._core.wire import parse_retry_after

from ._results import read_body
from ._values import BatchResult

if TYPE_CHECKING:
    from collections.abc import Generator

    from aiohttp import ClientSession

    from ._values import BatchRequest

__all__ = ["Answer", "describe_error", "send_once", "without_own_retries"]

_MOST_BYTES: Final = 16 << 20
_LIMITS: Final = ClientTimeout(total=None, sock_connect=30.0)
_NOTHING_ADDED: Final = frozenset({hdrs.CONTENT_TYPE})


@attrs.define
class Answer:
    """What the API answered.

    Attributes:
        response: the answer's head.
        body: all of its body.
        problem: what is missing of that, if anything is.
    """

    response: ClientResponse = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    problem: str | None

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.response.status

    @property
    def is_success(self) -> bool:
        """Whether the API did what it was asked for (RFC 9110 15.3)."""
        return 200 <= self.status < 300

    @property
    def is_plain(self) -> bool:
        """Whether it is a success, and the API asks for nothing besides."""
        return self.is_success and hdrs.RETRY_AFTER not in self.response.headers

    @property
    def retry_after_seconds(self) -> float | None:
        """How long the API asks to be left alone, if it does."""
        headers = self.response.headers
        if hdrs.RETRY_AFTER not in headers:
            return None
        return parse_retry_after(headers[hdrs.RETRY_AFTER], date=headers.get(hdrs.DATE), now=time.time())

    def result_of(self, request: BatchRequest, *, attempts: int, duration_seconds: float) -> BatchResult:
        """Return the result that it gives a request."""
        body, body_format = None, None
        if self.body:
            body, body_format = read_body(self.body, content_type=self.response.content_type)
        return BatchResult(
            id=request.id,
            line=request.line,
            outcome="succeeded" if self.is_success else "refused",
            status=self.status,
            location=self.response.headers.get(hdrs.LOCATION),
            body=body,
            body_format=body_format,
            error_type=self.problem and "AnswerTooLongError",
            error_message=self.problem,
            attempts=attempts,
            duration_seconds=duration_seconds,
        )


async def send_once(session: ClientSession, request: BatchRequest) -> Answer:
    """Send a request, and return the answer; redirects are answers. How long it may take is the caller's to say.

    Raises:
        SimpleStoreError: if no token can be had.
        aiohttp.ClientError: if no complete answer came.
        TimeoutError: if no connection came in time.
    """
    # A body says itself what it is, or nothing. To skip a header that is there anyway takes time all the same.
    is_said = request.body is None or any(name.lower() == "content-type" for name, _ in request.headers)
    async with session.request(
        request.method,
        find_target(request.path),
        data=request.body,
        headers=request.headers or None,
        skip_auto_headers=None if is_said else _NOTHING_ADDED,
        allow_redirects=False,
        raise_for_status=False,
        timeout=_LIMITS,
    ) as response:
        return Answer(response, *await _read_bounded(response))


async def _read_bounded(response: ClientResponse) -> tuple[bytes, str | None]:
    """Return the body, and nothing of one that is too long to be kept in memory, but why."""
    length = response.content_length
    if length is not None and length <= _MOST_BYTES and hdrs.CONTENT_ENCODING not in response.headers:
        return await response.read(), None
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > _MOST_BYTES:
            response.close()
            return b"", f"the answer's body is longer than {_MOST_BYTES >> 20} MiB and was left out"
        parts.append(part)
    return b"".join(parts), None


def describe_error(error: BaseException, *, timeout_seconds: float) -> str:
    """Return what an error says, in one line."""
    if isinstance(error, TimeoutError) and not str(error):
        return f"no complete answer within {timeout_seconds:g} s"
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def without_own_retries(session: ClientSession) -> Generator[None]:
    """Keep aiohttp from sending a PUT or DELETE again by itself, after a connection broke."""
    before = session._retry_connection  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - there is no public way
    session._retry_connection = False  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - as above
    try:
        yield
    finally:
        session._retry_connection = before  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - as above
