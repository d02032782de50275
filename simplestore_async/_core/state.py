"""The provider's state. Rule: two tables and pure steps decide; the store around them has no logic.

`DECISIONS` is the table for calls, `REJECTIONS` the table for rejected tokens. `ProviderState` is one immutable
snapshot, and each of its steps returns the next. No I/O, no clock, no asyncio.
"""

from __future__ import annotations

import enum
import random
from math import inf
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar

import attrs

from simplestore_async.errors import ProviderClosedError, SimpleStoreError

from .policy import DEFAULT_RENEWAL_POLICY, REJECTION_CAP_SECONDS, HeldToken, RenewalPolicy
from .process_lock import ProcessLock
from .redaction import show_fields
from .token import LONGEST_LIFETIME_SECONDS, AccessToken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "DECISIONS",
    "REJECTIONS",
    "START_AND_WAIT",
    "WAIT",
    "Action",
    "Decision",
    "EndpointState",
    "Fail",
    "ProviderState",
    "Rejected",
    "RenewalResult",
    "Serve",
    "StateStore",
    "TokenState",
    "Verdict",
    "Wait",
]

T = TypeVar("T")

# An older rejected token has expired or is in no cache any more.
_REMEMBERED_REJECTIONS: Final = 16
# A cached token from further in the future was written with a wrong clock.
_LARGEST_CLOCK_SKEW_SECONDS: Final = 60.0
_LOCK: Final = ProcessLock()


class TokenState(enum.Enum):
    """State of the held token at one reading of the clock."""

    # Thousands of callers look up the table at once, and the default hash of an enumeration is Python code.
    __hash__ = object.__hash__

    FRESH = "before due"
    DUE = "due … expiring"
    EXPIRING = "expiring … expired"
    EXPIRED = "expired, rejected or never obtained"


class EndpointState(enum.Enum):
    """State of the token endpoint at one reading of the clock."""

    __hash__ = object.__hash__

    IDLE = "is idle"
    RENEWING = "has a renewal in flight"
    BACKING_OFF = "is in backoff"


class Action(enum.Enum):
    """Result of a call."""

    SERVE = "the token, at once"
    SERVE_AND_RENEW = "the token, at once, while a renewal starts in the background"
    WAIT_BRIEFLY = "the renewal's token if it comes soon, else the held token"
    WAIT = "the renewal's token, or its error"
    FAIL = "the remembered error, at once"


DECISIONS: Final[Mapping[tuple[TokenState, EndpointState], Action]] = {
    (TokenState.FRESH, EndpointState.IDLE): Action.SERVE,
    (TokenState.FRESH, EndpointState.RENEWING): Action.SERVE,
    (TokenState.FRESH, EndpointState.BACKING_OFF): Action.SERVE,
    (TokenState.DUE, EndpointState.IDLE): Action.SERVE_AND_RENEW,
    (TokenState.DUE, EndpointState.RENEWING): Action.SERVE,
    (TokenState.DUE, EndpointState.BACKING_OFF): Action.SERVE,
    (TokenState.EXPIRING, EndpointState.IDLE): Action.WAIT_BRIEFLY,
    (TokenState.EXPIRING, EndpointState.RENEWING): Action.WAIT_BRIEFLY,
    (TokenState.EXPIRING, EndpointState.BACKING_OFF): Action.SERVE,
    (TokenState.EXPIRED, EndpointState.IDLE): Action.WAIT,
    (TokenState.EXPIRED, EndpointState.RENEWING): Action.WAIT,
    (TokenState.EXPIRED, EndpointState.BACKING_OFF): Action.FAIL,
}


class Rejected(enum.Enum):
    """Which token the API rejected."""

    OTHER = "another than the held one, which lives"
    HELD = "the held one"
    UNPROVEN = "the held one: a young replacement that the API never accepted"
    NONE = "none that is held"


class Verdict(enum.Enum):
    """Handling of a rejected token, and whether the request may be resent."""

    RESEND = "send again with the held token"
    REPLACE = "drop it, renew at once, send again"
    RENEW = "renew, send again"
    KEEP = "keep it; the rejection is the response"
    GIVE_UP = "nothing changes; the rejection is the response"

    @property
    def allows_resend(self) -> bool:
        """Whether `get_token()` may now return another token."""
        return self not in {Verdict.KEEP, Verdict.GIVE_UP}


IsBackingOff: TypeAlias = bool
"""Whether the provider backs off from the token endpoint after a failure."""

