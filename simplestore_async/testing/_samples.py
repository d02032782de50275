"""Sample keys and tokens. Rule: tokens are fake, start with `canary`, and outlive a test run."""

from __future__ import annotations

import time
from typing import Any, Final

from simplestore_async import AccessToken

__all__ = ["ODD_KEYS", "make_token"]

# No more digits than a database timestamp has.
_ISSUED_AT: Final = round(time.time() // 1 - 0.876544, 6)
_EXPIRES_AT: Final = round(_ISSUED_AT + 72_000.1, 6)

ODD_KEYS: Final = {
    "empty": "",
    "a path out of the directory": "../../x",
    "an absolute path": "/x",
    "a dot": ".",
    "NUL": "\0",
    "line break": "\n",
    "10 kB": "k" * 10_000,
    "unicode": "ключ 🔑 e\u0301",
}


def make_token(value: str = "canary-token", **changes: Any) -> AccessToken:
    """Return a token with a value in every field that a cache could lose."""
    fields: dict[str, Any] = {
        "issued_at": _ISSUED_AT,
        "expires_at": _EXPIRES_AT,
        "scope": ("orders:read", "stock"),
        "is_replacement": True,
    }
    return AccessToken(value, **fields | changes)
