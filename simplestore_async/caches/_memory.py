"""Tokens in this process. Rule: what has expired is dropped, so that the cache is no larger than what is alive."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from simplestore_async._clock import default_clock

if TYPE_CHECKING:
    from simplestore_async._clock import Clock
    from simplestore_async._token import AccessToken

__all__ = ["MemoryTokenCache"]


class MemoryTokenCache:
    """A cache in memory, for several providers of one process; safe to use from several event loops and threads.

    Args:
        clock: the clock whose `time()` tells what has expired; by default the machine's.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or default_clock()
        self._tokens: dict[str, AccessToken] = {}
        self._lock = threading.Lock()  # guards the sweep against another thread's set

    async def get(self, key: str, /) -> AccessToken | None:
        """Return the token last set for *key*, if it has not expired."""
        token = self._tokens.get(key)
        return token if token is not None and token.expires_at > self._clock.time() else None

    async def set(self, key: str, token: AccessToken, /) -> None:
        """Keep *token* for *key*, and drop every token that has expired."""
        now = self._clock.time()
        with self._lock:
            self._tokens[key] = token
            for expired in [key for key, token in self._tokens.items() if token.expires_at <= now]:
                del self._tokens[expired]

    def __len__(self) -> int:
        return len(self._tokens)