REJECTIONS: Final[Mapping[tuple[Rejected, IsBackingOff], Verdict]] = {
    (Rejected.OTHER, False): Verdict.RESEND,
    (Rejected.OTHER, True): Verdict.RESEND,
    (Rejected.HELD, False): Verdict.REPLACE,
    (Rejected.HELD, True): Verdict.KEEP,
    (Rejected.UNPROVEN, False): Verdict.KEEP,
    (Rejected.UNPROVEN, True): Verdict.KEEP,
    (Rejected.NONE, False): Verdict.RENEW,
    (Rejected.NONE, True): Verdict.GIVE_UP,
}


@attrs.frozen(eq=False, repr=False)
class Serve:
    """The caller gets *token* at once."""

    token: AccessToken
    starts_renewal: bool = False

    __repr__ = show_fields


@attrs.frozen(eq=False, repr=False)
class Wait:
    """The caller waits for the renewal; with a *fallback* for at most *seconds*, and then gets the fallback."""

    starts_renewal: bool = False
    fallback: HeldToken | None = None
    seconds: float = inf

    __repr__ = show_fields


@attrs.frozen(eq=False, repr=False)
class Fail:
    """The caller gets a copy of *error*, at once."""

    error: SimpleStoreError
    starts_renewal: Literal[False] = False

    __repr__ = show_fields


Decision: TypeAlias = Serve | Wait | Fail

WAIT: Final = Wait()
START_AND_WAIT: Final = Wait(starts_renewal=True)
"""Shared by all callers without a token."""


@attrs.frozen(eq=False, repr=False)
class RenewalResult:
    """Result of a renewal for its waiters.

    Attributes:
        token: the token to serve.
        source: where it came from; `memory` if another event loop renewed it meanwhile.
        expires_at: until when it can be used, on the monotonic clock.
        is_kept: whether it is now the held token.
        is_unchanged: whether it was the held token before.
        outage_began_at: start of the outage that it ended, if any.
    """

    token: AccessToken
    source: Literal["cache", "endpoint", "memory"]
    expires_at: float
    is_kept: bool = False
    is_unchanged: bool = False
    outage_began_at: float | None = None

    __repr__ = show_fields


