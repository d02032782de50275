"""One attempt. Rule: it is sent once, by nobody's retry but the batch's own, and what comes of it is a value."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs
from aiohttp import ClientTimeout, hdrs

from simplestore_async._target import find_target
from simplestore_async._wire import parse_retry_after

from ._results import read_body
from ._values import BatchResult

if TYPE_CHECKING:
    from collections.abc import Generator

    from aiohttp import ClientResponse, ClientSession

    from ._values import BatchRequest, Outcome

__all__ = ["Answer", "describe_error", "send_once", "without_own_retries"]

_MOST_BYTES: Final = 16 << 20
_LIMITS: Final = ClientTimeout(total=None, sock_connect=30.0)
_NOTHING_ADDED: Final = frozenset({hdrs.CONTENT_TYPE})  # a body says itself what it is, or nothing


@attrs.frozen(kw_only=True)
class Answer:
    """What the API answered.

    Attributes:
        status: the HTTP status.
        location: the header Location, if there is one.
        body: what the body holds.
        body_format: how it is to be read.
        retry_after_seconds: how long the API asks to be left alone, if it does.
        problem: what is missing of the answer, if anything is.
    """

    status: int
    location: str | None = None
    body: Any = attrs.field(default=None, repr=False)
    body_format: Literal["json", "text", "base64"] | None = None
    retry_after_seconds: float | None = None
    problem: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is a success, and the API asks for nothing besides."""
        return 200 <= self.status < 300 and self.retry_after_seconds is None

    @property
    def outcome(self) -> Outcome:
        """What it means for the request."""
        return "succeeded" if 200 <= self.status < 300 else "refused"

    def result_of(self, request: BatchRequest, *, attempts: int, duration_seconds: float) -> BatchResult:
        """Return the result that it gives a request."""
        return BatchResult(
            id=request.id,
            line=request.line,
            outcome=self.outcome,
            status=self.status,
            location=self.location,
            body=self.body,
            body_format=self.body_format,
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
    async with session.request(
        request.method,
        find_target(request.path),
        data=request.body,
        headers=request.headers or None,
        skip_auto_headers=_NOTHING_ADDED if request.body is not None else None,
        allow_redirects=False,
        raise_for_status=False,
        timeout=_LIMITS,
    ) as response:
        body, problem = await _read_bounded(response)
    value, body_format = read_body(body, content_type=response.content_type) if body else (None, None)
    headers = response.headers
    retry_after_seconds = None
    if hdrs.RETRY_AFTER in headers:
        retry_after_seconds = parse_retry_after(headers[hdrs.RETRY_AFTER], date=headers.get(hdrs.DATE), now=time.time())
    return Answer(
        status=response.status,
        location=headers.get(hdrs.LOCATION),
        body=value,
        body_format=body_format,
        retry_after_seconds=retry_after_seconds,
        problem=problem,
    )


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
