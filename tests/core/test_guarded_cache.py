"""`GuardedCache`: a renewal's use of a cache that may fail or hang."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from simplestore_async import AccessToken, MemoryTokenCache
from simplestore_async._core.guarded_cache import GuardedCache
from simplestore_async._core.worker import Worker
from simplestore_async.errors import TokenCacheError
from simplestore_async.events import CacheFailed
from tests.support.providers import Panic
from tests.support.tokens import make_token

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


TOKEN = make_token()
# Longer than any test takes.
LONG = 60.0
SHORT = 0.01

OPERATIONS = ["get", "set", "lock"]


class ScriptedCache:
    """A shared cache that runs scripted steps and records its calls."""

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


async def panic() -> None:
    raise Panic("canary-token")


def guard(cache: Any, *, cache_seconds: float = LONG, lock_seconds: float = LONG, budget: float = LONG) -> GuardedCache:
    return GuardedCache(cache, "key", asyncio.get_running_loop().time() + budget, cache_seconds, lock_seconds)


async def use(guarded: GuardedCache, operation: str) -> None:
    """Perform the operation as a renewal does, and check that it has no result."""
    if operation == "get":
        assert await guarded.get() is None
    elif operation == "set":
        await guarded.set(TOKEN)
    else:
        async with guarded.renewal_lock() as has_lock:
            assert has_lock is True


def step_of(operation: str) -> str:
    return "enter" if operation == "lock" else operation


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("misbehave", "facts"),
    [
        (fail, ("it raised LookupError", "")),
        (fail_at_once, ("it raised LookupError", "")),
        (time_out, ("it raised TimeoutError", "")),
        (fail_in_our_words, ("it is full", "make room")),
        (raise_cancelled, ("it raised CancelledError, although nothing was cancelled", "")),
        (panic, ("it raised Panic", "")),
        (lambda: None, ("it raised TypeError", "")),
    ],
    ids=["raises", "raises at once", "TimeoutError", "TokenCacheError", "CancelledError", "Panic", "no coroutine"],
)
async def test_failure(operation: str, misbehave: Callable[[], Any], facts: tuple[str, str]) -> None:
    """A cache's exception becomes an event with the text of a TokenCacheError only; no lock is released then."""
    cache = ScriptedCache(**{step_of(operation): misbehave})
    guarded = guard(cache)
    async with asyncio.timeout(60):
        await use(guarded, operation)
    (failure,) = guarded.failures
    assert (operation, *facts) == (failure.operation, failure.problem, failure.hint)
    assert "leave" not in [call[0] for call in cache.calls]


@pytest.mark.parametrize(
    ("operation", "limits", "problem"),
    [
        ("get", {"cache_seconds": SHORT}, "it took longer than 0.01 s"),
        ("set", {"cache_seconds": SHORT}, "it took longer than 0.01 s"),
        ("lock", {"lock_seconds": SHORT}, "another process held it for longer than 0.01 s"),
        ("get", {"budget": SHORT}, "it took longer than"),
        ("set", {"budget": SHORT}, "it took longer than"),
        ("lock", {"budget": SHORT}, "another process held it for longer than"),
        ("get", {"budget": -1}, "no time was left for it in the renewal's budget"),
        ("set", {"budget": -1}, "no time was left for it in the renewal's budget"),
        ("lock", {"budget": -1}, "no time was left for it in the renewal's budget"),
    ],
)
async def test_timeout(operation: str, limits: dict[str, float], problem: str) -> None:
    """A call times out at its own limit or the renewal's deadline, and at once if the deadline has passed."""
    guarded = guard(ScriptedCache(**{step_of(operation): hang}), **limits)
    async with asyncio.timeout(60):
        await use(guarded, operation)
    (failure,) = guarded.failures
    assert operation == failure.operation
    assert failure.problem.startswith(problem)


@pytest.mark.parametrize("rubbish", ["canary-token", 5, {"value": "canary-token"}, False, AccessToken])
async def test_wrong_type(rubbish: object) -> None:
    """A result of another type is a cache miss, and its type is reported."""

    async def find_rubbish() -> object:
        return rubbish

    guarded = guard(ScriptedCache(get=find_rubbish))
    assert await guarded.get() is None
    problem = f"it returned {type(rubbish).__name__} instead of an AccessToken"
    assert [CacheFailed(operation="get", problem=problem)] == guarded.failures


async def test_no_lock_after_a_failed_read() -> None:
    """After a failed read the lock is not acquired."""
    cache = ScriptedCache(get=fail)
    guarded = guard(cache)
    await guarded.get()
    async with guarded.renewal_lock() as has_lock:
        assert has_lock is False
    assert ["get"] == [failure.operation for failure in guarded.failures]
    assert [("get", "key")] == cache.calls


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_cancelled_renewal(operation: str) -> None:
    """Cancelling a renewal that waits for the cache is not reported as a failure of the cache."""
    is_waiting = asyncio.Event()

    async def signal_and_hang() -> None:
        is_waiting.set()
        await hang()

    guarded = guard(ScriptedCache(**{step_of(operation): signal_and_hang}))
    task = asyncio.ensure_future(use(guarded, operation))
    await is_waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [] == guarded.failures


