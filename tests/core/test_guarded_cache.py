"""`simplestore_async._core.guarded_cache`."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from simplestore_async import AccessToken, MemoryTokenCache, SharedTokenCache
from simplestore_async._core.guarded_cache import GuardedCache
from simplestore_async._core.worker import Worker
from simplestore_async.errors import TokenCacheError
from simplestore_async.events import CacheFailed
from tests.support.tokens import make_token

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable


TOKEN = make_token()
# Longer than a test may take.
LONG = 60.0
SHORT = 0.01

OPERATIONS = ["get", "set", "lock"]


class ScriptedCache:
    """A shared cache with scripted steps, which records them."""

    def __init__(self, **steps: Callable[[], Any]) -> None:
        self.steps = steps
        self.calls: list[Any] = []

    async def get(self, key: str, /) -> AccessToken | None:
        token: AccessToken | None = await self._do("get", key)
        return token

    async def set(self, key: str, token: AccessToken, /) -> None:
        await self._do("set", key, token)

    def renewal_lock(self, key: str, /) -> ScriptedCache:
        self.calls.append(("renewal_lock", key))
        return self

    def __aenter__(self) -> Awaitable[object]:
        return self._do("enter")

    def __aexit__(self, *error: object) -> Awaitable[object]:
        return self._do("leave", *error)

    def _do(self, step: str, *arguments: Any) -> Awaitable[Any]:
        self.calls.append((step, *arguments))
        result: Awaitable[Any] = self.steps.get(step, succeed)()
        return result


async def succeed() -> None:
    pass


async def find_token() -> AccessToken:
    return TOKEN


async def hang() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise LookupError("canary-token")


def fail_at_once() -> None:
    raise LookupError("canary-token")


async def fail_in_our_words() -> None:
    raise TokenCacheError("it is full", "make room")


async def raise_cancelled() -> None:
    raise asyncio.CancelledError


async def time_out() -> None:
    raise TimeoutError("canary-token")


def guard(cache: Any, *, cache_seconds: float = LONG, lock_seconds: float = LONG, budget: float = LONG) -> GuardedCache:
    return GuardedCache(cache, "key", asyncio.get_running_loop().time() + budget, cache_seconds, lock_seconds)


async def use(guarded: GuardedCache, operation: str) -> None:
    """Do the operation, as a renewal does; it has no result."""
    if operation == "get":
        assert await guarded.get() is None
    elif operation == "set":
        await guarded.set(TOKEN)
    else:
        async with guarded.renewal_lock() as has_lock:
            assert has_lock is True


def step_of(operation: str) -> str:
    return "enter" if operation == "lock" else operation


async def test_success() -> None:
    """Key and token reach the cache, its token is returned, and nothing is reported."""
    cache = ScriptedCache(get=find_token)
    guarded = guard(cache)

    assert await guarded.get() is TOKEN
    await guarded.set(TOKEN)

    assert [("get", "key"), ("set", "key", TOKEN)] == cache.calls
    assert [] == guarded.failures


async def test_miss() -> None:
    """None from a cache is None, and nothing is reported."""
    guarded = guard(ScriptedCache())
    assert await guarded.get() is None
    assert [] == guarded.failures


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("misbehave", "facts"),
    [
        (fail, ("it raised LookupError", "")),
        (fail_at_once, ("it raised LookupError", "")),
        (time_out, ("it raised TimeoutError", "")),
        (fail_in_our_words, ("it is full", "make room")),
        (raise_cancelled, ("it raised CancelledError, although nothing was cancelled", "")),
        (lambda: None, ("it raised TypeError", "")),
    ],
    ids=["raises", "raises at once", "TimeoutError", "TokenCacheError", "CancelledError", "no coroutine"],
)
async def test_failure(operation: str, misbehave: Callable[[], Any], facts: tuple[str, str]) -> None:
    """An exception of a cache becomes an event; only the text of a TokenCacheError is shown."""
    guarded = guard(ScriptedCache(**{step_of(operation): misbehave}))
    async with asyncio.timeout(60):
        await use(guarded, operation)
    (failure,) = guarded.failures
    assert (operation, *facts) == (failure.operation, failure.problem, failure.hint)


@pytest.mark.parametrize(
    ("operation", "limits", "problem"),
    [
        ("get", {"cache_seconds": SHORT}, "it took longer than 0.01 s"),
        ("set", {"cache_seconds": SHORT}, "it took longer than 0.01 s"),
        ("lock", {"lock_seconds": SHORT}, "another process held it for longer than 0.01 s"),
        ("get", {"budget": SHORT}, "it took longer than"),
        ("set", {"budget": SHORT}, "it took longer than"),
        ("lock", {"budget": SHORT}, "another process held it for longer than"),
    ],
)
async def test_timeout(operation: str, limits: dict[str, float], problem: str) -> None:
    """A call ends at its own limit or at the renewal's deadline, whichever is first."""
    guarded = guard(ScriptedCache(**{step_of(operation): hang}), **limits)
    async with asyncio.timeout(60):
        await use(guarded, operation)
    (failure,) = guarded.failures
    assert operation == failure.operation
    assert failure.problem.startswith(problem)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_after_the_deadline(operation: str) -> None:
    """A call that starts after the renewal's deadline ends at once."""
    guarded = guard(ScriptedCache(**{step_of(operation): hang}), budget=-1)
    async with asyncio.timeout(60):
        await use(guarded, operation)
    (failure,) = guarded.failures
    assert "no time was left for it in the renewal's budget" == failure.problem


