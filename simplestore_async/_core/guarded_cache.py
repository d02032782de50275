"""Fault isolation for caches. Rule: errors, timeouts and stray cancellations are reported and never fail a renewal."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import attrs

from simplestore_async.errors import TokenCacheError
from simplestore_async.events import CacheFailed

from .cache import SharedTokenCache, TokenCache
from .token import AccessToken
from .worker import work_timeout

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager


__all__ = ["GuardedCache"]

T = TypeVar("T")


@attrs.define
class GuardedCache:
    """One key of a cache during one renewal, which ends at *deadline* (loop time).

    An operation has *cache_seconds*. The wait for others, for the renewal lock or in a cache's queue, has
    *lock_seconds* in all. Failures are collected in *failures*, to be reported once the renewal's locks are released.
    """

    cache: TokenCache
    key: str
    deadline: float
    cache_seconds: float
    lock_seconds: float
    failures: list[CacheFailed] = attrs.field(factory=list[CacheFailed])
    _patience_ends_at: float | None = attrs.field(init=False, default=None)

    async def get(self) -> AccessToken | None:
        """Return the cached token, or None if there is none or the cache fails."""
        seconds = self._by_deadline(self.cache_seconds)
        queue_seconds = max(seconds, self._by_deadline(self._patience()))
        token = await self._attempt("get", lambda: self.cache.get(self.key), seconds, queue_seconds=queue_seconds)
        if token is None or isinstance(token, AccessToken):
            return token
        self._report("get", f"it returned {type(token).__name__} instead of an AccessToken")
        return None

    async def set(self, token: AccessToken) -> None:
        """Store *token*, if the cache can."""
        seconds = self._by_deadline(self.cache_seconds)
        await self._attempt("set", lambda: self.cache.set(self.key, token), seconds)

    @asynccontextmanager
    async def renewal_lock(self) -> AsyncGenerator[bool]:
        """Hold the cache's renewal lock, if it has one and grants it in time.

        Yields whether the cache has a lock: then another process may have renewed during the wait. After a failed read
        there is no lock, because nothing could be found in the cache after the wait.
        """
        if self.failures or not isinstance(self.cache, SharedTokenCache):
            yield False
            return
        cache = self.cache

        async def enter() -> AbstractAsyncContextManager[object]:
            lock = cache.renewal_lock(self.key)
            await lock.__aenter__()
            return lock

        seconds = self._by_deadline(self._patience())
        lock = await self._attempt("lock", enter, seconds, overdue="another process held it for longer than")
        try:
            yield True
        finally:
            if lock is not None:
                # Not limited by the deadline: a renewal past its budget must still release the lock for the others.
                await self._attempt("lock", lambda: lock.__aexit__(None, None, None), self.cache_seconds)

    def _by_deadline(self, seconds: float) -> float:
        return max(min(seconds, self.deadline - asyncio.get_running_loop().time()), 0.0)

    def _patience(self) -> float:
        """Return the remaining time that this renewal may wait for others."""
        now = asyncio.get_running_loop().time()
        if self._patience_ends_at is None:
            self._patience_ends_at = now + self.lock_seconds
        return self._patience_ends_at - now

    async def _attempt(
        self,
        operation: Literal["get", "set", "lock"],
        call: Callable[[], Awaitable[T]],
        seconds: float,
        *,
        queue_seconds: float | None = None,
        overdue: str = "it took longer than",
    ) -> T | None:
        queue_seconds = seconds if queue_seconds is None else queue_seconds
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        cancellations = task.cancelling()
        scope = None
        try:
            async with work_timeout(seconds, queue_seconds=queue_seconds) as scope:
                return await call()
        except TokenCacheError as error:
            self._report(operation, error.problem, error.hint)
        except asyncio.CancelledError:
            if task.cancelling() > cancellations:
                raise
            self._report(operation, "it raised CancelledError, although nothing was cancelled")
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a cache may raise anything; the text may contain the token
            if scope is None or not scope.expired():
                self._report(operation, f"it raised {type(error).__name__}")
            elif not scope.is_queued:
                limit = f"{overdue} {round(seconds, 2):g} s"
                self._report(operation, limit if seconds else "no time was left for it in the renewal's budget")
            # A queued store or release is still done later.
            elif scope.is_dropped:
                self._report(operation, f"other work kept it busy for longer than {round(queue_seconds, 2):g} s")
        return None

    def _report(self, operation: Literal["get", "set", "lock"], problem: str, hint: str = "") -> None:
        self.failures.append(CacheFailed(operation=operation, problem=problem, hint=hint))
