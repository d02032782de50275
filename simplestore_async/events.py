"""What happened, as values. Rule: an event says what, why, how long and how many waited, and never holds a token.

A listener gets events synchronously, outside every lock, on the thread of the event loop that renewed; the logger
`simplestore_async` gets the same. A listener that raises is logged and harms nobody.

A renewal tells its own within a `contextvars.Context` that is its own too, in which everything that it does runs:
`RenewalStarted` first, in the end `TokenReceived` or `RenewalFailed`; unless it is cancelled, which is not told.
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
"""Why a renewal runs: no token yet, one that is due or nearly expired, an expired one, one that the API rejected."""

_logger: Final = logging.getLogger("simplestore_async")
_logger.addHandler(logging.NullHandler())


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
    """A renewal brought a token.

    Attributes:
        cause: why it ran.
        source: where the token came from; `memory` if another event loop renewed it meanwhile.
        is_unchanged: whether it is the token that was held already; the endpoint is then left alone for a while.
        duration_seconds: how long the renewal took.
        life_seconds: how long the token may be used from now on.
        waiter_count: how many callers waited for it at the end.
        longest_wait_seconds: how long ago the first caller came that could get no token without it, be it gone since;
            0 if there was none.
    """

    cause: Cause
    source: Literal["cache", "endpoint", "memory"]
    is_unchanged: bool
    duration_seconds: float
    life_seconds: float
    waiter_count: int
    longest_wait_seconds: float = 0.0

    def __str__(self) -> str:
        unchanged = ", unchanged" if self.is_unchanged else ""
        return (
            f"token received from the {self.source}{unchanged}, in {self.duration_seconds:.3f} s ({self.cause}); "
            f"it lives {self.life_seconds:.0f} s, {self.waiter_count} waited"
        )


@attrs.frozen(kw_only=True)
class RenewalFailed(Event):
    """A renewal failed. While no token lives its waiters fail with it, which is logged as an error.

    Attributes:
        cause: why it ran.
        error: what went wrong.
        is_token_alive: whether callers still get the old token.
        duration_seconds: how long the renewal took.
        retry_in_seconds: how long the endpoint is left alone now.
        waiter_count: how many callers waited for it at the end.
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
        """ERROR if callers fail, else DEBUG: `OutageBegan` warns once."""
        return logging.DEBUG if self.is_token_alive else logging.ERROR

    def __str__(self) -> str:
        return (
            f"renewal failed after {self.duration_seconds:.3f} s ({self.cause}), {self.waiter_count} waited, "
            f"next attempt in {self.retry_in_seconds:.0f} s at the earliest: {self.error}"
        )


@attrs.frozen(kw_only=True)
class OutageBegan(Event):
    """The first failure after a success; told once, until `OutageEnded`.

    Attributes:
        error: what went wrong.
        life_seconds: how long the held token can still be used; 0 if there is none.
    """

    error: SimpleStoreError
    life_seconds: float

    @property
    def level(self) -> int:
        """WARNING."""
        return logging.WARNING

    def __str__(self) -> str:
        return f"the token cannot be renewed; the old one lives another {self.life_seconds:.0f} s: {self.error}"


@attrs.frozen(kw_only=True)
class OutageEnded(Event):
    """The first success after failures.

    Attributes:
        duration_seconds: how long ago the first of them was.
    """

    duration_seconds: float

    @property
    def level(self) -> int:
        """INFO."""
        return logging.INFO

    def __str__(self) -> str:
        return f"the token is renewed again, after {self.duration_seconds:.0f} s of failures"


@attrs.frozen(kw_only=True)
class RenewalOverdue(Event):
    """A caller waited for a renewal as long as it may and got the old token; told once for each renewal.

    Attributes:
        waited_seconds: how long it waited.
        life_seconds: how long the old token can still be used.
    """

    waited_seconds: float
    life_seconds: float

    @property
    def level(self) -> int:
        """WARNING."""
        return logging.WARNING

    def __str__(self) -> str:
        return f"no renewal within {self.waited_seconds:.1f} s; the old token lives another {self.life_seconds:.0f} s"


@attrs.frozen(kw_only=True)
class TokenRejected(Event):
    """The API rejected a held token.

    Attributes:
        age_seconds: how long ago it was requested.
        is_replaced: whether a replacement is asked for; False if it is itself a young replacement, or the endpoint is
            left alone.
    """

    age_seconds: float
    is_replaced: bool

    @property
    def level(self) -> int:
        """INFO."""
        return logging.INFO

    def __str__(self) -> str:
        what_next = (
            "it is replaced" if self.is_replaced else "it is kept for now, so as not to storm the token endpoint"
        )
        return f"the API rejected a token that is {self.age_seconds:.0f} s old; {what_next}"


@attrs.frozen(kw_only=True)
class CacheFailed(Event):
    """A cache failed or took too long; the provider went on without it.

    Attributes:
        operation: what failed: `get`, `set`, or `lock` for the renewal lock.
        problem: what failed, and why; an exception of a third-party cache is named by its type only.
        hint: what to do about it; may be empty.
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
        return f"token cache failed ({self.operation}), going on without it: {problem}"


Listener: TypeAlias = Callable[[Event], object]


def emit(event: Event, listener: Listener | None) -> None:
    """Log *event* and hand it to *listener*."""
    _logger.log(event.level, "%s", event)
    if listener is None:
        return
    try:
        listener(event)
    except Exception:
        _logger.exception("on_event raised for %s", type(event).__name__)
