"""What a provider asks of a cache. Rule: two coroutines are a cache; a third method lets processes share it.

And what a cache asks of a codec.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from simplestore_async._token import AccessToken

__all__ = ["SharedTokenCache", "TokenCache", "TokenCodec"]


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
