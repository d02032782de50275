"""Test suite for the lock of caches that processes share."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from simplestore_async import SharedTokenCache

from ._cache_contract import CANCELLED_STEPS, TokenCacheContract
from ._running import check, check_equal, run, within
from ._samples import ODD_KEYS, make_token

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

__all__ = ["SharedTokenCacheContract"]

# How long a held lock is waited for, to show that it is not acquired.
_BRIEFLY_SECONDS = 0.1


class SharedTokenCacheContract(TokenCacheContract):
    """Test that a cache fulfils the requirements of `simplestore_async.SharedTokenCache`, and those of every cache.

    Used like `TokenCacheContract`. It tests the lock among tasks, event loops and threads; your own tests cover
    processes.
    """

    def test_is_a_shared_token_cache(self, cache: SharedTokenCache) -> None:
        """The cache implements the `SharedTokenCache` protocol."""
        check(isinstance(cache, SharedTokenCache), "a shared cache also has the method renewal_lock(key)")

    @pytest.mark.asyncio
    async def test_one_task_at_a_time(self, cache: SharedTokenCache) -> None:
        """Each of many tasks gets the lock, one at a time."""
        inside: list[int] = []

        async def hold(number: int) -> None:
            async with cache.renewal_lock("key"):
                inside.append(number)
                for _ in range(3):
                    await asyncio.sleep(0)
                    check_equal([number], inside, "one task at a time holds a key's lock")
                await cache.get("key")
                inside.remove(number)

        async with within(self.patience_seconds, "each task that waits for the lock gets it in turn"):
            await asyncio.gather(*map(hold, range(5)))

    def test_one_thread_at_a_time(self, cache: SharedTokenCache) -> None:
        """While one event loop holds the lock, another one in another thread waits for it."""
        is_held, is_over = threading.Event(), threading.Event()

        async def hold() -> None:
            async with cache.renewal_lock("key"):
                is_held.set()
                await asyncio.to_thread(is_over.wait, self.patience_seconds)

        async def enters_within(seconds: float) -> bool:
            try:
                async with asyncio.timeout(seconds), cache.renewal_lock("key"):
                    return True
            except TimeoutError:
                return False

        with ThreadPoolExecutor(1) as threads:
            holder = threads.submit(lambda: run(hold()))
            holder.add_done_callback(lambda _: is_held.set())  # even if it did not get the lock
            try:
                is_held.wait(self.patience_seconds)
                enters_meanwhile = run(enters_within(_BRIEFLY_SECONDS))
            finally:
                is_over.set()
            holder.result()

        check(not enters_meanwhile, "one event loop at a time holds a key's lock, in any thread")
        check(run(enters_within(self.patience_seconds)), "a lock that another event loop held is free afterwards")

    def test_threads_take_turns(self, cache: SharedTokenCache) -> None:
        """Each of several threads with its own event loop gets the lock, one at a time."""
        inside: list[int] = []

        async def hold(number: int) -> None:
            async with (
                within(self.patience_seconds, "each thread that waits for the lock gets it in turn"),
                cache.renewal_lock("key"),
            ):
                inside.append(number)
                await cache.get("key")
                check_equal([number], inside, "one thread at a time holds a key's lock")
                inside.remove(number)

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(run, map(hold, range(4))))

    def test_locks_on_loops_after_each_other(self, cache: SharedTokenCache) -> None:
        """The lock works on each event loop, with waiting tasks, after another loop was closed."""

        async def hold() -> None:
            async with cache.renewal_lock("key"):
                await asyncio.sleep(0)

        async def use() -> None:
            async with within(self.patience_seconds, "a lock works on each event loop, after others were closed"):
                await asyncio.gather(*(hold() for _ in range(3)))

        for _ in range(3):
            run(use())

    @pytest.mark.asyncio
    async def test_locks_are_independent(self, cache: SharedTokenCache) -> None:
        """One key's lock does not block another's."""
        async with (
            within(self.patience_seconds, "one key's lock does not block another's"),
            cache.renewal_lock("key"),
            cache.renewal_lock("other"),
        ):
            pass

    @pytest.mark.asyncio
    async def test_holder_uses_the_cache(self, cache: SharedTokenCache) -> None:
        """The cache can be read and written while the lock is held."""
        async with (
            within(self.patience_seconds, "the cache is read and written while its lock is held"),
            cache.renewal_lock("key"),
        ):
            await cache.set("key", make_token())
            check_equal(make_token(), await cache.get("key"), "a token set while the lock is held is found")

    @pytest.mark.asyncio
    @pytest.mark.parametrize("key", ODD_KEYS.values(), ids=ODD_KEYS.keys())
    async def test_odd_locks(self, cache: SharedTokenCache, key: str) -> None:
        """Any string has a lock that can be acquired repeatedly."""
        async with within(self.patience_seconds, "any text has a lock, again and again"):
            for _ in range(2):
                async with cache.renewal_lock(key):
                    pass

    @pytest.mark.asyncio
    async def test_is_released_after_an_error(self, cache: SharedTokenCache) -> None:
        """An error of the holder propagates, and the lock is free."""
        with pytest.raises(ZeroDivisionError):
            async with cache.renewal_lock("key"):
                raise ZeroDivisionError
        await self._assert_free(cache.renewal_lock("key"), "an error of its holder releases a lock")

    @pytest.mark.asyncio
    async def test_is_released_by_a_cancelled_holder(self, cache: SharedTokenCache) -> None:
        """A cancelled holder ends with CancelledError, and the lock is free."""
        is_held = asyncio.Event()

        async def hold() -> None:
            async with cache.renewal_lock("key"):
                is_held.set()
                await asyncio.Event().wait()

        holder = asyncio.create_task(hold())
        async with within(self.patience_seconds, "a free lock is acquired"):
            await is_held.wait()
        holder.cancel()
        await self._assert_cancelled(holder)
        await self._assert_free(cache.renewal_lock("key"), "the cancellation of its holder releases a lock")

    @pytest.mark.asyncio
    @pytest.mark.parametrize("is_held", [True, False], ids=["held", "free"])
    async def test_is_free_after_a_cancelled_wait(self, cache: SharedTokenCache, *, is_held: bool) -> None:
        """A caller that is cancelled while it waits for or acquires the lock does not keep it."""

        async def hold() -> None:
            async with cache.renewal_lock("key"):
                await asyncio.Event().wait()

        for steps in range(CANCELLED_STEPS):
            async with AsyncExitStack() as stack:
                if is_held:
                    await stack.enter_async_context(cache.renewal_lock("key"))
                waiter = asyncio.create_task(hold())
                for _ in range(steps):
                    await asyncio.sleep(0)
                waiter.cancel()
                await self._assert_cancelled(waiter)
            await self._assert_free(
                cache.renewal_lock("key"), "a caller cancelled while waiting does not keep the lock"
            )

    async def _assert_cancelled(self, task: asyncio.Task[None]) -> None:
        async with within(self.patience_seconds, "a caller cancelled at a lock ends"):
            await asyncio.wait([task])
        # Retrieved, since asyncio would log an unretrieved error during another test.
        [outcome] = await asyncio.gather(task, return_exceptions=True)
        check(
            isinstance(outcome, asyncio.CancelledError),
            "a caller cancelled at a lock gets CancelledError, and nothing else",
        )

    async def _assert_free(self, lock: AbstractAsyncContextManager[object], rule: str) -> None:
        async with within(self.patience_seconds, rule), lock:
            pass
