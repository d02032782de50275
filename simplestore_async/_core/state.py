"""When to renew. Rule: a pure table of state and endpoint, and pure steps from one memory to the next.

No I/O, no clock, no asyncio: every function takes the clock's reading. `RenewalPolicy` holds the numbers, `TABLE` the
decisions, and the methods of `Memory` what is remembered of tokens, failures and rejections.
"""

from __future__ import annotations

import enum
from contextlib import suppress
from math import inf, ldexp
from typing import TYPE_CHECKING, Any, Final

import attrs

from simplestore_async.errors import ConfigurationError, SimpleStoreError

from .redaction import show_fields
from .token import AccessToken
from .validation import is_number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


__all__ = ["DEFAULT_POLICY", "TABLE", "Action", "Endpoint", "Lease", "Memory", "RenewalPolicy", "State"]

# Tokens are rejected one after the other; what is older than this many has expired or is gone from every cache.
_REMEMBERED_REJECTIONS: Final = 16


class State(enum.Enum):
    """What can be said of the held token at one reading of the clock."""

    # Thousands of callers look the table up at once, and an enumeration's own hash is computed in Python.
    __hash__ = object.__hash__

    FRESH = "before due"
    DUE = "due … hard"
    HARD = "hard … expiry"
    NONE = "expired, rejected or never had"


class Endpoint(enum.Enum):
    """What can be said of the token endpoint at one reading of the clock."""

    __hash__ = object.__hash__

    IDLE = "may be asked"
    RENEWING = "is being asked"
    BARRED = "is left alone until not_before"


class Action(enum.Enum):
    """What a caller gets."""

    SERVE = "the token, at once"
    SERVE_AND_RENEW = "the token, at once, while a renewal starts in the background"
    WAIT_BRIEFLY = "the renewal's outcome if it comes soon, else the token"
    WAIT = "the renewal's outcome"
    RAISE = "the remembered error, at once"


TABLE: Final[Mapping[tuple[State, Endpoint], Action]] = {
    (State.FRESH, Endpoint.IDLE): Action.SERVE,
    (State.FRESH, Endpoint.RENEWING): Action.SERVE,
    (State.FRESH, Endpoint.BARRED): Action.SERVE,
    (State.DUE, Endpoint.IDLE): Action.SERVE_AND_RENEW,
    (State.DUE, Endpoint.RENEWING): Action.SERVE,
    (State.DUE, Endpoint.BARRED): Action.SERVE,
    (State.HARD, Endpoint.IDLE): Action.WAIT_BRIEFLY,
    (State.HARD, Endpoint.RENEWING): Action.WAIT_BRIEFLY,
    (State.HARD, Endpoint.BARRED): Action.SERVE,
    (State.NONE, Endpoint.IDLE): Action.WAIT,
    (State.NONE, Endpoint.RENEWING): Action.WAIT,
    (State.NONE, Endpoint.BARRED): Action.RAISE,
}


@attrs.frozen(repr=False)
class Lease:
    """A token with its instants on the deciding clock, in seconds; its draw of *due* is its own."""

    token: AccessToken
    requested_at: float
    due_at: float
    hard_at: float
    expires_at: float
    is_replacement: bool

    __repr__ = show_fields


def _problem(name: str, value: Any) -> str:
    """Return what is wrong with a field of `RenewalPolicy`; its name says what it must be."""
    if name == "attempts":
        is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        return "" if is_count else "must be a whole number, 1 or more"
    if name == "first_due_fractions":
        with suppress(TypeError, ValueError):
            first, last = value
            if isinstance(value, tuple) and 0 < first <= last < 1:
                return ""
        return "must be two rising numbers between 0 and 1, in a tuple"
    if not is_number(value) or value <= 0:
        return "must be a number above 0"
    return "must lie between 0 and 1" if name.endswith("_fraction") and value >= 1 else ""


