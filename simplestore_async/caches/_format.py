"""The stored form of a token. Rule: one version, read strictly and as a whole.

JSON, because operators read it; timestamps are POSIX seconds. Within one boot the monotonic clock determines a token's
age, because the wall clock may have been stepped.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final, cast

from simplestore_async._core.cache import find_reading, undo_clock_step
from simplestore_async._core.clock import Clock, default_clock, find_boot
from simplestore_async._core.redaction import conceal
from simplestore_async._core.token import AccessToken
from simplestore_async._core.validation import check_type, is_number
from simplestore_async.errors import ConfigurationError, TokenCacheError

from ._coding import decode, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simplestore_async._core.cache import TokenCodec

__all__ = ["FORMAT_VERSION", "StoredForm", "digest_of", "dumps", "loads"]

FORMAT_VERSION: Final = 2
_FIELDS: Final = {
    "version",
    "value",
    "token_type",
    "issued_at",
    "expires_at",
    "scope",
    "is_replacement",
    "boot_id",
    "issued_at_boot_seconds",
}


def dumps(token: AccessToken, *, clock: Clock | None = None) -> bytes:
    """Return the stored form of *token*, for authors of caches.

    It contains the token unencrypted: store it where only its owner can read it.

    Args:
        token: the token.
        clock: the clock that will be passed to `loads()`; by default the system clock.

    Returns:
        One line of JSON in ASCII.

    Raises:
        ConfigurationError: if an argument has the wrong type.
    """
    check_type("token", token, AccessToken)
    check_type("clock", clock, Clock | None)
    boot_id = find_boot()
    reading = None if boot_id is None else find_reading(token, clock or default_clock())
    return json.dumps(
        {
            "version": FORMAT_VERSION,
            "value": token.value,
            "token_type": token.token_type,
            "issued_at": token.issued_at,
            "expires_at": token.expires_at,
            "scope": token.scope,
            "is_replacement": token.is_replacement,
            "boot_id": None if reading is None else boot_id,
            "issued_at_boot_seconds": reading,
        }
    ).encode()


def loads(data: bytes, *, clock: Clock | None = None) -> AccessToken:
    """Return the token that `dumps()` stored.

    If the wall clock was stepped since then, without a restart of the machine, the token's timestamps move with it.

    Args:
        data: the stored form.
        clock: the clock for the token's age; by default the system clock.

    Raises:
        TokenCacheError: if *data* is damaged, of another version, or not a bearer token. The message does not quote it.
        ConfigurationError: if *clock* is not a `Clock`.
    """
    check_type("clock", clock, Clock | None)
    token = _load(data, clock or default_clock())
    del data  # a traceback shows the locals of this frame
    if token is None:
        raise TokenCacheError("the cached token is damaged, or of another version", "treat it as a cache miss")
    return token


def digest_of(key: str) -> str:
    """Return the visible name of *key*: 64 hexadecimal digits.

    Raises:
        ConfigurationError: if *key* is not a string.
    """
    check_type("key", key, str)
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class StoredForm:
    """The stored form of one cache: a line with the key's digest, then the token, encoded together."""

    def __init__(self, codec: TokenCodec | None, clock: Clock | None = None) -> None:
        self.codec = codec
        self._clock = clock

    def pack(self, digest: str, token: AccessToken) -> bytes:
        """Return the bytes to store for *token*.

        Raises:
            TokenCacheError: if the codec fails.
        """
        return encode(self.codec, conceal(_header(digest) + dumps(token, clock=self._clock)))

    def unpack(self, digest: str, data: bytes) -> AccessToken | None:
        """Return the stored token; None if the data is damaged or belongs to another key.

        Raises:
            TokenCacheError: if the codec fails.
        """
        content = decode(self.codec, data)
        header = _header(digest)
        if content is None or not content.startswith(header):
            return None
        return _load(content[len(header) :], self._clock or default_clock())


def _header(digest: str) -> bytes:
    return f"{digest}\n".encode()


def _load(data: bytes, clock: Clock) -> AccessToken | None:
    # Returned, not raised: tracebacks of errors would contain the data.
    try:
        payload = json.loads(data)
        return _build(cast("dict[str, Any]", payload), clock) if isinstance(payload, dict) else None
    except (ValueError, TypeError, RecursionError, ConfigurationError):
        return None


def _build(payload: Mapping[str, Any], clock: Clock) -> AccessToken | None:
    if set(payload) != _FIELDS or type(payload["version"]) is not int or payload["version"] != FORMAT_VERSION:
        return None
    if not isinstance(payload.get("scope"), list):
        return None
    boot_id, reading = payload["boot_id"], payload["issued_at_boot_seconds"]
    if (boot_id, reading) != (None, None) and not (isinstance(boot_id, str) and is_number(reading)):
        return None
    token = AccessToken(
        payload["value"],
        token_type=payload["token_type"],
        issued_at=payload["issued_at"],
        expires_at=payload["expires_at"],
        scope=payload["scope"],
        is_replacement=payload["is_replacement"],
    )
    return undo_clock_step(token, reading, clock) if boot_id == find_boot() else token
