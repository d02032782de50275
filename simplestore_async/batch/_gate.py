"""When a request may be sent. Rule: an outage costs a few requests, never the whole batch.

Requests are spread evenly, and a stall is not made up for by a burst. After a failure that concerns all of them, such
as 429, nothing is sent for a while; then one request goes ahead, and the others follow if it does not fail.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from simplestore_async.errors import BatchError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._values import BatchPolicy

__all__ = ["Gate"]

_FAILURES_BEFORE_PAUSE: Final = 3
_LONGEST_PAUSE_SECONDS: Final = 30.0
_WORTH_REPORTING_SECONDS: Final = 1.0
_CONTINUE: Final = "run it again later to continue"


class Gate:
    """The pace of a batch, on one event loop.

    Attributes:
        is_closed: whether nothing more may be sent.
        closed: set when the batch ends.
        error: why, if something went wrong.
    """

    def __init__(self, policy: BatchPolicy, *, on_pause: Callable[[str, float], object]) -> None:
        self.is_closed = False
        self.error: BaseException | None = None
        self.closed = asyncio.Event()
        self._policy = policy
        self._on_pause = on_pause
        self._now = asyncio.get_running_loop().time
        self._changed = asyncio.Event()
        self._spacing_seconds = 1 / policy.rate if policy.rate else 0.0
        self._next_at = self._quiet_since = self._quiet_until = float("-inf")
        self._pauses = self._failures = 0
        self._failing_since: float | None = None
        self._is_probing = False

    def close(self, error: BaseException | None = None) -> None:
        """End the batch; the first error is kept."""
        self.error = self.error or error
        self.is_closed = True
        self._changed.set()
        self.closed.set()

    async def enter(self, *, delay_seconds: float = 0.0) -> bool:
        """Wait until a request may be sent; return False if the batch ends first.

        `leave()` follows, unless the batch ends.
        """
        may_go_at = max(self._next_at, self._now() + delay_seconds if delay_seconds else 0.0)
        if self._spacing_seconds:
            may_go_at = max(may_go_at, self._now())
            self._next_at = may_go_at + self._spacing_seconds
        if self._pauses:
            await asyncio.sleep(0)  # waiters go first: else a request that alone fails would keep them out
        while not self.is_closed:
            seconds = max(may_go_at, self._quiet_until) - self._now()
            if seconds <= 0 and not (self._pauses and self._is_probing):
                self._is_probing = bool(self._pauses)
                return True
            await self._wait(seconds if seconds > 0 else None)
        return False

    def leave(
        self, reason: str, *, sent_at: float, is_failure: bool, is_general: bool, asked_seconds: float | None
    ) -> None:
        """Note the end of an attempt: a success ends an outage that it did not precede, a failure may begin one.

        Args:
            reason: what failed.
            sent_at: when the attempt began.
            is_failure: whether the server failed, rather than the request.
            is_general: whether one failure is enough for a pause; of others it takes some in a row.
            asked_seconds: Retry-After, if there was one.
        """
        if sent_at >= self._quiet_since:
            if not is_failure:
                self._pauses = self._failures = 0
                self._failing_since = None
            if self._is_probing:
                self._is_probing = False
                self._changed.set()
        if is_failure:
            self._failures += 1
            self._failing_since = self._failing_since or self._now()
            if self._policy.stop_after and self._failures >= self._policy.stop_after:
                failures = "1 failure" if self._failures == 1 else f"{self._failures} failures in a row"
                self.close(BatchError(f"{failures}: {reason}", _CONTINUE))
            elif self._now() - self._failing_since > self._policy.patience_seconds:
                problem = f"the API is unavailable for longer than {self._policy.patience_seconds:g} s: {reason}"
                self.close(BatchError(problem, _CONTINUE))
        if asked_seconds is not None or (is_failure and (is_general or self._failures >= _FAILURES_BEFORE_PAUSE)):
            self._pause(reason, sent_at=sent_at, asked_seconds=asked_seconds)

    def _pause(self, reason: str, *, sent_at: float, asked_seconds: float | None) -> None:
        """Send nothing for a while: as long as was asked, or longer each time.

        What began before the last pause met the same outage, and does not make the next one longer.
        """
        if asked_seconds is not None and asked_seconds > self._policy.patience_seconds:
            problem = f"the API asks to wait {asked_seconds:.0f} s (Retry-After)"
            self.close(BatchError(problem, _CONTINUE, retry_after=asked_seconds))
        now, seconds = self._now(), asked_seconds or 0.0
        if sent_at >= self._quiet_since:
            if asked_seconds is None:
                seconds = min(self._policy.backoff_seconds * 2.0**self._pauses, _LONGEST_PAUSE_SECONDS)
            self._pauses += 1
            self._quiet_since = now
        is_news = now >= self._quiet_until or now + seconds - self._quiet_until >= _WORTH_REPORTING_SECONDS
        self._quiet_until = max(self._quiet_until, now + seconds)
        if seconds and is_news and not self.is_closed:
            self._on_pause(reason, seconds)

    async def _wait(self, seconds: float | None) -> None:
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
