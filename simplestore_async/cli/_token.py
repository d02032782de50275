"""`simplestore token`. Rule: the token itself is in no line unless it was asked for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from simplestore_async import TokenProvider

from ._folder import open_folder
from ._output import show_duration, show_instant, warn_of_cache

if TYPE_CHECKING:
    from simplestore_async import AccessToken

__all__ = ["get_token", "token_facts", "token_lines"]


async def get_token(*, is_cached: bool) -> AccessToken:
    """Return a token for the environment's credentials.

    Args:
        is_cached: whether it may be one that another process got, and is kept for others.

    Raises:
        SimpleStoreError: if the environment is wrong, or no token can be had.
    """
    cache = open_folder() if is_cached else None
    async with TokenProvider(cache=cache, on_event=warn_of_cache) as provider:
        return await provider.get_token()


def token_facts(token: AccessToken, *, is_shown: bool) -> dict[str, object]:
    """Return what is known about *token*, for programs; the token itself, as `value`, only if *is_shown*."""
    facts: dict[str, object] = {
        "token_type": token.token_type,
        "issued_at": token.issued_at,
        "expires_at": token.expires_at,
        "life_seconds": token.expires_at - time.time(),
        "scope": token.scope,
    }
    return facts | ({"value": token.value} if is_shown else {})


def token_lines(token: AccessToken, *, is_shown: bool) -> list[str]:
    """Return the same for people, line by line."""
    facts = {
        "type": token.token_type,
        "issued": show_instant(token.issued_at),
        "expires": show_instant(token.expires_at),
        "lifetime left": show_duration(token.expires_at - time.time()),
        "scope": " ".join(token.scope) or "(none named)",
    }
    if is_shown:
        facts["token"] = str(token.value)
    return [f"{name:<13}  {fact}" for name, fact in facts.items()]