@pytest.mark.parametrize("rubbish", ["canary-token", 5, {"value": "canary-token"}, False, AccessToken])
async def test_wrong_type(rubbish: object) -> None:
    """A result of another type is a cache miss; its type is reported."""

    async def find_rubbish() -> object:
        return rubbish

    guarded = guard(ScriptedCache(get=find_rubbish))
    assert await guarded.get() is None
    problem = f"it returned {type(rubbish).__name__} instead of an AccessToken"
    assert [CacheFailed(operation="get", problem=problem)] == guarded.failures


async def test_failures_are_collected() -> None:
    """Every failure of one renewal is kept, in order."""
    guarded = guard(ScriptedCache(get=fail, set=fail, enter=fail))
    for operation in ["lock", "get", "set"]:
        await use(guarded, operation)
    assert ["lock", "get", "set"] == [failure.operation for failure in guarded.failures]


async def test_no_lock_after_a_failed_read() -> None:
    """After a failed read the lock is not acquired: the wait would be in vain."""
    cache = ScriptedCache(get=fail)
    guarded = guard(cache)
    await guarded.get()
    async with guarded.renewal_lock() as has_lock:
        assert has_lock is False
    assert ["get"] == [failure.operation for failure in guarded.failures]
    assert [("get", "key")] == cache.calls


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_cancelled_renewal(operation: str) -> None:
    """Cancelling the renewal while it waits for the cache cancels it, and is no failure of the cache."""
    is_waiting = asyncio.Event()

    async def tell_and_hang() -> None:
        is_waiting.set()
        await hang()

    guarded = guard(ScriptedCache(**{step_of(operation): tell_and_hang}))
    task = asyncio.ensure_future(use(guarded, operation))
    await is_waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [] == guarded.failures


async def test_unshared_cache() -> None:
    """A cache without `renewal_lock` yields False: no other process can have renewed meanwhile."""
    guarded = guard(MemoryTokenCache())
    async with guarded.renewal_lock() as has_lock:
        assert has_lock is False
    assert [] == guarded.failures


async def test_lock_is_held() -> None:
    """The key's lock is acquired before the body and released after it."""
    cache = ScriptedCache()
    assert isinstance(cache, SharedTokenCache)
    guarded = guard(cache)
    async with guarded.renewal_lock() as has_lock:
        assert has_lock is True
        assert [("renewal_lock", "key"), ("enter",)] == cache.calls
    assert [("leave", None, None, None)] == cache.calls[2:]
    assert [] == guarded.failures


async def test_lock_timeout_does_not_end_the_body() -> None:
    """Once the lock is held, the limits of lock and cache do not apply to the body."""
    guarded = guard(ScriptedCache(), lock_seconds=1e-9, cache_seconds=1e-9)
    async with guarded.renewal_lock():
        for _ in range(5):
            await asyncio.sleep(0)
    assert [] == guarded.failures


async def test_patience_is_shared() -> None:
    """The wait for the lock has the time that the read left."""
    guarded = guard(ScriptedCache(get=lambda: asyncio.sleep(0.06), enter=hang), lock_seconds=0.1)
    async with asyncio.timeout(60):
        await use(guarded, "get")
        await use(guarded, "lock")
    (failure,) = guarded.failures
    assert float(failure.problem.split()[-2]) < 0.05


class QueuedCache:
    """A cache whose work queues for one thread."""

    def __init__(self, *, job_seconds: float) -> None:
        self.stored: list[AccessToken] = []
        self._seconds = job_seconds
        self._worker = Worker("test-cache")

    async def get(self, key: str, /) -> AccessToken | None:
        def work() -> AccessToken:
            time.sleep(self._seconds)
            return TOKEN

        return await self._worker.run(work, droppable=True)

    async def set(self, key: str, token: AccessToken, /) -> None:
        def work() -> None:
            time.sleep(self._seconds)
            self.stored.append(token)

        await self._worker.run(work)


