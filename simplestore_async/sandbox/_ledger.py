"""What the sandbox remembers: tokens, scripted failures, counters. Rule: no I/O, and one injected clock decides.

A test that moves that clock moves the server's time and the client's together.
"""

from __future__ import annotations

import secrets
from collections import deque
from math import inf, isfinite

import attrs

from simplestore_async._clock import Clock
from simplestore_async.errors import ConfigurationError

__all__ = ["Counters", "Failure", "Ledger", "is_seconds", "is_whole"]


@attrs.frozen(kw_only=True)
class Counters:
    """What the server saw so far. A snapshot: it does not change while the server goes on.

    Attributes:
        token_requests: requests to the token endpoint, whatever came of them.
        tokens_issued: of those, the ones answered with a token.
        refusals: of those, the ones answered 4xx because the client or the request was wrong.
        failures: of those, the ones answered by a scripted failure.
        api_requests: requests to the API, authorised or not.
        unauthorized: of those, the ones answered 401.
    """

    token_requests: int = 0
    tokens_issued: int = 0
    refusals: int = 0
    failures: int = 0
    api_requests: int = 0
    unauthorized: int = 0


def is_whole(value: object) -> bool:
    """Return whether *value* is an int, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_seconds(value: object) -> bool:
    """Return whether *value* is a finite number, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _check_status(_failure: object, _field: object, value: int) -> None:
    if not is_whole(value) or not 400 <= value <= 599:
        raise ConfigurationError(f"status is {value!r}: set an HTTP error status, 400 to 599")


def _check_retry_after(_failure: object, _field: object, value: float | str | None) -> None:
    is_valid = value.isprintable() if isinstance(value, str) else value is None or (is_seconds(value) and value >= 0)
    if not is_valid:
        raise ConfigurationError(f"retry_after is {value!r}: set seconds, 0 or more, or a header's value on one line")


@attrs.frozen(kw_only=True)
class Failure:
    """How a scripted failure answers.

    Raises:
        ConfigurationError: names the field, what was wrong and what to set.
    """

    status: int = attrs.field(validator=_check_status)
    retry_after: float | str | None = attrs.field(validator=_check_retry_after)


@attrs.define(kw_only=True)
class _Outage:
    """A run of failures, bounded by requests or by seconds; the seconds count from its first request."""

    failure: Failure
    requests_left: float = inf
    seconds: float = inf
    _ends_at: float | None = attrs.field(init=False, default=None)

    def covers(self, now: float) -> bool:
        """Return whether a token request at *now* fails; if so, it is counted."""
        if self._ends_at is None:
            self._ends_at = now + self.seconds
        if self.requests_left <= 0 or now >= self._ends_at:
            return False
        self.requests_left -= 1
        return True


@attrs.define
class Ledger:
    """The one place of the sandbox that changes. Written by the request handlers and by the sandbox's own methods."""

    clock: Clock
    counters: Counters = attrs.field(init=False, factory=Counters)
    _expiries: dict[str, float] = attrs.field(init=False, factory=dict[str, float], repr=False)
    _outages: deque[_Outage] = attrs.field(init=False, factory=deque[_Outage])

    def count(self, name: str) -> None:
        """Add one to the counter *name*."""
        self.counters = attrs.evolve(self.counters, **{name: getattr(self.counters, name) + 1})

    def issue_token(self, *, lifetime_seconds: int) -> str:
        """Return a new token, and forget the expired ones."""
        now = self.clock.monotonic()
        self._expiries = {token: expires_at for token, expires_at in self._expiries.items() if now < expires_at}
        token = secrets.token_urlsafe(32)
        self._expiries[token] = now + lifetime_seconds
        return token

    def is_valid(self, token: str) -> bool:
        """Return whether *token* was issued here, has not expired, and was not revoked."""
        return self.clock.monotonic() < self._expiries.get(token, -inf)

    def revoke_all(self) -> None:
        """Forget every token."""
        self._expiries.clear()

    def script_requests(self, failure: Failure, *, requests: int) -> None:
        """Let the next *requests* token requests end in *failure*, after what was scripted before."""
        self._outages.append(_Outage(failure=failure, requests_left=requests))

    def script_outage(self, failure: Failure, *, seconds: float) -> None:
        """Let token requests end in *failure* for *seconds* from the next one, after what was scripted before."""
        self._outages.append(_Outage(failure=failure, seconds=seconds))

    def next_failure(self) -> Failure | None:
        """Return how the token request that is here now has to fail, or None."""
        now = self.clock.monotonic()
        while self._outages:
            if self._outages[0].covers(now):
                return self._outages[0].failure
            self._outages.popleft()
        return None
