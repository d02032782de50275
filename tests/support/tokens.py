"""Tokens for caches."""

from __future__ import annotations

import time
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


def living_token() -> AccessToken:
    """Return a token that is a minute old and expires in 59."""
    now = time.time()
    return make_token(issued_at=now - 60, expires_at=now + 3_540)