@attrs.frozen(kw_only=True, repr=False)
class RenewalPolicy:
    """The numbers of the state machine. The defaults suit SimpleStore's 60-minute tokens; lifetimes are seconds.

    Attributes:
        due_fraction: renewal is due this part of the life before expiry …
        due_seconds: … but at most this early; ±20 % at random.
        first_due_fractions: a provider's first token is due at a random part of its life between these two, so that
            workers that start together drift apart.
        hard_fraction: callers begin to wait for the renewal this part of the life before expiry …
        hard_seconds: … but at most this early.
        hard_wait_seconds: how long a caller waits, at most, while a token still lives.
        attempts: how often one renewal that callers wait for asks the endpoint, at most.
        attempt_seconds: how long one attempt may take.
        budget_seconds: how long a renewal may take in all: secret, caches, attempts and the pauses between them.
        retry_seconds: the first pause between two attempts; it doubles, and half of it is random.
        failure_seconds: how long the endpoint is left alone after a passing failure; doubles while a token lives …
        failure_cap_seconds: … up to this.
        terminal_seconds: how long it is left alone after a terminal failure; doubles …
        terminal_cap_seconds: … up to this.
        retry_after_cap_seconds: how long the server's Retry-After is obeyed, at most.
        rejection_seconds: how long a replacement is kept at least although the API rejects it too; doubles …
        rejection_cap_seconds: … up to this.
        cache_seconds: how long a cache may take to read or write before the provider goes on without it.
        lock_seconds: how long to wait for another process's renewal, at most.

    Raises:
        ConfigurationError: if a number is not above 0, or a fraction not below 1.
    """

    due_fraction: float = 0.2
    due_seconds: float = 900
    first_due_fractions: tuple[float, float] = (0.45, 0.84)
    hard_fraction: float = 0.1
    hard_seconds: float = 30
    hard_wait_seconds: float = 2
    attempts: int = 3
    attempt_seconds: float = 10
    budget_seconds: float = 30
    retry_seconds: float = 1
    failure_seconds: float = 1
    failure_cap_seconds: float = 30
    terminal_seconds: float = 5
    terminal_cap_seconds: float = 60
    retry_after_cap_seconds: float = 300
    rejection_seconds: float = 5
    rejection_cap_seconds: float = 300
    cache_seconds: float = 2
    lock_seconds: float = 15

    __repr__ = show_fields

    def __attrs_post_init__(self) -> None:
        # Not validators: attrs writes code for each, and this class alone took a tenth of the package's import time.
        for name in attrs.fields_dict(type(self)):
            problem = _problem(name, getattr(self, name))
            if problem:
                raise ConfigurationError(f"RenewalPolicy {name} {problem}")

    def lease(
        self,
        token: AccessToken,
        *,
        requested_at: float,
        is_first: bool,
        is_replacement: bool,
        random: Callable[[], float],
    ) -> Lease:
        """Return *token* with its instants; *requested_at* on the deciding clock, *random* gives numbers in [0, 1)."""
        life = token.expires_at - token.issued_at
        expires_at = requested_at + life
        hard_at = expires_at - min(self.hard_seconds, life * self.hard_fraction)
        if is_first:
            first, last = self.first_due_fractions
            due_at = requested_at + life * (first + (last - first) * random())
        else:
            due_at = expires_at - min(self.due_seconds, life * self.due_fraction) * (0.8 + 0.4 * random())
        return Lease(
            token=token,
            requested_at=requested_at,
            due_at=min(due_at, hard_at),
            hard_at=hard_at,
            expires_at=expires_at,
            is_replacement=is_replacement,
        )

    def retry_pause(self, attempt: int, random: Callable[[], float]) -> float:
        """Return the pause in seconds after failed attempt number *attempt* (1, 2, …): doubling, with equal jitter."""
        pause = _doubled(self.retry_seconds, attempt - 1, self.budget_seconds)
        return pause / 2 + pause / 2 * random()

    def hard_wait(self, lease: Lease, now: float) -> float:
        """Return how long a caller may wait in `State.HARD`, in seconds."""
        return min(self.hard_wait_seconds, (lease.expires_at - now) / 2)

    def failure_pause(self, error: SimpleStoreError, failures: int, *, is_alive: bool) -> float:
        """Return how long to leave the endpoint alone, in seconds, after *error*, which followed *failures* others."""
        if not error.retryable:
            pause = _doubled(self.terminal_seconds, failures, self.terminal_cap_seconds)
        elif is_alive:
            pause = _doubled(self.failure_seconds, failures, self.failure_cap_seconds)
        else:
            pause = self.failure_seconds
        retry_after: float | None = getattr(error, "retry_after", None)
        return pause if retry_after is None else max(pause, min(retry_after, self.retry_after_cap_seconds))

    def rejection_hold(self, rejections: int) -> float:
        """Return how long a replacement is kept although it is rejected, in seconds since it was requested."""
        return _doubled(self.rejection_seconds, rejections, self.rejection_cap_seconds)


DEFAULT_POLICY: Final = RenewalPolicy()
"""Shared by all providers that are given none: its numbers are checked once."""


def _doubled(seconds: float, times: int, cap: float) -> float:
    try:
        return min(ldexp(seconds, times), cap)
    except OverflowError:
        return cap


