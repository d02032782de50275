"""A model of the permitted behaviour of one provider."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

import attrs

from simplestore_async import AccessToken, RenewalPolicy, RetryPolicy
from simplestore_async._core.policy import (
    EXPIRING_FRACTION,
    EXPIRING_SECONDS,
    FAILURE_SECONDS,
    RETRY_AFTER_CAP_SECONDS,
    TERMINAL_CAP_SECONDS,
    TERMINAL_SECONDS,
)
from tests.support.clocks import FakeClock

if TYPE_CHECKING:
    from simplestore_async.errors import TokenError
    from simplestore_async.events import RenewalFailed


POLICY: Final = RenewalPolicy()
RETRY: Final = RetryPolicy()
ROUNDING_SECONDS: Final = 1e-6
"""Floats of current POSIX seconds have a resolution of a quarter of a microsecond."""
LEAST_FIRST_DUE: Final = POLICY.first_due_fractions[0]
"""No token is due before this fraction of its lifetime."""


@attrs.define(eq=False)
class Given:
    """An issued token: its latest request and expiry on the monotonic clock."""

    requested_at: float
    expires_at: float
    stepped_back: float = 0  # how far the wall clock had been set back when it was issued


@attrs.define(eq=False)
class Model:
    """The permitted behaviour of one provider, derived from its inputs and the policy.

    Every bound is the weakest of the policy, so the model permits whatever random numbers allow.
    """

    clock: FakeClock
    violations: list[str]
    given: dict[str, Given] = attrs.field(factory=dict)
    held: str | None = None  # the newest token that was not late or rejected
    held_since: float = -inf  # when it was requested
    held_until: float = -inf  # a repeated token has the lifetime of its latest response
    is_replacement: bool = False
    is_replacing: bool = False
    fresh_until: float = -inf
    barred_until: float = -inf
    failures: int = 0
    rejected_at: dict[str, float] = attrs.field(factory=dict)
    by_wall_clock: set[str] = attrs.field(factory=set)  # tokens whose age was read from the wall clock
    stepped_back: float = 0
    is_closed: bool = False

    def check(self, is_right: bool, words: str) -> None:
        if not is_right:
            self.violations.append(f"{words} at {self.clock.monotonic()}")

    def renewal_starts(self) -> None:
        now = self.clock.monotonic()
        self.check(not self.is_closed, "a closed provider renews")
        self.check(now >= self.fresh_until, f"a token that is fresh until {self.fresh_until} is renewed")
        self.check(now >= self.barred_until, f"a token is requested during the backoff until {self.barred_until}")

    def renewal_fails(self, event: RenewalFailed) -> None:
        if not event.error.retryable:
            pause = min(TERMINAL_SECONDS * 2**self.failures, TERMINAL_CAP_SECONDS)
        elif event.is_token_alive:
            pause = min(FAILURE_SECONDS * 2**self.failures, POLICY.max_backoff_seconds)
        else:
            pause = FAILURE_SECONDS
        retry_after = getattr(event.error, "retry_after", None) or 0
        pause = max(pause, min(retry_after, RETRY_AFTER_CAP_SECONDS))
        self.failures += 1
        self.barred_until = max(self.barred_until, self.clock.monotonic() + pause)

    def is_granted(self, value: str, requested_at: float, life: float) -> None:
        """Record a grant that arrives now; it is held unless it is late or another is newer."""
        now = self.clock.monotonic()
        new = Given(requested_at, requested_at + life)
        old = self.given.get(value, Given(-inf, -inf))
        self.given[value] = max(old, new, key=lambda given: given.expires_at)
        hard_at = new.expires_at - min(EXPIRING_SECONDS, life * EXPIRING_FRACTION)
        if now >= hard_at or self.rejected_at.get(value, -inf) > requested_at or requested_at <= self.held_since:
            return
        if value == self.held and now < self.held_until:
            pause = min(FAILURE_SECONDS * 2**self.failures, POLICY.max_backoff_seconds)
            self.failures += 1
            self.barred_until = min(now + pause, new.expires_at)
        else:
            self.failures, self.barred_until = 0, -inf
            self.is_replacement, self.is_replacing = self.is_replacing, False
        self.held, self.held_since, self.held_until = value, requested_at, new.expires_at
        self.fresh_until = requested_at + life * LEAST_FIRST_DUE

    def comes_from_cache(self, token: AccessToken) -> None:
        self.check(token.value != self.held, f"the held token {token.value} is read from the cache")
        self.by_wall_clock.add(token.value)
        self.failures, self.barred_until, self.fresh_until = 0, -inf, -inf
        self.is_replacement, self.is_replacing = token.is_replacement or self.is_replacing, False
        self.held = token.value
        self.held_since = self.clock.monotonic() - max(self.clock.time() - token.issued_at, 0)
        self.held_until = self.held_since + (token.expires_at - token.issued_at)

    def is_rejected(self, value: str, *, is_replaced: bool) -> None:
        """Record a 401 for *value*, and the provider's verdict."""
        now = self.clock.monotonic()
        if value != self.held:
            return
        self.check(not is_replaced or now >= self.barred_until, f"{value} is dropped during a backoff")
        is_young = self.is_replacement and now < self.held_since + POLICY.rejection_seconds
        self.check(not is_replaced or not is_young, f"{value}, a young replacement, is dropped")
        if is_replaced:
            self.rejected_at[value] = now
            self.held, self.held_since, self.held_until, self.fresh_until = None, -inf, -inf, -inf
            self.is_replacing = True

    def is_alive(self, value: str) -> bool:
        given = self.given[value]
        slack = self.stepped_back - given.stepped_back + ROUNDING_SECONDS if value in self.by_wall_clock else 0
        return self.clock.monotonic() < given.expires_at + slack

    def is_handed_out(self, value: str, *, at_once: bool) -> None:
        self.check(not self.is_closed, f"a closed provider returns {value}")
        self.check(self.is_alive(value), f"{value}, expired at {self.given[value].expires_at}, is returned")
        self.check(value not in self.rejected_at, f"{value}, rejected, is returned")
        self.check(not at_once or value == self.held, f"{value} is returned at once, but {self.held} is held")

    def caller_fails(self, error: TokenError) -> None:
        is_alive = self.clock.monotonic() < self.held_until - ROUNDING_SECONDS
        self.check(not is_alive, f"a caller fails although {self.held} is valid ({error})")
