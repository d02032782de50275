"""Tokens for caches."""

from __future__ import annotations

from typing import Any

from simplestore_async import AccessToken

# The year 2100: no cache considers these tokens expired.
ISSUED_AT = 4_102_444_800.123456


def make_token(value: str = "canary-token", **changes: Any) -> AccessToken:
    fields: dict[str, Any] = {
        "issued_at": ISSUED_AT,
        "expires_at": ISSUED_AT + 3600.1,
        "scope": ("orders:read", "stock"),
    }
    return AccessToken(value, **fields | changes)
