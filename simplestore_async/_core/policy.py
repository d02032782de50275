"""Policies, and when a token is due. Rule: no I/O and no clock; every function takes the clock's reading.

`RenewalPolicy` has the numbers of a provider, `RetryPolicy` those of a token endpoint. The constants are numbers that
no program has a reason to change.
"""

from __future__ import annotations

from math import ldexp
from typing import TYPE_CHECKING, Any, Final

import attrs

from simplestore_async.errors import ConfigurationError

from .redaction import show_fields
from .token import AccessToken
from .validation import is_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from simplestore_async.errors import SimpleStoreError

__all__ = [
    "DEFAULT_RENEWAL_POLICY",
    "DEFAULT_RETRY_POLICY",
    "REJECTION_CAP_SECONDS",
    "HeldToken",
    "RenewalPolicy",
    "RetryPolicy",
]

EXPIRING_FRACTION: Final = 0.1
"""Callers begin to wait for the renewal when this fraction of the lifetime is left …"""
EXPIRING_SECONDS: Final = 30.0
"""… but at most this long before expiry."""
FAILURE_SECONDS: Final = 1.0
"""First backoff after a retryable failure."""
TERMINAL_SECONDS: Final = 5.0
"""First backoff after a terminal failure …"""
TERMINAL_CAP_SECONDS: Final = 60.0
"""… and the longest."""
RETRY_AFTER_CAP_SECONDS: Final = 300.0
"""Longest backoff that Retry-After can cause."""
REJECTION_CAP_SECONDS: Final = 300.0
"""Longest hold of a rejected replacement. A token that lasted for this long resets the holds."""


@attrs.frozen(repr=False)
class HeldToken:
    """The provider's current token, with its instants in seconds on the monotonic clock.

    Attributes:
        token: the public value.
        requested_at: when its request was sent.
        due_at: when it is due for renewal; random, drawn once.
        expiring_at: when callers begin to wait for the renewal.
        expires_at: when it can no longer be used.
        is_unproven: whether it replaces a rejected token and the API has not accepted it yet.
    """

    token: AccessToken
    requested_at: float
    due_at: float
    expiring_at: float
    expires_at: float
    is_unproven: bool = False

    __repr__ = show_fields


@attrs.frozen(kw_only=True, repr=False)
class RenewalPolicy:
    """Numbers of a provider. The defaults suit SimpleStore's 60-minute tokens.

    Attributes:
        due_fraction: fraction of the lifetime that is left when a token becomes due; ±20 % at random.
        due_seconds: upper limit of that time before expiry; ±20 % at random.
        first_due_fractions: a provider's first token is due after a random fraction of its lifetime between these two,
            so that workers that start together drift apart.
        max_wait_seconds: longest wait for a renewal while the held token can still be used.
        budget_seconds: time limit of one renewal, including client secret, caches, attempts and pauses.
        max_backoff_seconds: longest backoff after retryable failures while a token is valid.
        rejection_seconds: age until which a replacement is kept if it is rejected before the API ever accepted it;
            doubles, up to 300 s.
        cache_seconds: time limit of one cache operation; after it the provider continues without the cache.
        lock_seconds: longest wait for another process's renewal.

    Raises:
        ConfigurationError: a number is not above 0, or a fraction not below 1.
    """

    due_fraction: float = 0.2
    due_seconds: float = 900
    first_due_fractions: tuple[float, float] = (0.45, 0.84)
    max_wait_seconds: float = 2
    budget_seconds: float = 30
    max_backoff_seconds: float = 30
    rejection_seconds: float = 5
    cache_seconds: float = 2
    lock_seconds: float = 15

    __repr__ = show_fields

    def __attrs_post_init__(self) -> None:
        _check_numbers(self)

    def hold(
        self,
        token: AccessToken,
        *,
        requested_at: float,
        is_first: bool,
        is_unproven: bool,
        random: Callable[[], float],
    ) -> HeldToken:
        """Return *token* with its instants; *random* returns numbers in [0, 1)."""
        life = token.expires_at - token.issued_at
        expires_at = requested_at + life
        expiring_at = expires_at - min(EXPIRING_SECONDS, life * EXPIRING_FRACTION)
        if is_first:
            first, last = self.first_due_fractions
            due_at = requested_at + life * (first + (last - first) * random())
        else:
            due_at = expires_at - min(self.due_seconds, life * self.due_fraction) * (0.8 + 0.4 * random())
        return HeldToken(token, requested_at, min(due_at, expiring_at), expiring_at, expires_at, is_unproven)

    def wait_seconds(self, held: HeldToken, now: float) -> float:
        """Return how long a caller may wait while *held* is expiring."""
        return min(self.max_wait_seconds, (held.expires_at - now) / 2)

    def hold_seconds(self, rejections: int) -> float:
        """Return the age until which an unproven replacement is kept, after *rejections* of others in a row."""
        return _doubled(self.rejection_seconds, rejections, REJECTION_CAP_SECONDS)

    def backoff_seconds(self, error: SimpleStoreError, *, failures: int, is_alive: bool) -> float:
        """Return the backoff after *error*, which followed *failures* others; *is_alive*: whether a token is valid."""
        if not error.retryable:
            pause = _doubled(TERMINAL_SECONDS, failures, TERMINAL_CAP_SECONDS)
        elif is_alive:
            pause = _doubled(FAILURE_SECONDS, failures, self.max_backoff_seconds)
        else:
            pause = FAILURE_SECONDS
        retry_after: float | None = getattr(error, "retry_after", None)
        return pause if retry_after is None else max(pause, min(retry_after, RETRY_AFTER_CAP_SECONDS))

    def unchanged_backoff_seconds(self, failures: int) -> float:
        """Return the backoff after a response with the held token, which followed *failures* failures."""
        return _doubled(FAILURE_SECONDS, failures, self.max_backoff_seconds)


