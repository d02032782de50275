"""What follows an attempt. Rule: pure; whatever may have changed something is never sent again by itself.

RFC 9110 9.2.2 lets a client repeat idempotent requests, too. That is for who knows that nobody else changes the same;
a batch knows no such thing, and repeats only those that are safe (9.2.1), those that were certainly not sent, and
those that the API put off (429, RFC 6585 4).
"""

from __future__ import annotations

import enum
from typing import Final

import aiohttp

from simplestore_async.errors import SimpleStoreError

__all__ = ["TABLE", "Action", "Cause", "action_after", "cause_of_error", "cause_of_status"]

_NO_CONNECTION: Final = aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError


class Cause(enum.Enum):
    """How an attempt ended."""

    ANSWERED = enum.auto()
    """An answer that is the API's last word."""
    PUT_OFF = enum.auto()
    """429."""
    BUSY = enum.auto()
    """408 or 5xx."""
    NOT_SENT = enum.auto()
    """No token, or no connection."""
    NEVER_SENT = enum.auto()
    """No token or no connection, and no hope of either."""
    CUT = enum.auto()
    """No complete answer."""


class Action(enum.Enum):
    """What follows."""

    END = enum.auto()
    """What came of it is its result."""
    WAIT = enum.auto()
    """The whole batch waits, then it is sent again."""
    RETRY = enum.auto()
    """It alone is sent again after a pause, if attempts are left."""
    HALT = enum.auto()
    """The whole batch ends."""


# By the cause, and whether the method is safe.
TABLE: Final = {
    (Cause.ANSWERED, True): Action.END,
    (Cause.ANSWERED, False): Action.END,
    (Cause.PUT_OFF, True): Action.WAIT,
    (Cause.PUT_OFF, False): Action.WAIT,
    (Cause.BUSY, True): Action.RETRY,
    (Cause.BUSY, False): Action.END,
    (Cause.NOT_SENT, True): Action.WAIT,
    (Cause.NOT_SENT, False): Action.WAIT,
    (Cause.NEVER_SENT, True): Action.HALT,
    (Cause.NEVER_SENT, False): Action.HALT,
    (Cause.CUT, True): Action.RETRY,
    (Cause.CUT, False): Action.END,
}


def action_after(cause: Cause, *, is_safe: bool) -> Action:
    """Return what follows an attempt that ended so."""
    return TABLE[cause, is_safe]


def cause_of_status(status: int) -> Cause:
    """Return how an attempt ended that was answered."""
    if status == 429:
        return Cause.PUT_OFF
    return Cause.BUSY if status == 408 or status >= 500 else Cause.ANSWERED


def cause_of_error(error: Exception) -> Cause:
    """Return how an attempt ended that raised.

    A token is had before the request is sent; after a rejection, which the API says before it does anything, too.
    """
    if isinstance(error, SimpleStoreError):
        return Cause.NOT_SENT if error.retryable else Cause.NEVER_SENT
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Cause.NEVER_SENT
    return Cause.NOT_SENT if isinstance(error, _NO_CONNECTION) else Cause.CUT
