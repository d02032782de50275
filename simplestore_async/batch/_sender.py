"""A request until it has a result. Rule: what may have been done is never sent again; everything else is waited for."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import aiohttp

from simplestore_async.errors import BatchError, SimpleStoreError

from ._attempts import Action, Cause, action_after, cause_of_error, cause_of_status
from ._deadlines import Deadlines
from ._pace import Pace
from ._sending import Answer, describe_error, send_once
from ._values import BatchResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._values import BatchPolicy, BatchRequest

__all__ = ["Sender"]

_LONGEST_BACKOFF_SECONDS: Final = 30.0


class Sender:
    """Send requests at the pace of all of them. It belongs to one event loop.

    Attributes:
        stopping: set as soon as nothing more is to be begun.
        error: why that is, if something went wrong.
    """

    def __init__(
        self, session: aiohttp.ClientSession, *, policy: BatchPolicy, on_pause: Callable[[str, float], object]
    ) -> None:
        self.stopping = asyncio.Event()
        self.error: Exception | None = None
        self._session = session
        self._policy = policy
        self._deadlines = Deadlines(policy.timeout_seconds)
        self._on_pause = on_pause
        self._pace = Pace(policy.rate, first_pause_seconds=policy.backoff_seconds)
        self._now = asyncio.get_running_loop().time

    def close(self) -> None:
        """Forget what is not needed any more."""
        self._deadlines.close()

    def halt(self, error: Exception) -> None:
        """Let nothing more be begun; the first error is kept."""
        self.error = self.error or error
        self.stopping.set()

    async def wait_for_turn(self) -> bool:
        """Wait until the next request may go; return False if the batch ends first."""
        place = self._pace.book(self._now())
        while seconds := self._pace.seconds_to_wait(place, self._now()):
            if not await self._sleep(seconds):
                return False
        return True

    async def send(self, request: BatchRequest) -> BatchResult | None:
        """Return what comes of a request; None if the batch ends, and it was not sent, or would be safe to send."""
        attempts, began_at = 0, self._now()
        waiting_since: float | None = None
        while True:
            sent_at = self._now()
            end = await self._attempt(request)
            if isinstance(end, Answer) and end.is_plain:
                self._pace.resume(sent_at=sent_at)
                return end.result_of(request, attempts=attempts + 1, duration_seconds=self._seconds_since(began_at))
            cause = cause_of_status(end.status) if isinstance(end, Answer) else cause_of_error(end)
            attempts += cause not in {Cause.NOT_SENT, Cause.NEVER_SENT}
            action = action_after(cause, is_safe=request.is_safe)
            self._set_pace(end, action, sent_at=sent_at)
            if action is Action.WAIT:
                waiting_since = waiting_since or sent_at
                if self._now() - waiting_since < self._policy.patience_seconds:
                    if await self.wait_for_turn():
                        continue
                    return None
            elif action is Action.RETRY and attempts < self._policy.attempts:
                waiting_since = None
                if await self._sleep(self._backoff_after(attempts)) and await self.wait_for_turn():
                    continue
                return None
            if cause in {Cause.NOT_SENT, Cause.NEVER_SENT}:
                self.halt(self._as_halt(end))
                return None
            return self._result_of(request, end, attempts=attempts, duration_seconds=self._seconds_since(began_at))

    async def _attempt(self, request: BatchRequest) -> Answer | Exception:
        try:
            with self._deadlines:
                return await send_once(self._session, request)
        except (SimpleStoreError, aiohttp.ClientError, TimeoutError) as error:
            return error

    def _set_pace(self, end: Answer | Exception, action: Action, *, sent_at: float) -> None:
        """Let the whole batch wait if that is what it takes."""
        asked_seconds = end.retry_after_seconds if isinstance(end, Answer) else None
        if action is not Action.WAIT and asked_seconds is None:
            self._pace.resume(sent_at=sent_at)
            return
        if asked_seconds is not None and asked_seconds > self._policy.patience_seconds:
            # What was done is told first: this request may have its result all the same.
            self.halt(
                BatchError(
                    f"the API asks to be left alone for {asked_seconds:.0f} s (Retry-After), which is longer than "
                    f"{self._policy.patience_seconds:g} s: resume then"
                )
            )
        seconds = self._pace.pause(self._now(), sent_at=sent_at, asked_seconds=asked_seconds)
        if seconds:
            reason = f"the API answers {end.status}" if isinstance(end, Answer) else self._describe(end)
            self._on_pause(reason, seconds)

    def _result_of(
        self, request: BatchRequest, end: Answer | Exception, *, attempts: int, duration_seconds: float
    ) -> BatchResult:
        if isinstance(end, Answer):
            return end.result_of(request, attempts=attempts, duration_seconds=duration_seconds)
        return BatchResult(
            id=request.id,
            line=request.line,
            outcome="failed" if request.is_safe else "unknown",
            error_type=type(end).__name__,
            error_message=self._describe(end),
            attempts=attempts,
            duration_seconds=duration_seconds,
        )

    def _as_halt(self, end: Answer | Exception) -> Exception:
        """Return what ends the batch when nothing can be sent."""
        if isinstance(end, SimpleStoreError):
            return end
        assert isinstance(end, Exception)  # noqa: S101 - an answer was sent for
        return BatchError(f"the API cannot be reached: {self._describe(end)}. Nothing more was sent; resume later")

    def _describe(self, error: Exception) -> str:
        return describe_error(error, timeout_seconds=self._policy.timeout_seconds)

    def _seconds_since(self, began_at: float) -> float:
        return round(self._now() - began_at, 6)  # which is finer than any clock of a loop

    def _backoff_after(self, attempts: int) -> float:
        return min(self._policy.backoff_seconds * 2.0 ** (attempts - 1), _LONGEST_BACKOFF_SECONDS)

    async def _sleep(self, seconds: float) -> bool:
        """Wait; return False as soon as the batch ends."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)
        return not self.stopping.is_set()