@attrs.frozen(repr=False)
class ProviderState:
    """State of a provider: one immutable snapshot.

    Attributes:
        policy: the numbers.
        held: the held token, if any.
        has_renewed: whether a token was ever held; the first one is due earlier.
        not_before: end of the backoff.
        failures: renewals that failed in a row.
        error: the last failure; callers without a token get it until `not_before`.
        outage_began_at: time of the first of these failures.
        rejected: values that the API rejected, each with the time, newest last.
        rejections: unproven replacements rejected in a row.
        is_replacing: whether the next token replaces a rejected one.
        is_closed: whether the provider is closed: no token is held or accepted any more.
    """

    policy: RenewalPolicy = DEFAULT_RENEWAL_POLICY
    held: HeldToken | None = None
    has_renewed: bool = False
    not_before: float = -inf
    failures: int = 0
    error: SimpleStoreError | None = None
    outage_began_at: float | None = None
    rejected: tuple[tuple[str, float], ...] = ()
    rejections: int = 0
    is_replacing: bool = False
    is_closed: bool = False
    _serve: Serve | None = attrs.field(init=False, eq=False, repr=False)

    __repr__ = show_fields

    def __attrs_post_init__(self) -> None:
        # Created once per snapshot: thousands of callers share it.
        object.__setattr__(self, "_serve", None if self.held is None else Serve(self.held.token))

    # Looking

    def live_token(self, now: float) -> HeldToken | None:
        """Return the held token unless it has expired."""
        return self.held if self.held is not None and now < self.held.expires_at else None

    def token_state(self, now: float) -> TokenState:
        """Return the held token's state."""
        held = self.held
        if held is None or now >= held.expires_at:
            return TokenState.EXPIRED
        if now >= held.expiring_at:
            return TokenState.EXPIRING
        return TokenState.DUE if now >= held.due_at else TokenState.FRESH

    def decide(self, now: float, *, is_renewing: bool) -> Decision:
        """Return the decision for a caller from `DECISIONS`; a renewal in flight precedes another loop's backoff."""
        if self.is_closed:
            return Fail(ProviderClosedError())
        if is_renewing:
            endpoint = EndpointState.RENEWING
        else:
            endpoint = EndpointState.BACKING_OFF if now < self.not_before else EndpointState.IDLE
        held, action = self.held, DECISIONS[self.token_state(now), endpoint]
        if held is None or self._serve is None or now >= held.expires_at:  # never serves a token, whatever the table
            if action is Action.FAIL and self.error is not None:
                return Fail(self.error)
            return WAIT if is_renewing else START_AND_WAIT
        if action is Action.WAIT_BRIEFLY:
            return Wait(not is_renewing, held, self.policy.wait_seconds(held, now))
        return Serve(held.token, starts_renewal=True) if action is Action.SERVE_AND_RENEW else self._serve

    def verdict(self, token: AccessToken, now: float) -> Verdict:
        """Return the entry of `REJECTIONS` for a rejected *token*."""
        held = self.held
        if held is None:
            which = Rejected.NONE
        elif held.token.value != token.value:
            which = Rejected.OTHER if now < held.expires_at else Rejected.NONE
        elif held.is_unproven and now - held.requested_at < self.policy.hold_seconds(self.rejections):
            which = Rejected.UNPROVEN
        else:
            which = Rejected.HELD
        return REJECTIONS[which, now < self.not_before]

    def is_rejected(self, token: AccessToken) -> bool:
        """Return whether the API rejected *token* and the endpoint has not issued it again since."""
        is_held = self.held is not None and self.held.token.value == token.value
        return not is_held and any(value == token.value for value, _ in self.rejected)

    def can_serve(self, result: RenewalResult, now: float) -> bool:
        """Return whether a renewal's token can be used by a caller that waited for it.

        The caller gets it after it was stored. Meanwhile the machine may have been suspended, or other callers, which
        had the token already, may have had it rejected.
        """
        return now < result.expires_at and not self.is_rejected(result.token)

    def renewed_since(self, seen: HeldToken | None, now: float, *, may_be_due: bool = False) -> RenewalResult | None:
        """Return the held token if it is fresh and not *seen*, which means that another event loop renewed it."""
        held = self.held
        if held is None or held is seen or now >= (held.expires_at if may_be_due else held.due_at):
            return None
        return RenewalResult(held.token, source="memory", expires_at=held.expires_at)

    # Steps

    def received(
        self, token: AccessToken, *, requested_at: float, now: float, is_replacement: bool
    ) -> tuple[ProviderState, RenewalResult | None]:
        """Return the state after the endpoint issued *token*, and the result for waiters.

        The result is None if the token was rejected before it arrived, or is older than one that has expired: then it
        must be requested again. A late response never replaces a token that was requested after it.
        """
        self._check_open()
        new = self._hold(token, requested_at, is_replacement=is_replacement)
        if now >= new.expiring_at:  # too short-lived or too late: only for its waiters
            return self, RenewalResult(new.token, source="endpoint", expires_at=new.expires_at)
        if self.is_newest(new):
            return self.with_token(new, now), self._result(new, now, source="endpoint")
        held = self.live_token(now)
        if held is None:
            return self, None
        return self, RenewalResult(held.token, source="memory", expires_at=held.expires_at)

    def found(self, token: AccessToken, *, now: float, wall_now: float) -> tuple[ProviderState, RenewalResult | None]:
        """Return the state after a cache returned *token*, and the result for waiters: None if it is no better."""
        self._check_open()
        lifetime = token.expires_at - token.issued_at
        if token.issued_at > wall_now + _LARGEST_CLOCK_SKEW_SECONDS or lifetime > LONGEST_LIFETIME_SECONDS:
            return self, None
        # From the wall clock to the monotonic one. A writer whose clock is fast must not extend the lifetime.
        age = max(wall_now - token.issued_at, 0.0)
        new = self._hold(token, now - age, is_replacement=token.is_replacement)
        if not self.is_better(new, now):
            return self, None
        return self.with_token(new, now), self._result(new, now, source="cache")

    def failed(self, error: SimpleStoreError, now: float) -> ProviderState:
        """Return the state after a renewal failed with *error*."""
        self._check_open()
        is_alive = self.live_token(now) is not None
        pause = self.policy.backoff_seconds(error, failures=self.failures, is_alive=is_alive)
        return attrs.evolve(
            self,
            failures=self.failures + 1,
            error=error,
            not_before=max(self.not_before, now + pause),
            outage_began_at=now if self.outage_began_at is None else self.outage_began_at,
        )

    def rejects(self, token: AccessToken, now: float) -> tuple[ProviderState, tuple[Verdict, HeldToken | None]]:
        """Return the state after the API rejected *token*, the verdict, and the held token if it was that."""
        if self.is_closed:
            return self, (Verdict.GIVE_UP, None)
        verdict = self.verdict(token, now)
        held = self.held if self.held is not None and self.held.token.value == token.value else None
        if held is None or verdict is not Verdict.REPLACE:
            return self, (verdict, held)
        is_recent = now - held.requested_at < REJECTION_CAP_SECONDS
        after = attrs.evolve(
            self,
            held=None,
            rejected=(*self.rejected, (token.value, now))[-_REMEMBERED_REJECTIONS:],
            rejections=self.rejections + held.is_unproven if is_recent else 0,
            is_replacing=True,
        )
        return after, (verdict, held)

    def accepts(self, token: AccessToken) -> ProviderState:
        """Return the state after the API accepted *token*: an accepted replacement is an ordinary token."""
        held = self.held
        if held is None or not held.is_unproven or held.token.value != token.value:
            return self
        return attrs.evolve(self, held=attrs.evolve(held, is_unproven=False), rejections=0)

    def closed(self) -> ProviderState:
        """Return the state after the provider was closed."""
        return ProviderState(policy=self.policy, is_closed=True)

    # Parts of the steps

    def _check_open(self) -> None:
        if self.is_closed:
            raise ProviderClosedError

    def _hold(self, token: AccessToken, requested_at: float, *, is_replacement: bool) -> HeldToken:
        is_replacement = is_replacement or self.is_replacing
        if is_replacement and not token.is_replacement:
            token = attrs.evolve(token, is_replacement=True)
        return self.policy.hold(
            token,
            requested_at=requested_at,
            is_first=not self.has_renewed,
            is_unproven=is_replacement,
            random=random.random,
        )

    def is_newest(self, new: HeldToken) -> bool:
        """Return whether an issued token is newer than the held one and than its own rejection."""
        if self.held is not None and new.requested_at <= self.held.requested_at:
            return False
        return all(value != new.token.value or at <= new.requested_at for value, at in self.rejected)

    def is_better(self, new: HeldToken, now: float) -> bool:
        """Return whether a cached token is better than the held one: newer, not rejected and not due."""
        if any(value == new.token.value for value, _ in self.rejected):
            return False
        if self.held is not None and self.held.token.value == new.token.value:
            return False  # even if it has expired: a step of the wall clock does not revive it
        held = self.live_token(now)
        if held is None:
            return now < new.expiring_at
        return new.requested_at > held.requested_at and now < new.due_at

    def is_unchanged(self, new: HeldToken, now: float) -> bool:
        held = self.live_token(now)
        return held is not None and held.token.value == new.token.value

    def with_token(self, new: HeldToken, now: float) -> ProviderState:
        """Return the state with *new* held.

        The same value again does not count as a renewal: the token gets the newer lifetime, and a backoff follows, as
        after a failure. The backoff ends with the token, since an endpoint that responds is not an outage.
        """
        if self.held is not None and self.is_unchanged(new, now):
            pause = self.policy.unchanged_backoff_seconds(self.failures)
            return attrs.evolve(
                self,
                held=attrs.evolve(new, is_unproven=self.held.is_unproven),
                not_before=min(now + pause, new.expires_at),
                failures=self.failures + 1,
                error=None,
                outage_began_at=None,
            )
        return ProviderState(
            policy=self.policy,
            held=new,
            has_renewed=True,
            rejected=self.rejected,
            rejections=self.rejections,
        )

    def _result(self, new: HeldToken, now: float, *, source: Literal["cache", "endpoint"]) -> RenewalResult:
        return RenewalResult(
            new.token,
            source=source,
            expires_at=new.expires_at,
            is_kept=True,
            is_unchanged=self.is_unchanged(new, now),
            outage_began_at=self.outage_began_at,
        )


class StateStore:
    """The current `ProviderState`: read without a lock, replaced under one.

    Several event loops and threads may share a provider.
    """

    __slots__ = ("__weakref__", "state")

    def __init__(self, state: ProviderState) -> None:
        self.state: ProviderState = state

    def step(self, step: Callable[[ProviderState], tuple[ProviderState, T]]) -> T:
        """Replace the state with the one that *step* returns, and return the rest of its result."""
        with _LOCK:
            self.state, result = step(self.state)
        return result
