"""`simplestore token`. Rule: the token itself is in no line unless it was asked for."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from simplestore_async import TokenProvider

__all__ = ["token_lines"]


async def token_lines(*, is_shown: bool) -> list[str]:
    """Return what is known about a new token for the environment's credentials, line by line.

    Args:
        is_shown: whether the token is one of them.

    Raises:
        SimpleStoreError: if the environment is wrong, or no token can be had.
    """
    async with TokenProvider() as provider:
        token = await provider.get_token()
    facts = {
        "type": token.token_type,
        "issued": _instant(token.issued_at),
        "expires": _instant(token.expires_at),
        "lifetime left": str(timedelta(seconds=int(token.expires_at - time.time()))),
        "scope": " ".join(token.scope) or "(none named)",
    }
    if is_shown:
        facts["token"] = str(token.value)
    return [f"{name:<13}  {fact}" for name, fact in facts.items()]


def _instant(posix_seconds: float) -> str:
    return datetime.fromtimestamp(posix_seconds, UTC).isoformat(sep=" ", timespec="seconds")
