"""All events. Rule: an event has cause, duration and number of waiters, and contains no token.

A listener is called synchronously, outside every lock, on the thread of the renewing event loop; each event is also
logged to `simplestore_async`. An exception of the listener is logged and affects no caller.

A renewal runs and reports within its own `contextvars.Context`: first `RenewalStarted`, last `TokenReceived` or
`RenewalFailed`. A cancelled renewal reports no end.

The package adds no handler to its logger. Without a logging configuration, Python's last-resort handler writes warnings
and errors to standard error.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import attrs

from .errors import SimpleStoreError

__all__ = [
    "CacheFailed",
    "Cause",
    "Event",
    "Listener",
    "OutageBegan",
    "OutageEnded",
    "RenewalFailed",
    "RenewalOverdue",
    "RenewalStarted",
    "TokenReceived",
    "TokenRejected",
]

Cause: TypeAlias = Literal["first", "due", "expired", "rejected"]
"""Why a renewal runs: no token yet, one that is due or expiring, an expired one, or one that the API rejected."""

_logger: Final = logging.getLogger("simplestore_async")


@attrs.frozen
class Event:
    """Base of all events; `str(event)` is its log line."""

    @property
    def level(self) -> int:
        """The level of its log line, as in `logging`."""
        return logging.DEBUG


@attrs.frozen(kw_only=True)
class RenewalStarted(Event):
    """A renewal began."""

    cause: Cause

    def __str__(self) -> str:
        return f"renewal started: {self.cause}"


@attrs.frozen(kw_only=True)
class TokenReceived(Event):
    """A renewal obtained a token.

    Attributes:
        cause: why it ran.
        source: where the token came from; `memory` if another event loop renewed it meanwhile.
        is_unchanged: whether it is the held token again; a backoff follows.
        duration_seconds: duration of the renewal.
        life_seconds: remaining life of the token.
        waiter_count: number of callers waiting for it at the end.
        longest_wait_seconds: time since the first caller without a valid token began to wait, even if it was cancelled;
            0 without such a caller.
    """

    cause: Cause
    source: Literal["cache", "endpoint", "memory"]
    is_unchanged: bool
    duration_seconds: float
    life_seconds: float
    waiter_count: int
    longest_wait_seconds: float = 0.0

    def __str__(self) -> str:
        unchanged = ", unchanged," if self.is_unchanged else ""
        return (
            f"token received from {self.source}{unchanged} in {self.duration_seconds:.3f} s ({self.cause}); "
            f"valid for {self.life_seconds:.0f} s, waiters: {self.waiter_count}"
        )


@attrs.frozen(kw_only=True)
class RenewalFailed(Event):
    """A renewal failed. Without a valid token its waiters fail with it, which is logged as an error.

    Attributes:
        cause: why it ran.
        error: the failure.
        is_token_alive: whether callers still get the held token.
        duration_seconds: duration of the renewal.
        retry_in_seconds: length of the backoff.
        waiter_count: number of callers waiting for it at the end.
        longest_wait_seconds: as in `TokenReceived`.
    """

    cause: Cause
    error: SimpleStoreError
    is_token_alive: bool
    duration_seconds: float
    retry_in_seconds: float
    waiter_count: int
    longest_wait_seconds: float = 0.0

    @property
    def level(self) -> int:
        """ERROR if callers fail, else DEBUG: `OutageBegan` warns once in an outage."""
        return logging.DEBUG if self.is_token_alive else logging.ERROR

    def __str__(self) -> str:
        return (
            f"token renewal failed after {self.duration_seconds:.3f} s ({self.cause}); waiters: {self.waiter_count}, "
            f"next attempt in {self.retry_in_seconds:.0f} s at the earliest: {self.error}"
        )


@attrs.frozen(kw_only=True)
class OutageBegan(Event):
    """The first failure after a success; reported once, until `OutageEnded`.

    Attributes:
        error: the failure.
        life_seconds: remaining life of the held token; 0 if there is none.
    """

    error: SimpleStoreError
    life_seconds: float

    @property
    def level(self) -> int:
        """WARNING while a token is valid; else DEBUG, because `RenewalFailed` has reported the error."""
        return logging.WARNING if self.life_seconds > 0 else logging.DEBUG

    def __str__(self) -> str:
        if self.life_seconds > 0:
            life = f"the current token is valid for another {self.life_seconds:.0f} s"
            return f"token renewal is failing; {life}: {self.error}"
        return f"no token can be obtained: {self.error}"


@attrs.frozen(kw_only=True)
class OutageEnded(Event):
    """The first success after failures.

    Attributes:
        duration_seconds: time since the first of them.
    """

    duration_seconds: float

    @property
    def level(self) -> int:
        """INFO."""
        return logging.INFO

    def __str__(self) -> str:
        return f"token renewal recovered after {self.duration_seconds:.0f} s"


@attrs.frozen(kw_only=True)
class RenewalOverdue(Event):
    """A caller waited for a renewal up to the limit and got the held token; reported once per renewal.

    Attributes:
        waited_seconds: duration of the wait.
        life_seconds: remaining life of the held token.
    """

    waited_seconds: float
    life_seconds: float

    @property
    def level(self) -> int:
        """WARNING."""
        return logging.WARNING

    def __str__(self) -> str:
        left = f"serving the current token ({self.life_seconds:.0f} s left)"
        return f"renewal still pending after {self.waited_seconds:.1f} s; {left}"


@attrs.frozen(kw_only=True)
class TokenRejected(Event):
    """The API rejected a held token.

    Attributes:
        age_seconds: time since it was requested.
        is_replaced: whether it is replaced; False for a young replacement, and during a backoff.
    """

    age_seconds: float
    is_replaced: bool

    @property
    def level(self) -> int:
        """INFO."""
        return logging.INFO

    def __str__(self) -> str:
        action = "replacing it" if self.is_replaced else "keeping it for now, to limit token requests"
        return f"the API rejected a token {self.age_seconds:.0f} s old; {action}"


@attrs.frozen(kw_only=True)
class CacheFailed(Event):
    """A cache failed or took too long; the provider continued without it.

    Attributes:
        operation: `get`, `set`, or `lock` for the renewal lock.
        problem: what failed, and why; of a third-party cache's exception only the type.
        hint: the next step; may be empty.
    """

    operation: Literal["get", "set", "lock"]
    problem: str
    hint: str = ""

    @property
    def level(self) -> int:
        """WARNING."""
        return logging.WARNING

    def __str__(self) -> str:
        problem = f"{self.problem}; {self.hint}" if self.hint else self.problem
        return f"token cache failed ({self.operation}); continuing without it: {problem}"


Listener: TypeAlias = Callable[[Event], object]


def emit(event: Event, listener: Listener | None) -> None:
    """Log *event* and pass it to *listener*."""
    _logger.log(event.level, "%s", event)
    if listener is None:
        return
    try:
        listener(event)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # including CancelledError: raised in a plain call, it cancels nothing
        _logger.exception("on_event raised for %s", type(event).__name__)