class TestQueue:
    async def test_wait_is_not_counted(self) -> None:
        """Reads that wait for each other longer than one may take find their tokens."""
        cache = QueuedCache(job_seconds=0.02)
        guards = [guard(cache, cache_seconds=0.5) for _ in range(40)]
        assert [TOKEN] * 40 == await asyncio.gather(*(guarded.get() for guarded in guards))
        assert [] == [failure for guarded in guards for failure in guarded.failures]

    async def test_wait_is_limited(self) -> None:
        """A read that waits longer than the renewal may wait for others is a failure."""
        cache = QueuedCache(job_seconds=0.02)
        guards = [guard(cache, cache_seconds=0.5, lock_seconds=0.5) for _ in range(60)]
        found = await asyncio.gather(*(guarded.get() for guarded in guards))
        assert None in found
        failures = [failure for guarded in guards for failure in guarded.failures]
        assert {"get"} == {failure.operation for failure in failures}
        assert {"other work kept it busy for longer than"} == {failure.problem[:39] for failure in failures}

    async def test_store_is_done_later(self) -> None:
        """A queued store that nothing waits for any longer is done, and is no failure."""
        cache = QueuedCache(job_seconds=0.02)
        guards = [guard(cache, cache_seconds=0.5) for _ in range(60)]
        await asyncio.gather(*(guarded.set(TOKEN) for guarded in guards))
        assert len(cache.stored) < 60
        assert [] == [failure for guarded in guards for failure in guarded.failures]
        await cache.get("after the others")
        assert [TOKEN] * 60 == cache.stored


class StopHereError(Exception):
    pass


async def swallow() -> bool:
    return True


@pytest.mark.parametrize("leave", [succeed, swallow, fail, fail_at_once, raise_cancelled, hang])
async def test_error_releases_the_lock(leave: Callable[[], Any]) -> None:
    """An error in the body reaches the renewal, for any outcome of the release."""
    cache = ScriptedCache(leave=leave)
    guarded = guard(cache, cache_seconds=SHORT)
    with pytest.raises(StopHereError):
        async with asyncio.timeout(60), guarded.renewal_lock():
            raise StopHereError
    assert ("leave", None, None, None) == cache.calls[-1]


async def test_cancellation_releases_the_lock() -> None:
    """A renewal that is cancelled while it holds the lock releases it, although that takes a step of the loop."""
    is_held = asyncio.Event()
    released: list[bool] = []

    async def release() -> None:
        await asyncio.sleep(0)
        released.append(True)

    guarded = guard(ScriptedCache(leave=release))

    async def renew() -> None:
        async with guarded.renewal_lock():
            is_held.set()
            await hang()

    task = asyncio.ensure_future(renew())
    await is_held.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [True] == released
    assert [] == guarded.failures


@pytest.mark.parametrize("enter", [fail, fail_at_once, fail_in_our_words, raise_cancelled, hang])
async def test_lock_not_acquired_is_not_released(enter: Callable[[], Any]) -> None:
    """A failed acquisition runs the body without the lock, and nothing is released."""
    cache = ScriptedCache(enter=enter)
    guarded = guard(cache, lock_seconds=SHORT)
    async with asyncio.timeout(60):
        await use(guarded, "lock")
    assert [("renewal_lock", "key"), ("enter",)] == cache.calls
    assert ["lock"] == [failure.operation for failure in guarded.failures]


@pytest.mark.parametrize(
    ("leave", "problem"),
    [
        (fail, "it raised LookupError"),
        (fail_at_once, "it raised LookupError"),
        (fail_in_our_words, "it is full"),
        (raise_cancelled, "it raised CancelledError, although nothing was cancelled"),
        (hang, "it took longer than 0.01 s"),
    ],
)
async def test_failed_release(leave: Callable[[], Any], problem: str) -> None:
    """A release that raises, or takes longer than an operation may, is reported."""
    guarded = guard(ScriptedCache(leave=leave), cache_seconds=SHORT)
    async with asyncio.timeout(60):
        await use(guarded, "lock")
    assert [("lock", problem)] == [(failure.operation, failure.problem) for failure in guarded.failures]


async def test_renewal_lock_raises() -> None:
    """If `renewal_lock()` raises, the body runs without a lock, and the failure is reported."""

    class Broken(ScriptedCache):
        def renewal_lock(self, key: str, /) -> ScriptedCache:
            raise LookupError("canary-token")

    guarded = guard(Broken())
    await use(guarded, "lock")
    assert [CacheFailed(operation="lock", problem="it raised LookupError")] == guarded.failures


async def test_renewal_lock_is_no_context_manager() -> None:
    """If `renewal_lock()` returns no context manager, the body runs without a lock, and the failure is reported."""

    class Broken(ScriptedCache):
        def renewal_lock(self, key: str, /) -> Any:
            return None

    guarded = guard(Broken())
    await use(guarded, "lock")
    assert [CacheFailed(operation="lock", problem="it raised AttributeError")] == guarded.failures


async def test_release_after_the_deadline() -> None:
    """A renewal that spent its budget still has time to release the lock."""
    released: list[bool] = []

    async def release() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        released.append(True)

    guarded = guard(ScriptedCache(leave=release))
    async with guarded.renewal_lock():
        guarded.deadline = asyncio.get_running_loop().time()
    assert [True] == released
    assert [] == guarded.failures


async def test_generator_lock() -> None:
    """A lock written with `asynccontextmanager` is acquired and released."""
    events: list[str] = []

    class Usual(MemoryTokenCache):
        @asynccontextmanager
        async def renewal_lock(self, key: str, /) -> AsyncGenerator[None]:
            events.append("taken")
            try:
                yield
            finally:
                events.append("released")

    guarded = guard(Usual())
    async with guarded.renewal_lock():
        events.append("inside")
    assert ["taken", "inside", "released"] == events
    assert [] == guarded.failures
