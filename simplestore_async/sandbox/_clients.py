"""Who may get tokens. Rule: the same rules and words as for a client's own credentials, and no secret is ever shown."""

from __future__ import annotations

import hmac
import threading

import attrs

from simplestore_async._core.credentials import ClientCredentials
from simplestore_async._core.redaction import conceal
from simplestore_async.errors import ConfigurationError

__all__ = ["Clients"]


@attrs.define(eq=False)
class Clients:
    """The clients of a sandbox, and the secrets of each that are valid now, the newest one last."""

    _secrets: dict[str, tuple[str, ...]] = attrs.field(init=False, factory=dict[str, tuple[str, ...]], repr=False)
    # Held from looking to writing: tests may do so from any thread. The handlers only look.
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock, repr=False)

    def __contains__(self, client_id: str) -> bool:
        return client_id in self._secrets

    def add(self, client_id: str, *, client_secret: str) -> None:
        """Let a further client get tokens.

        Raises:
            ConfigurationError: if id or secret cannot be one, or the client is there already.
        """
        client_secret = conceal(client_secret)
        _check(client_id, client_secret)
        with self._lock:
            if client_id in self:
                raise ConfigurationError(
                    f"client_id is {client_id!r}: there is such a client; rotate_secret() changes it"
                )
            self._secrets[client_id] = (client_secret,)

    def rotate(self, client_id: str, *, new_secret: str, keep_old: bool) -> None:
        """Give a client a new secret, instead of or beside those that it has."""
        new_secret = conceal(new_secret)
        with self._lock:
            old_secrets = self._secrets_of(client_id)
            _check(client_id, new_secret)
            self._secrets[client_id] = (*(old_secrets if keep_old else ()), new_secret)

    def drop_old(self, client_id: str) -> None:
        """Refuse every secret of a client but its newest."""
        with self._lock:
            self._secrets[client_id] = self._secrets_of(client_id)[-1:]

    def newest_secret_of(self, client_id: str) -> str:
        """Return what the client should use from now on."""
        return self._secrets_of(client_id)[-1]

    def check_known(self, client_id: str) -> None:
        """Refuse a client that was never added."""
        self._secrets_of(client_id)

    def accepts(self, client_id: str, client_secret: str) -> bool:
        """Return whether there is such a client with such a secret."""
        secrets = self._secrets.get(client_id, ())
        return any(hmac.compare_digest(secret.encode(), client_secret.encode()) for secret in secrets)

    def _secrets_of(self, client_id: str) -> tuple[str, ...]:
        if client_id not in self:
            raise ConfigurationError(f"client_id is {client_id!r}: no such client; add_client() makes it one")
        return self._secrets[client_id]


def _check(client_id: str, client_secret: str) -> None:
    if not isinstance(client_secret, str):
        raise ConfigurationError("client_secret must be a string: the sandbox compares it with what clients send")
    ClientCredentials(client_id=client_id, client_secret=client_secret)
