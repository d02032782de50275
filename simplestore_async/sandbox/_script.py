"""Scripted faults, rate limits and held responses. Rule: no I/O; the caller passes the time."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from math import ceil, inf
from typing import Self

import attrs

from simplestore_async._core.validation import check_number

from ._faults import Fault

__all__ = ["FaultRun", "HeldResponses", "RateLimit"]


@attrs.define(kw_only=True)
class FaultRun:
    """A run of one fault, limited by requests or by seconds, which count from its first request."""

    fault: Fault
    requests_left: float = inf
    seconds: float = inf
    _ends_at: float | None = attrs.field(init=False, default=None)

    def covers(self, now: float) -> bool:
        """Return whether the fault applies to a request at *now*, and count it."""
        if self._ends_at is None:
            self._ends_at = now + self.seconds
        if self.requests_left <= 0 or now >= self._ends_at:
            return False
        self.requests_left -= 1
        return True


@attrs.define(kw_only=True)
class RateLimit:
    """A maximum of requests in any window of some seconds; only requests that passed count."""

    requests: int
    seconds: float
    _passed_at: deque[float] = attrs.field(init=False, factory=deque[float])

    def seconds_to_wait(self, now: float) -> int:
        """Return the whole seconds until a request would pass; 0 if this one passes, and count it."""
        if len(self._passed_at) == self.requests:
            wait_seconds = self._passed_at[0] + self.seconds - now
            if wait_seconds > 0:
                return ceil(wait_seconds)
            self._passed_at.popleft()
        self._passed_at.append(now)
        return 0


class HeldResponses:
    """Responses held back until `release()`, or the end of the `with`.

    They are decided, counted and recorded on arrival. All methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_released = False
        self._held: list[Future[None]] = []
        self._awaited: list[tuple[int, Future[None]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.release()

    @property
    def requests(self) -> int:
        """The number of requests that arrived since the hold began."""
        with self._lock:
            return len(self._held)

    async def wait_for_requests(self, requests: int = 1) -> None:
        """Wait, on any event loop, until *requests* requests have arrived since the hold began."""
        check_number("requests", requests, at_least=1, is_whole=True)
        arrived: Future[None] = Future()
        with self._lock:
            if len(self._held) >= requests:
                return
            self._awaited.append((requests, arrived))
        await asyncio.wrap_future(arrived)

    def release(self) -> None:
        """Send the held responses, and hold no further ones."""
        with self._lock:
            self._is_released = True
            held = list(self._held)
        for each in held:
            _settle(each)

    async def wait(self) -> None:
        """Hold one response; called by the server."""
        released: Future[None] = Future()
        with self._lock:
            if self._is_released:
                return
            self._held.append(released)
            arrived = [future for requests, future in self._awaited if requests <= len(self._held)]
        for each in arrived:
            _settle(each)
        await asyncio.wrap_future(released)


def _settle(future: Future[None]) -> None:
    # False if its waiter was cancelled.
    if not future.done() and future.set_running_or_notify_cancel():
        future.set_result(None)
