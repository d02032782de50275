"""Any cache, made harmless. Rule: a cache that raises or hangs is told about, and never costs a caller its token."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal, TypeVar

import attrs

from simplestore_async.errors import TokenCacheError
from simplestore_async.events import CacheFailed

from .cache import SharedTokenCache, TokenCache
from .token import AccessToken

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager


__all__ = ["GuardedCache"]

T = TypeVar("T")


@attrs.define
class GuardedCache:
    """One key of a cache during one renewal, which ends at *deadline* (loop time).

    Failures are collected in *failures*, to be told once the renewal's locks are released.
    """

    cache: TokenCache
    key: str
    deadline: float
    cache_seconds: float
    lock_seconds: float
    failures: list[CacheFailed] = attrs.field(factory=list[CacheFailed])

    async def get(self) -> AccessToken | None:
        """Return the cached token, or None if there is none or the cache fails."""
        token = await self._attempt("get", lambda: self.cache.get(self.key), self._by_deadline(self.cache_seconds))
        if token is None or isinstance(token, AccessToken):
            return token
        self.failures.append(
            CacheFailed(operation="get", problem=f"it returned {type(token).__name__}, no AccessToken")
        )
        return None

    async def set(self, token: AccessToken) -> None:
        """Keep *token*, if the cache can."""
        await self._attempt("set", lambda: self.cache.set(self.key, token), self._by_deadline(self.cache_seconds))

    @asynccontextmanager
    async def renewal_lock(self) -> AsyncGenerator[bool]:
        """Hold the cache's renewal lock, if it has one and gives it in time.

        Gives whether there is a lock: then another process may have renewed while we waited for it. A cache that could
        not be read is not waited for: there would be nothing to find in it afterwards.
        """
        if self.failures or not isinstance(self.cache, SharedTokenCache):
            yield False
            return
        cache = self.cache

        async def enter() -> AbstractAsyncContextManager[object]:
            lock = cache.renewal_lock(self.key)
            await lock.__aenter__()
            return lock

        seconds = self._by_deadline(self.lock_seconds)
        lock = await self._attempt("lock", enter, seconds, overdue="another process held it for longer than")
        try:
            yield True
        finally:
            if lock is not None:
                # Not by the deadline: a renewal that spent its budget must still let the others in.
                await self._attempt("lock", lambda: lock.__aexit__(None, None, None), self.cache_seconds)

    def _by_deadline(self, seconds: float) -> float:
        return max(min(seconds, self.deadline - asyncio.get_running_loop().time()), 0.0)

    async def _attempt(
        self,
        operation: Literal["get", "set", "lock"],
        call: Callable[[], Awaitable[T]],
        seconds: float,
        *,
        overdue: str = "it took longer than",
    ) -> T | None:
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                return await call()
        except TokenCacheError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - a cache may be anybody's; its exception's text may hold the token
            problem = f"{overdue} {seconds:.3g} s" if scope.expired() else f"it raised {type(error).__name__}"
        self.failures.append(CacheFailed(operation=operation, problem=problem))
        return None
