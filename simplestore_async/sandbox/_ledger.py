"""What the sandbox remembers of its tokens, and its counters. Rule: no I/O, and one injected clock decides.

The handlers run on one event loop, which may be in a thread of its own; everybody else may call from any thread.
"""

from __future__ import annotations

import secrets
import threading

import attrs

from simplestore_async._core.clock import Clock

__all__ = ["Counters", "IssuedToken", "Ledger"]


@attrs.frozen(kw_only=True)
class Counters:
    """What the server saw so far. A snapshot: it does not change while the server goes on.

    A request counts as what it was answered, also if that answer came late, slowly or cut short.

    Attributes:
        token_requests: requests to the token endpoint, whatever came of them.
        tokens_issued: of those, the ones answered with a token.
        refusals: of those, the ones answered 4xx because the client or the request was wrong.
        failures: of those, the ones that met a `Status`, `Garbage` or `Reset`, or the rate limit, instead.
        api_requests: requests to the API, authorised or not.
        unauthorized: of those, the ones answered 401, for want of a valid token or because it was to be rejected.
        api_failures: of those, the ones that met a `Status`, `Garbage` or `Reset`, or the rate limit, instead.
    """

    token_requests: int = 0
    tokens_issued: int = 0
    refusals: int = 0
    failures: int = 0
    api_requests: int = 0
    unauthorized: int = 0
    api_failures: int = 0


@attrs.define(kw_only=True)
class IssuedToken:
    """What is known of a token, but for its value."""

    number: int
    client_id: str
    expires_at: float
    is_revoked: bool = False


@attrs.define(eq=False)
class Ledger:
    """The tokens and the counters. Written by the request handlers and by the sandbox's own methods."""

    clock: Clock
    _counts: dict[str, int] = attrs.field(
        init=False, factory=lambda: dict.fromkeys((field.name for field in attrs.fields(Counters)), 0)
    )
    # A revoked token stays until it would have expired, so that the log can tell which one a straggler brought.
    _tokens: dict[str, IssuedToken] = attrs.field(init=False, factory=dict[str, IssuedToken], repr=False)
    _issued: int = attrs.field(init=False, default=0)
    # Guards the tokens, which the handlers replace while another thread may revoke them; they alone write the counters.
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock, repr=False)

    @property
    def counters(self) -> Counters:
        """The counters as they are now."""
        return Counters(**self._counts)

    def count(self, name: str) -> None:
        """Add one to the counter *name*."""
        self._counts[name] += 1

    def issue_token(self, client_id: str, *, lifetime_seconds: int) -> tuple[str, IssuedToken]:
        """Return a new token, its value first, and forget the expired ones."""
        now = self.clock.monotonic()
        value = secrets.token_urlsafe(32)
        with self._lock:
            self._tokens = {value: token for value, token in self._tokens.items() if now < token.expires_at}
            self._issued += 1
            token = IssuedToken(number=self._issued, client_id=client_id, expires_at=now + lifetime_seconds)
            self._tokens[value] = token
        return value, token

    def find_token(self, value: str) -> IssuedToken | None:
        """Return what is known of the token, be it valid or not; None if it was not issued here, or is forgotten."""
        return self._tokens.get(value)

    def is_valid(self, token: IssuedToken) -> bool:
        """Return whether the token has not expired, and was not revoked."""
        return not token.is_revoked and self.clock.monotonic() < token.expires_at

    def revoke(self, value: str) -> bool:
        """Revoke one token, and return whether it was valid."""
        with self._lock:
            token = self.find_token(value)
            if token is None or not self.is_valid(token):
                return False
            token.is_revoked = True
            return True

    def revoke_all(self, client_id: str | None) -> None:
        """Revoke every token of one client, or of all."""
        with self._lock:
            for token in self._tokens.values():
                if client_id in {None, token.client_id}:
                    token.is_revoked = True
