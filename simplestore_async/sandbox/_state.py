"""Clients, tokens and counters. Rule: no I/O, and only the injected clock.

The request handlers run on one event loop, perhaps in its own thread; the sandbox's methods run in any thread.
"""

from __future__ import annotations

import hmac
import secrets
import threading

import attrs

from simplestore_async._core.clock import Clock
from simplestore_async._core.credentials import ClientCredentials
from simplestore_async._core.validation import check_type
from simplestore_async.errors import ConfigurationError

__all__ = ["Clients", "Counters", "IssuedToken", "Tokens"]


@attrs.frozen(kw_only=True)
class Counters:
    """Numbers of requests and outcomes so far, as a snapshot.

    A request counts by its response, even if that was late, slow or truncated.

    Attributes:
        token_requests: requests to the token endpoint.
        tokens_issued: token requests that got a token.
        refusals: token requests refused with 4xx because the client or the request was wrong.
        failures: token requests that got a `Status`, `Response`, `Garbage` or `Reset`, or were over the rate limit.
        api_requests: requests to the API, authorised or not.
        unauthorized: API requests rejected for lack of a valid token, or by a `RejectedToken`.
        api_failures: API requests that got a `Status`, `Response`, `Garbage` or `Reset`, or were over the rate limit.
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
    """Facts about a token, without its value."""

    number: int
    client_id: str
    expires_at: float
    is_revoked: bool = False


@attrs.define(eq=False)
class Tokens:
    """The issued tokens. A revoked token is kept until its expiry, so that the log can identify it."""

    clock: Clock
    _tokens: dict[str, IssuedToken] = attrs.field(init=False, factory=dict[str, IssuedToken], repr=False)
    _issued: int = attrs.field(init=False, default=0)
    # The handlers replace the tokens while another thread may revoke them.
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock, repr=False)

    def issue(self, client_id: str, *, lifetime_seconds: int) -> tuple[str, IssuedToken]:
        """Return a new token, its value first, and forget expired ones."""
        now = self.clock.monotonic()
        value = secrets.token_urlsafe(32)
        with self._lock:
            self._tokens = {value: token for value, token in self._tokens.items() if now < token.expires_at}
            self._issued += 1
            token = IssuedToken(number=self._issued, client_id=client_id, expires_at=now + lifetime_seconds)
            self._tokens[value] = token
        return value, token

    def find(self, value: str) -> IssuedToken | None:
        """Return the token, valid or not; None if it is unknown or forgotten."""
        return self._tokens.get(value)

    def is_valid(self, token: IssuedToken) -> bool:
        """Return whether the token is neither expired nor revoked."""
        return not token.is_revoked and self.clock.monotonic() < token.expires_at

    def revoke(self, value: str) -> bool:
        """Revoke one token; return whether it was valid."""
        with self._lock:
            token = self.find(value)
            if token is None or not self.is_valid(token):
                return False
            token.is_revoked = True
            return True

    def revoke_all(self, client_id: str | None) -> None:
        """Revoke the tokens of one client, or of all."""
        with self._lock:
            for token in self._tokens.values():
                if client_id in {None, token.client_id}:
                    token.is_revoked = True


@attrs.define(eq=False)
class Clients:
    """The clients, each with its valid secrets, the newest last."""

    _secrets: dict[str, tuple[str, ...]] = attrs.field(init=False, factory=dict[str, tuple[str, ...]], repr=False)
    # Tests change secrets from any thread; the handlers only read.
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock, repr=False)

    def __contains__(self, client_id: str) -> bool:
        return client_id in self._secrets

    def add(self, client_id: str, *, client_secret: str) -> None:
        """Add a client.

        Raises:
            ConfigurationError: if the id or secret is invalid, or the client exists.
        """
        _check(client_id, client_secret)
        with self._lock:
            if client_id in self:
                raise ConfigurationError("client_id", f"{client_id!r} exists already", hint="use rotate_secret()")
            self._secrets[client_id] = (client_secret,)

    def rotate(self, client_id: str, *, new_secret: str, keep_old: bool) -> None:
        """Give a client a new secret, in place of its others or in addition to them."""
        with self._lock:
            old_secrets = self._secrets_of(client_id)
            _check(client_id, new_secret)
            self._secrets[client_id] = (*(old_secrets if keep_old else ()), new_secret)

    def drop_old(self, client_id: str) -> None:
        """Remove all secrets of a client except its newest."""
        with self._lock:
            self._secrets[client_id] = self._secrets_of(client_id)[-1:]

    def newest_secret_of(self, client_id: str) -> str:
        """Return the newest secret of a client."""
        return self._secrets_of(client_id)[-1]

    def accepts(self, client_id: str, client_secret: str) -> bool:
        """Return whether the client exists and has this secret."""
        valid = self._secrets.get(client_id, ())
        return any(hmac.compare_digest(secret.encode(), client_secret.encode()) for secret in valid)

    def _secrets_of(self, client_id: str) -> tuple[str, ...]:
        if client_id not in self:
            raise ConfigurationError("client_id", f"{client_id!r} is unknown", hint="add it with add_client()")
        return self._secrets[client_id]


def _check(client_id: str, client_secret: str) -> None:
    check_type("client_secret", client_secret, str)
    ClientCredentials(client_id=client_id, client_secret=client_secret)
