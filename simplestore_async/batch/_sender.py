"""A request until it has a result. Rule: what may have taken effect is never sent again, unless that does no harm."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import attrs
from aiohttp import hdrs

from simplestore_async.errors import ConfigurationError, SimpleStoreError

from ._json import read_body
from ._sending import Attempt, Response, describe_error
from ._values import BatchRequest, BatchResult
from ._verdict import judge

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

    from ._gate import Gate
    from ._values import BatchPolicy, Outcome
    from ._verdict import Verdict
    from ._writer import Writer

__all__ = ["Sender", "interrupted_result"]

_LONGEST_BACKOFF_SECONDS: Final = 30.0
_LARGE_AT_ONCE: Final = 2


def interrupted_result(request: BatchRequest) -> BatchResult:
    """Return the result of a request that an earlier run may have sent."""
    return BatchResult(
        request=request,
        outcome="unknown",
        error_type="InterruptedError",
        error_message="interrupted while sending in an earlier run; check whether it took effect, or resend it",
    )


class Sender:
    """Carry out requests, on one event loop.

    Args:
        session: the batch's own session.
        gate: when requests may be sent.
        writer: records them, if the batch has a database.
        policy: limits and retries.
        batch_id: what idempotency keys are derived from.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        gate: Gate,
        writer: Writer | None,
        policy: BatchPolicy,
        batch_id: uuid.UUID,
    ) -> None:
        self._session = session
        self._gate = gate
        self._writer = writer
        self._policy = policy
        self._batch_id = batch_id
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._now = asyncio.get_running_loop().time

    async def carry_out(self, request: BatchRequest) -> BatchResult | None:
        """Return the result of a request; None if the batch ends first, and it can be sent later.

        Cancellation ends it at once; the result is unknown then, if the request may have taken effect.
        """
        run = _Progress(self._with_key(request), started_at=time.time(), began_at=self._now())
        delay_seconds = 0.0
        while await self._gate.enter(delay_seconds=delay_seconds):
            run.sent_at = self._now()
            needs_record = self._writer is not None and not run.is_begun and not request.is_safe
            end = await self._attempt(run) if not needs_record or await self._begin(run) else None
            if end is None:
                self._gate.leave(sent_at=run.sent_at, is_success=False)
                return self._interrupt(run)
            verdict = judge(
                end, has_left=run.has_left, is_safe=request.is_safe, may_repeat=self._policy.may_repeat(request)
            )
            run.attempts += run.has_left or isinstance(end, Response)
            self._note(end, verdict, sent_at=run.sent_at)
            if verdict.action == "halt":
                self._gate.close(self._as_error(end))
                self._release(run)
                return None
            # An outage ends the batch; a request that is put off alone has its result in the end.
            is_patient = isinstance(end, Exception) or self._now() - run.began_at < self._policy.patience_seconds
            if verdict.action == "wait" and is_patient:
                self._release(run)
                delay_seconds = 0.0
            elif verdict.action == "retry" and run.attempts < self._policy.attempts:
                delay_seconds = min(self._policy.backoff_seconds * 2.0 ** (run.attempts - 1), _LONGEST_BACKOFF_SECONDS)
            else:
                return self._result(run, end, verdict.outcome)
        return None

    async def _begin(self, run: _Progress) -> bool:
        """Record that a request will be sent; return whether it may be."""
        assert self._writer is not None  # noqa: S101 - as the caller has seen
        run.is_begun = True
        try:
            await self._writer.begin(run.request)
        except asyncio.CancelledError:
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing can be recorded
            self._gate.close(error)
            return False
        return True

    async def _attempt(self, run: _Progress) -> Response | Exception | None:
        """Send a request once; return what came of it, or None if that was cancelled."""
        run.attempt = Attempt(run.request, session=self._session, large=self._large)
        try:
            return await run.attempt.send()
        except (SimpleStoreError, aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return error
        except asyncio.CancelledError:
            return None

    def _note(self, end: Response | Exception, verdict: Verdict, *, sent_at: float) -> None:
        """Let the whole batch wait if that is what it takes."""
        self._gate.leave(sent_at=sent_at, is_success=not verdict.is_failure)
        asked_seconds = end.retry_after_seconds if isinstance(end, Response) else None
        if verdict.is_failure:
            reason = self._describe(end)
            self._gate.fail(reason, sent_at=sent_at, is_general=verdict.is_general, asked_seconds=asked_seconds)
        elif asked_seconds is not None:
            self._gate.pause(self._describe(end), sent_at=sent_at, asked_seconds=asked_seconds)

    def _release(self, run: _Progress) -> None:
        """Record that a request had no effect."""
        if self._writer and run.is_begun:
            self._writer.release(run.request)
        run.is_begun = False

    def _interrupt(self, run: _Progress) -> BatchResult | None:
        """Return the result of a request whose attempt was cancelled."""
        if not run.has_left and not run.attempts:
            self._release(run)
            return None
        if self._policy.may_repeat(run.request):
            return None
        return self._result(run, InterruptedError("interrupted while sending; check whether it took effect"), "unknown")

    def _result(self, run: _Progress, end: Response | Exception, outcome: Outcome) -> BatchResult:
        facts: dict[str, Any] = {}
        if isinstance(end, Response):
            facts["status"] = end.head.status
            facts["headers"] = self._chosen(end.head.headers)
            facts["body_text"], facts["body_format"] = read_body(end.body, end.head.content_type)
            if end.problem:
                facts["error_type"], facts["error_message"] = "ResponseTooLongError", end.problem
        else:
            facts["error_type"], facts["error_message"] = type(end).__name__.lstrip("_"), self._describe(end)
        return BatchResult(
            request=run.request,
            outcome=outcome,
            attempts=run.attempts,
            started_at=run.started_at,
            duration_seconds=round(self._now() - run.began_at, 6),
            **facts,
        )

    def _chosen(self, headers: CIMultiDictProxy[str]) -> dict[str, str]:
        chosen = (hdrs.LOCATION, *self._policy.response_headers)
        return {name: ", ".join(headers.getall(name)) for name in chosen if name in headers}

    def _with_key(self, request: BatchRequest) -> BatchRequest:
        """Return the request with its idempotency key, unless the header is there already."""
        name = self._policy.idempotency_key
        if name is None or request.is_safe or any(each.lower() == name.lower() for each, _ in request.headers):
            return request
        key = uuid.uuid5(self._batch_id, f"{request.line} {request.id!r}")
        return attrs.evolve(request, headers=(*request.headers, (name, str(key))))

    def _describe(self, end: Response | Exception) -> str:
        if isinstance(end, Response):
            return f"the API responded {end.head.status}"
        return describe_error(end, timeout_seconds=self._policy.timeout_seconds)

    def _as_error(self, end: Response | Exception) -> Exception:
        if isinstance(end, SimpleStoreError):
            return end
        return ConfigurationError("ssl", f"does not trust the API's certificate: {self._describe(end)}")


@attrs.define
class _Progress:
    """State of a request that is being carried out.

    Attributes:
        request: the request, with its idempotency key.
        started_at: POSIX time of its start.
        began_at: the same by the event loop's clock.
        sent_at: when the last attempt began, by the event loop's clock.
        attempts: how many times it was sent, or may have been.
        is_begun: whether the database says that it was begun.
        attempt: the last attempt.
    """

    request: BatchRequest
    started_at: float
    began_at: float
    sent_at: float = 0.0
    attempts: int = 0
    is_begun: bool = False
    attempt: Attempt | None = None

    @property
    def has_left(self) -> bool:
        """Whether the last attempt may have reached the API."""
        return self.attempt is not None and self.attempt.has_left