async def test_unshared_cache() -> None:
    """For a cache without `renewal_lock` the lock yields False and nothing is reported."""
    guarded = guard(MemoryTokenCache())
    async with guarded.renewal_lock() as has_lock:
        assert has_lock is False
    assert [] == guarded.failures


async def test_lock_timeout_does_not_end_the_body() -> None:
    """The time limits of lock and cache do not apply to the body."""
    guarded = guard(ScriptedCache(), lock_seconds=1e-9, cache_seconds=1e-9)
    async with guarded.renewal_lock():
        for _ in range(5):
            await asyncio.sleep(0)
    assert [] == guarded.failures


async def test_lock_wait_shares_the_limit() -> None:
    """The time that a read took is deducted from the wait for the lock."""
    guarded = guard(ScriptedCache(get=lambda: asyncio.sleep(0.06), enter=hang), lock_seconds=0.1)
    async with asyncio.timeout(60):
        await use(guarded, "get")
        await use(guarded, "lock")
    (failure,) = guarded.failures
    assert float(failure.problem.split()[-2]) < 0.05


class TestQueue:
    """Caches with one worker thread, of which each operation takes 20 ms."""

    async def test_wait_is_limited(self) -> None:
        """A read that is queued for longer than its limit is reported as a failure."""
        worker = Worker("test-cache")
        cache = ScriptedCache(get=lambda: worker.run(lambda: time.sleep(0.02), droppable=True))
        guards = [guard(cache, cache_seconds=0.5, lock_seconds=0.5) for _ in range(35)]
        await asyncio.gather(*(guarded.get() for guarded in guards))
        failures = [failure for guarded in guards for failure in guarded.failures]
        assert {"get"} == {failure.operation for failure in failures}
        assert {"other work kept it busy for longer than"} == {failure.problem[:39] for failure in failures}

    async def test_store_is_done_later(self) -> None:
        """A queued store that outlasts its limit is still done and is not reported as a failure."""
        worker = Worker("test-cache")
        stored: list[None] = []

        def store() -> None:
            time.sleep(0.02)
            stored.append(None)

        guards = [guard(ScriptedCache(set=lambda: worker.run(store)), cache_seconds=0.5) for _ in range(35)]
        await asyncio.gather(*(guarded.set(TOKEN) for guarded in guards))
        assert len(stored) < 35
        assert [] == [failure for guarded in guards for failure in guarded.failures]
        await worker.run(lambda: None)
        assert 35 == len(stored)


class StopHereError(Exception):
    pass


async def swallow() -> bool:
    return True


@pytest.mark.parametrize(
    ("leave", "problems"),
    [
        (succeed, []),
        (swallow, []),
        (fail, ["it raised LookupError"]),
        (raise_cancelled, ["it raised CancelledError, although nothing was cancelled"]),
        (hang, ["it took longer than 0.01 s"]),
    ],
)
async def test_release(leave: Callable[[], Any], problems: list[str]) -> None:
    """An error in the body releases the lock and propagates, and a failed release is reported."""
    cache = ScriptedCache(leave=leave)
    guarded = guard(cache, cache_seconds=SHORT)
    with pytest.raises(StopHereError):
        async with asyncio.timeout(60), guarded.renewal_lock():
            raise StopHereError
    assert ("leave", None, None, None) == cache.calls[-1]
    assert [("lock", problem) for problem in problems] == [
        (failure.operation, failure.problem) for failure in guarded.failures
    ]


async def test_cancellation_releases_the_lock() -> None:
    """A renewal that is cancelled while it holds the lock, even past its deadline, completes the release."""
    is_held = asyncio.Event()
    released: list[bool] = []

    async def release() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        released.append(True)

    guarded = guard(ScriptedCache(leave=release))

    async def renew() -> None:
        async with guarded.renewal_lock():
            guarded.deadline = asyncio.get_running_loop().time()
            is_held.set()
            await hang()

    task = asyncio.ensure_future(renew())
    await is_held.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [True] == released
    assert [] == guarded.failures


@pytest.mark.parametrize(
    ("make_lock", "error"), [(fail_at_once, "LookupError"), (lambda: None, "AttributeError")], ids=["raises", "None"]
)
async def test_broken_renewal_lock(make_lock: Callable[[], Any], error: str) -> None:
    """If `renewal_lock()` raises or returns no context manager, the body runs and the failure is reported."""

    class Broken(ScriptedCache):
        def renewal_lock(self, key: str, /) -> Any:
            return make_lock()

    guarded = guard(Broken())
    await use(guarded, "lock")
    assert [CacheFailed(operation="lock", problem=f"it raised {error}")] == guarded.failures
