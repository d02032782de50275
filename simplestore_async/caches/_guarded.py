"""Any cache, made harmless. Rule: a cache that raises or hangs is told about, and never costs a caller its token."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal, TypeVar

import attrs

from simplestore_async._token import AccessToken
from simplestore_async.errors import TokenCacheError
from simplestore_async.events import CacheFailed

from ._protocols import SharedTokenCache, TokenCache

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable


__all__ = ["GuardedCache"]

T = TypeVar("T")


@attrs.define(eq=False)
class GuardedCache:
    """One key of a cache during one renewal, which ends at *deadline* (loop time).

    Failures are collected in *failures*, to be told once the renewal's locks are released.
    """

    cache: TokenCache
    key: str
    deadline: float
    cache_seconds: float
    lock_seconds: float
    failures: list[CacheFailed] = attrs.field(factory=list[CacheFailed], init=False)

    async def get(self) -> AccessToken | None:
        """Return the cached token, or None if there is none or the cache fails."""
        token = await self._attempt("get", lambda: self.cache.get(self.key), self.cache_seconds)
        if token is None or isinstance(token, AccessToken):  # pyright: ignore[reportUnnecessaryIsInstance]
            return token
        self.failures.append(
            CacheFailed(operation="get", problem=f"it returned {type(token).__name__}, no AccessToken")
        )
        return None

    async def set(self, token: AccessToken) -> None:
        """Keep *token*, if the cache can."""
        await self._attempt("set", lambda: self.cache.set(self.key, token), self.cache_seconds)

    @asynccontextmanager
    async def renewal_lock(self) -> AsyncGenerator[bool]:
        """Hold the cache's renewal lock, if it has one and gives it in time.

        Gives whether there is a lock: then another process may have renewed while we waited for it.
        """
        if not isinstance(self.cache, SharedTokenCache):
            yield False
            return
        lock = self.cache.renewal_lock(self.key)

        async def enter() -> bool:
            await lock.__aenter__()
            return True

        is_held = await self._attempt("lock", enter, self.lock_seconds)
        try:
            yield True
        finally:
            if is_held:
                await self._attempt("lock", lambda: lock.__aexit__(None, None, None), self.cache_seconds)

    async def _attempt(
        self, operation: Literal["get", "set", "lock"], call: Callable[[], Awaitable[T]], seconds: float
    ) -> T | None:
        try:
            async with asyncio.timeout_at(min(self.deadline, asyncio.get_running_loop().time() + seconds)):
                return await call()
        except TimeoutError:
            problem = f"it took longer than {seconds:g} s"
        except TokenCacheError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - a cache may be anybody's; its exception's text may hold the token
            problem = f"it raised {type(error).__name__}"
        self.failures.append(CacheFailed(operation=operation, problem=problem))
        return None
