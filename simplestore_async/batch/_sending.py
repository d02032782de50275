"""A request until it has a result. Rule: what may have taken effect is never sent again, unless that does no harm.

RFC 9110 9.2.2 also allows to repeat idempotent requests, for clients that know that no one else changes the same
resource. A batch does not know, and repeats requests that are safe (9.2.1), that carry an idempotency key, that were
not sent, or that the API put off (429, RFC 6585 4).
"""
# aiohttp has no public names for some attributes of a session.
# pyright: reportPrivateUsage=false
# ruff: noqa: SLF001

from __future__ import annotations

import asyncio
import copy
import time
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Literal, TypeAlias

import aiohttp
import attrs
from aiohttp import ClientResponse, ClientSession, hdrs

from simplestore_async._core.proxied_request import fixed_proxy_class
from simplestore_async._core.transport_errors import describe_transport_error
from simplestore_async._core.wire import parse_retry_after
from simplestore_async.errors import ConfigurationError, SimpleStoreError

from ._gate import Gate
from ._json import read_body
from ._lines import find_url
from ._values import BatchPolicy, BatchRequest, BatchResult
from ._writer import Writer

if TYPE_CHECKING:
    from http.cookies import BaseCookie

    from aiohttp import ClientHandlerType, ClientRequest
    from aiohttp.abc import AbstractCookieJar
    from yarl import URL

    from ._values import Outcome

__all__ = ["Sender", "base_url_of", "copy_session", "interrupted_result"]

Action: TypeAlias = Literal["end", "wait", "retry"]

_LONGEST_BACKOFF_SECONDS: Final = 30.0
_MOST_BYTES: Final = 16 << 20
_LARGE_BYTES: Final = 1 << 20
_LARGE_AT_ONCE: Final = 2
_NOTHING_ADDED: Final = frozenset({hdrs.CONTENT_TYPE})


def base_url_of(session: ClientSession) -> URL:
    """Return the session's base URL.

    Raises:
        ConfigurationError: if it has none.
    """
    if session._base_url is None:
        raise ConfigurationError("session", "must have a base_url, to which paths are relative")
    return session._base_url


def copy_session(session: ClientSession, *, timeout_seconds: float) -> ClientSession:
    """Return a copy over the same connections, to be detached and not closed.

    It keeps no cookies of responses, looks up its proxy once, and repeats no PUT or DELETE of its own accord.
    """
    if not hasattr(session, "_retry_connection"):
        raise AssertionError(f"aiohttp {aiohttp.__version__} repeats requests in another way")
    own = copy.copy(session)
    own._retry_connection = False
    own._cookie_jar = _FixedCookies(session.cookie_jar)
    own._request_class = fixed_proxy_class(session._request_class, base_url_of(session))
    own._timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=30.0)
    return own


class _FixedCookies(aiohttp.DummyCookieJar):
    """The caller's cookies, to which responses add none."""

    def __init__(self, cookies: AbstractCookieJar) -> None:
        super().__init__()
        self._cookies = cookies

    def filter_cookies(self, request_url: URL) -> BaseCookie[str]:
        return self._cookies.filter_cookies(request_url)


@attrs.frozen
class _Response:
    """A whole response; *problem* is why its body is not there."""

    head: ClientResponse = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    problem: str = ""

    @property
    def retry_after_seconds(self) -> float | None:
        headers = self.head.headers
        if hdrs.RETRY_AFTER not in headers:
            return None
        return parse_retry_after(headers[hdrs.RETRY_AFTER], date=headers.get(hdrs.DATE), now=time.time())


@attrs.define
class _Progress:
    """State of a request that is being sent; also its innermost middleware.

    Attributes:
        request: the request, with its idempotency key.
        began_at: when that began, by the event loop's clock.
        started_at: the same as POSIX time.
        sent_at: when the last attempt began, by the event loop's clock.
        attempts: how many times it was sent, or may have been.
        is_begun: whether the database says that it was begun.
        has_left: whether the last attempt may have reached the API, and was not rejected for its token.
    """

    request: BatchRequest
    began_at: float
    started_at: float = attrs.field(factory=time.time)
    sent_at: float = 0.0
    attempts: int = 0
    is_begun: bool = False
    has_left: bool = False

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        send = request.send

        async def send_noted(connection: Any) -> ClientResponse:
            self.has_left = True
            return await send(connection)

        self.has_left = False
        # Not by a trace, which would take a quarter of the time that a request takes.
        request.send = send_noted  # type: ignore[method-assign, assignment]  # its one caller has a connection by then
        try:
            response = await handler(request)
        finally:
            del request.send  # else the request would be left to the garbage collector
        if not self.has_left:
            raise AssertionError(f"aiohttp {aiohttp.__version__} sends requests in another way")
        if response.status == 401:  # rejected before it took effect
            self.has_left = False
        return response


