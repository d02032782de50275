"""The stored form of a token. Rule: one version, read strictly; what cannot be trusted whole is not a token.

JSON, because it is read by people at 3 a.m.; instants are POSIX seconds.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final, cast

from simplestore_async._core.redaction import conceal
from simplestore_async._core.token import AccessToken
from simplestore_async.errors import ConfigurationError, TokenCacheError

from ._coding import decode, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simplestore_async._core.cache import TokenCodec

__all__ = ["FORMAT_VERSION", "digest_of", "dumps", "loads", "pack", "unpack"]

FORMAT_VERSION: Final = 1
_FIELDS: Final = {"version", "value", "token_type", "issued_at", "expires_at", "scope", "is_replacement"}


def dumps(token: AccessToken) -> bytes:
    """Return the stored form of *token*, for authors of caches.

    It holds the token in clear: keep it where only you can read.

    Returns:
        One line of JSON in ASCII.
    """
    return json.dumps(
        {
            "version": FORMAT_VERSION,
            "value": token.value,
            "token_type": token.token_type,
            "issued_at": token.issued_at,
            "expires_at": token.expires_at,
            "scope": token.scope,
            "is_replacement": token.is_replacement,
        }
    ).encode()


def loads(data: bytes) -> AccessToken:
    """Return the token that `dumps()` stored.

    Raises:
        TokenCacheError: if *data* is anything else: damaged, of another version, or no bearer token. It does not quote
            it.
    """
    token = _load(data)
    del data  # a traceback shows the locals of the frames that the error passes
    if token is None:
        raise TokenCacheError("The cached token cannot be read: it is damaged, or of another version")
    return token


def digest_of(key: str) -> str:
    """Return what stands for *key* in names that others see: 64 hexadecimal digits."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def pack(digest: str, token: AccessToken, codec: TokenCodec | None) -> bytes:
    """Return what is stored for *token*: a line with the digest of its key, and its stored form; encoded as a whole.

    Raises:
        TokenCacheError: if the codec fails.
    """
    return encode(codec, conceal(_header(digest) + dumps(token)))


def unpack(digest: str, data: bytes, codec: TokenCodec | None) -> AccessToken | None:
    """Return the token in what is stored; None if it is damaged, or another key's that was copied here.

    Raises:
        TokenCacheError: if the codec fails.
    """
    content = decode(codec, data)
    header = _header(digest)
    return _load(content[len(header) :]) if content is not None and content.startswith(header) else None


def _header(digest: str) -> bytes:
    return f"{digest}\n".encode()


def _load(data: bytes) -> AccessToken | None:
    # Returned, not raised: json's and our own errors would carry the data along in their tracebacks.
    try:
        payload = json.loads(data)
        return _build(cast("dict[str, Any]", payload)) if isinstance(payload, dict) else None
    except (ValueError, TypeError, RecursionError, ConfigurationError):
        return None


def _build(payload: Mapping[str, Any]) -> AccessToken | None:
    scope = payload.get("scope")
    if set(payload) != _FIELDS or type(payload["version"]) is not int or payload["version"] != FORMAT_VERSION:
        return None
    if not isinstance(scope, list) or not all(isinstance(name, str) for name in scope):  # pyright: ignore[reportUnknownVariableType] - JSON
        return None
    return AccessToken(
        payload["value"],
        token_type=payload["token_type"],
        issued_at=payload["issued_at"],
        expires_at=payload["expires_at"],
        scope=scope,  # pyright: ignore[reportUnknownArgumentType] - as above
        is_replacement=payload["is_replacement"],
    )