@attrs.frozen(kw_only=True, repr=False)
class RetryPolicy:
    """Numbers of a token endpoint.

    Attributes:
        attempts: maximum number of requests for one token.
        attempt_seconds: time limit of one request.
        retry_seconds: pause after the first attempt; it doubles, and half of it is random.
        budget_seconds: time limit of `TokenEndpoint.request_token`; a provider uses its own `budget_seconds`.

    Raises:
        ConfigurationError: a number is not above 0.
    """

    attempts: int = 3
    attempt_seconds: float = 10
    retry_seconds: float = 1
    budget_seconds: float = 30

    __repr__ = show_fields

    def __attrs_post_init__(self) -> None:
        _check_numbers(self)

    def pause_seconds(self, attempt: int, random: Callable[[], float]) -> float:
        """Return the pause after failed attempt number *attempt* (1, 2, …): doubling, with equal jitter."""
        pause = _doubled(self.retry_seconds, attempt - 1, self.budget_seconds)
        return pause / 2 + pause / 2 * random()


def _doubled(seconds: float, times: int, cap: float) -> float:
    """Return *seconds* doubled *times* times, at most *cap*."""
    try:
        return min(ldexp(seconds, times), cap)
    except OverflowError:
        return cap


def _check_numbers(policy: RenewalPolicy | RetryPolicy) -> None:
    # Not validators: attrs generates code for each, which takes a tenth of the package's import time.
    for field in attrs.fields(type(policy)):
        problem = _problem_of(field.name, getattr(policy, field.name))
        if problem:
            raise ConfigurationError(f"{type(policy).__name__}.{field.name}", problem)


def _problem_of(name: str, value: Any) -> str:
    if name == "attempts":
        is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        return "" if is_count else "must be a whole number, 1 or more"
    if name == "first_due_fractions":
        return "" if _are_rising_fractions(value) else "must be a tuple of two rising numbers between 0 and 1"
    if not is_number(value) or value <= 0:
        return "must be a number above 0"
    return "must be below 1" if name.endswith("_fraction") and value >= 1 else ""


def _are_rising_fractions(value: object) -> bool:
    if not isinstance(value, tuple):
        return False
    numbers: tuple[Any, ...] = value  # pyright: ignore[reportUnknownVariableType] - of anything
    return len(numbers) == 2 and all(map(is_number, numbers)) and 0 < numbers[0] <= numbers[1] < 1


DEFAULT_RENEWAL_POLICY: Final = RenewalPolicy()
DEFAULT_RETRY_POLICY: Final = RetryPolicy()
"""The shared default, whose numbers are checked once."""