@attrs.frozen(repr=False)
class Memory:
    """All that a provider remembers: one immutable snapshot, replaced as a whole.

    Attributes:
        lease: the held token, if any.
        has_renewed: whether any token was ever held; the first one is due at another time.
        not_before: until when the endpoint is left alone.
        failures: how many renewals failed since the last that did not.
        error: what callers without a token are told until `not_before`.
        outage_began_at: when the first of those renewals failed.
        rejected: values that the API rejected, with the instant, newest last.
        rejections: how often replacements were rejected in turn.
        is_replacing: whether the next token replaces a rejected one.
    """

    lease: Lease | None = None
    has_renewed: bool = False
    not_before: float = -inf
    failures: int = 0
    error: SimpleStoreError | None = None
    outage_began_at: float | None = None
    rejected: tuple[tuple[str, float], ...] = ()
    rejections: int = 0
    is_replacing: bool = False

    __repr__ = show_fields

    def state(self, now: float) -> State:
        """Return the held token's state."""
        lease = self.lease
        if lease is None or now >= lease.expires_at:
            return State.NONE
        if now >= lease.hard_at:
            return State.HARD
        return State.DUE if now >= lease.due_at else State.FRESH

    def action(self, now: float, *, is_renewing: bool) -> Action:
        """Return what a caller gets: the entry of `TABLE`."""
        if is_renewing:
            return TABLE[self.state(now), Endpoint.RENEWING]
        return TABLE[self.state(now), Endpoint.BARRED if now < self.not_before else Endpoint.IDLE]

    def accepts(self, lease: Lease) -> bool:
        """Return whether a token that just came from the endpoint is newer than the held one and than its rejection."""
        if self.lease is not None and lease.requested_at <= self.lease.requested_at:
            return False
        return all(value != lease.token.value or at <= lease.requested_at for value, at in self.rejected)

    def wants_cached(self, lease: Lease, now: float) -> bool:
        """Return whether a token from a cache is better than what is held: newer, not rejected, and not itself old."""
        if any(value == lease.token.value for value, _ in self.rejected):
            return False
        held = self.lease
        if held is not None and held.token.value == lease.token.value:
            return False  # even if it has expired: a step of the wall clock does not give it another life
        if held is None or now >= held.expires_at:
            return now < lease.hard_at
        return lease.requested_at > held.requested_at and now < lease.due_at

    def is_rejected(self, token: AccessToken) -> bool:
        """Return whether the API rejected *token*, and the endpoint has not given it again since."""
        is_held = self.lease is not None and self.lease.token.value == token.value
        return not is_held and any(value == token.value for value, _ in self.rejected)

    def after_token(self, lease: Lease, now: float, policy: RenewalPolicy) -> Memory:
        """Return the memory once *lease* came.

        The value that is held already is no renewal: its life follows the newer reply, but the endpoint is left alone
        for a while, as after a failure; yet never past the token's end, since an endpoint that answers is not an
        outage.
        """
        if self.is_unchanged(lease, now):
            pause = _doubled(policy.failure_seconds, self.failures, policy.failure_cap_seconds)
            return attrs.evolve(
                self,
                lease=attrs.evolve(lease, is_replacement=self.lease is not None and self.lease.is_replacement),
                not_before=min(now + pause, lease.expires_at),
                failures=self.failures + 1,
                error=None,
                outage_began_at=None,
            )
        return attrs.evolve(
            self,
            lease=lease,
            has_renewed=True,
            not_before=-inf,
            failures=0,
            error=None,
            outage_began_at=None,
            is_replacing=False,
        )

    def is_unchanged(self, lease: Lease, now: float) -> bool:
        """Return whether *lease* brings the very token that is held and still lives."""
        held = self.lease
        return held is not None and now < held.expires_at and held.token.value == lease.token.value

    def after_failure(self, error: SimpleStoreError, now: float, policy: RenewalPolicy) -> Memory:
        """Return the memory after a renewal failed with *error*."""
        is_alive = self.state(now) is not State.NONE
        return attrs.evolve(
            self,
            failures=self.failures + 1,
            error=error,
            not_before=max(self.not_before, now + policy.failure_pause(error, self.failures, is_alive=is_alive)),
            outage_began_at=now if self.outage_began_at is None else self.outage_began_at,
        )

    def after_acceptance(self, token: AccessToken) -> Memory:
        """Return the memory after the API accepted *token*: a replacement that worked is an ordinary token."""
        held = self.lease
        if held is None or not held.is_replacement or held.token.value != token.value:
            return self
        return attrs.evolve(self, lease=attrs.evolve(held, is_replacement=False), rejections=0)

    def after_rejection(self, token: AccessToken, now: float, policy: RenewalPolicy) -> tuple[Memory, bool]:
        """Return the memory after the API rejected *token*, and whether a replacement may be asked for now."""
        held = self.lease
        if held is not None and held.token.value != token.value:
            return self, True
        if now < self.not_before:
            return self, False
        if held is None:
            return self, True
        age = now - held.requested_at
        if held.is_replacement and age < policy.rejection_hold(self.rejections):
            return self, False
        rejections = self.rejections + held.is_replacement if age < policy.rejection_cap_seconds else 0
        rejected = (*self.rejected, (token.value, now))[-_REMEMBERED_REJECTIONS:]
        return attrs.evolve(self, lease=None, rejected=rejected, rejections=rejections, is_replacing=True), True
