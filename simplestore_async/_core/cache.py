"""Cache protocols and the memory cache. Rule: two coroutines make a cache; a third method lets processes share it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from .clock import default_clock

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from .clock import Clock
    from .token import AccessToken

__all__ = ["MemoryTokenCache", "SharedTokenCache", "TokenCache", "TokenCodec"]


@runtime_checkable
class TokenCache(Protocol):
    """A place that keeps tokens beyond the provider that got them.

    Used from several tasks, and from several event loops if the provider is. A cache that raises or hangs never costs
    a caller its token: the provider goes on without it, and reports `simplestore_async.events.CacheFailed`.
    Any text is a key; those of providers are digests. `simplestore_async.testing.TokenCacheContract` proves a cache of
    your own.
    """

    async def get(self, key: str, /) -> AccessToken | None:
        """Return the token last set for *key*, or None if there is none or it cannot be trusted.

        An expired token may be returned; the provider checks for itself.
        """
        ...

    async def set(self, key: str, token: AccessToken, /) -> None:
        """Keep *token* for *key* in place of any other, until it expires."""
        ...


@runtime_checkable
class SharedTokenCache(TokenCache, Protocol):
    """A cache that several processes share, with a lock that lets one of them renew for all."""

    def renewal_lock(self, key: str, /) -> AbstractAsyncContextManager[object]:
        """Return a context manager that holds *key*'s lock across processes; entering it waits for the others.

        The provider cancels the entering when it takes too long, and renews without the lock: it saves token requests,
        and correctness does not depend on it.
        """
        ...


@runtime_checkable
class TokenCodec(Protocol):
    """What changes the bytes that a cache stores, and back: `simplestore_async.caches.encryption.FernetCodec` is one.

    Its methods may block: a cache calls them in a thread of its own, several at once if it serves several caches. What
    is encoded holds the token, and a digest of its key, by which an entry that was copied to another key is found out.
    A codec that raises costs a log line, as a cache does that fails, and never a caller its token. The line has the
    exception's type, not its text, which may hold the token; that of a `TokenCacheError` is shown.
    """

    def encode(self, data: bytes, /) -> bytes:
        """Return what is to be stored for *data*, which holds a token in clear."""
        ...

    def decode(self, data: bytes, /) -> bytes | None:
        """Return what was encoded, or None for what this codec cannot have made: damaged, or of another key."""
        ...


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