def _judge(
    end: _Response | Exception, *, has_left: bool, is_safe: bool, may_repeat: bool
) -> tuple[Action, Outcome, bool]:
    """Return what follows an attempt, the outcome if that is its result, and whether the server failed.

    `"end"`: it has its result. `"wait"`: it had no effect, and the whole batch waits before it is sent again.
    `"retry"`: it is repeated as long as attempts are left.
    """
    repeated: Action = "retry" if may_repeat else "end"
    if isinstance(end, _Response):
        return _judge_status(end.head.status, lost="refused" if is_safe else "unknown", repeated=repeated)
    if isinstance(end, SimpleStoreError):
        # A token is obtained before the request is sent; also after a rejection, which precedes any effect.
        return "wait", "failed", True
    if has_left:
        return repeated, "failed" if is_safe else "unknown", True
    if isinstance(end, aiohttp.ClientError | TimeoutError) and not isinstance(end, ValueError):
        return "wait", "failed", True
    return "end", "failed", False  # an impossible URL; a file that cannot be opened


def _judge_status(status: int, *, lost: Outcome, repeated: Action) -> tuple[Action, Outcome, bool]:
    if 200 <= status < 300:
        return "end", "succeeded", False
    if status == 429:
        return "wait", "refused", True
    if status == 401:  # the token was replaced already, and that one rejected, too
        return "end", "refused", True
    if status == 408 or (status >= 500 and status not in {501, 505}):
        # 408 and 503 say that the request was not handled; 500, a gateway's 502 and 504, and others do not.
        return repeated, "refused" if status in {408, 503} else lost, True
    return "end", "refused", False


def interrupted_result(request: BatchRequest) -> BatchResult:
    """Return the result of a request that an earlier run may have sent."""
    return BatchResult(
        request=request,
        outcome="unknown",
        error_type="InterruptedError",
        error_message="interrupted while sending in an earlier run; check whether it took effect, or resend it",
    )


@attrs.frozen(kw_only=True, repr=False)
class Sender:
    """Send requests, on one event loop.

    Attributes:
        session: the batch's own session.
        gate: when requests may be sent.
        writer: records them, if the batch has a database.
        policy: limits and retries.
        batch_id: what idempotency keys are derived from.
    """

    session: ClientSession
    gate: Gate
    writer: Writer | None
    policy: BatchPolicy
    batch_id: uuid.UUID
    _large: asyncio.Semaphore = attrs.field(init=False, factory=lambda: asyncio.Semaphore(_LARGE_AT_ONCE))
    _now: Callable[[], float] = attrs.field(init=False, factory=lambda: asyncio.get_running_loop().time)

    async def send(self, request: BatchRequest) -> BatchResult | None:
        """Return the result of a request; None if the batch ends first, and it can be sent later.

        Cancellation ends it at once; the result is unknown then, if the request may have taken effect.

        Raises:
            BatchDatabaseError: if it cannot be recorded.
            TokenError: if no token can be obtained.
            ConfigurationError: if the API's certificate is not trusted.
        """
        run = _Progress(self._with_key(request), self._now())
        may_repeat = self.policy.may_repeat(request)
        delay_seconds = 0.0
        while await self.gate.enter(delay_seconds=delay_seconds):
            run.sent_at, run.has_left = self._now(), False
            try:
                if self.writer and not run.is_begun and not request.is_safe:
                    run.is_begun = True
                    await self.writer.begin(request)
                end = await self._attempt(run)
            except asyncio.CancelledError:
                return self._interrupt(run, may_repeat=may_repeat)
            asked_seconds = None
            if isinstance(end, _Response):
                run.attempts += 1
                asked_seconds = end.retry_after_seconds
            else:
                self._raise_terminal(end, run)
                run.attempts += run.has_left
            action, outcome, is_failure = _judge(
                end, has_left=run.has_left, is_safe=request.is_safe, may_repeat=may_repeat
            )
            self.gate.leave(
                self._describe(end) if is_failure or asked_seconds is not None else "",
                sent_at=run.sent_at,
                is_failure=is_failure,
                is_general=action == "wait",
                asked_seconds=asked_seconds,
            )
            # An outage ends the batch; a request that is put off alone has its result in the end.
            is_patient = isinstance(end, Exception) or self._now() - run.began_at < self.policy.patience_seconds
            if action == "wait" and is_patient:
                self._release(run)
                delay_seconds = 0.0
            elif action == "retry" and run.attempts < self.policy.attempts:
                delay_seconds = min(self.policy.backoff_seconds * 2.0 ** (run.attempts - 1), _LONGEST_BACKOFF_SECONDS)
            else:
                return self._result(run, end, outcome)
        return None

    async def _attempt(self, run: _Progress) -> _Response | Exception:
        """Send a request once; return the response or the error. A redirect is a response."""
        try:
            if not isinstance(run.request.body, Path):
                return await self._exchange(run, run.request.body)
            file = await asyncio.to_thread(run.request.body.open, "rb")
            try:
                return await self._exchange(run, file)
            finally:
                file.close()
        except (SimpleStoreError, aiohttp.ClientError, OSError, ValueError) as error:
            return error

    async def _exchange(self, run: _Progress, body: bytes | IO[bytes] | None) -> _Response:
        request = run.request
        # A body's type is what the line says, or nothing. Skipping a header costs time even where it is set.
        is_typed = body is None or any(name.lower() == "content-type" for name, _ in request.headers)
        async with self.session.request(
            request.method,
            find_url(request.path, base_url=base_url_of(self.session)),
            data=body,
            headers=request.headers or None,
            skip_auto_headers=None if is_typed else _NOTHING_ADDED,
            allow_redirects=False,
            raise_for_status=False,
            middlewares=(*self.session._middlewares, run),
        ) as response:
            return await self._read(response)

    async def _read(self, response: ClientResponse) -> _Response:
        """Read the body; large ones a few at a time, and the largest not at all."""
        length = response.content_length
        if length is not None and length <= _LARGE_BYTES and hdrs.CONTENT_ENCODING not in response.headers:
            return _Response(response, await response.read())
        async with AsyncExitStack() as stack:
            body = bytearray()
            async for part in response.content.iter_any():
                if len(body) <= _LARGE_BYTES < len(body) + len(part):
                    await stack.enter_async_context(self._large)
                body += part
                if len(body) > _MOST_BYTES:
                    response.close()
                    return _Response(response, b"", f"the response body is longer than {_MOST_BYTES >> 20} MiB")
            return _Response(response, bytes(body))

    def _raise_terminal(self, error: Exception, run: _Progress) -> None:
        """Raise an error that every request of the batch would meet."""
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            error = ConfigurationError("ssl", f"does not trust the API's certificate: {self._describe(error)}")
        if isinstance(error, SimpleStoreError) and not error.retryable:
            self._release(run)
            raise error

    def _release(self, run: _Progress) -> None:
        """Record that a request had no effect."""
        if self.writer and run.is_begun:
            self.writer.release(run.request)
        run.is_begun = False

    def _interrupt(self, run: _Progress, *, may_repeat: bool) -> BatchResult | None:
        """Return the result of a request whose attempt was cancelled."""
        if not run.has_left and not (may_repeat and run.attempts):
            self._release(run)
            return None
        interrupted = InterruptedError("interrupted while sending; check whether it took effect")
        return None if may_repeat else self._result(run, interrupted, "unknown")

    def _result(self, run: _Progress, end: _Response | Exception, outcome: Outcome) -> BatchResult:
        facts: dict[str, Any] = {}
        if isinstance(end, _Response):
            chosen = (hdrs.LOCATION, *self.policy.response_headers)
            headers = end.head.headers
            facts["status"] = end.head.status
            facts["headers"] = {name: ", ".join(headers.getall(name)) for name in chosen if name in headers}
            facts["body_text"], facts["body_format"] = read_body(end.body, headers.get(hdrs.CONTENT_TYPE, ""))
            if end.problem:
                facts["error_type"], facts["error_message"] = "ResponseTooLongError", end.problem
        else:
            facts["error_type"], facts["error_message"] = type(end).__name__, self._describe(end)
        return BatchResult(
            request=run.request,
            outcome=outcome,
            attempts=run.attempts,
            started_at=run.started_at,
            duration_seconds=round(self._now() - run.began_at, 6),
            **facts,
        )

    def _describe(self, end: _Response | Exception) -> str:
        """Return the end of an attempt, on one line."""
        if isinstance(end, _Response):
            return f"the API responded {end.head.status}"
        if isinstance(end, TimeoutError) and not str(end):
            return f"no complete response within {self.policy.timeout_seconds:g} s"
        if isinstance(end, aiohttp.ClientConnectorError):
            return describe_transport_error(end)
        return " ".join(str(end).split()) or type(end).__name__

    def _with_key(self, request: BatchRequest) -> BatchRequest:
        """Return the request with its idempotency key, unless the header is there already."""
        name = self.policy.idempotency_key
        if name is None or request.is_safe or any(each.lower() == name.lower() for each, _ in request.headers):
            return request
        key = uuid.uuid5(self.batch_id, f"{request.line} {request.id!r}")
        return attrs.evolve(request, headers=(*request.headers, (name, str(key))))
