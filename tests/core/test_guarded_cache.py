"""`simplestore_async._core.guarded_cache`."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from simplestore_async import AccessToken, MemoryTokenCache, RenewalPolicy, SharedTokenCache
from simplestore_async._core.guarded_cache import GuardedCache
from simplestore_async.errors import TokenCacheError
from simplestore_async.events import CacheFailed, Event
from tests.support.tokens import make_token

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from tests.support.servers import TokenServer

TOKEN = make_token()
# Longer than any test may take; a test in which this ends a call fails by its timeout.
LONG = 60.0
SHORT = 0.01

OPERATIONS = ["get", "set", "lock"]


class ScriptedCache:
    """A shared cache whose every step does what a test says, and notes it."""

    def __init__(self, **steps: Callable[[], Any]) -> None:
        self.steps = steps
        self.calls: list[Any] = []

    def get(self, key: str, /) -> Awaitable[AccessToken | None]:
        return self._do("get", key)

    def set(self, key: str, token: AccessToken, /) -> Awaitable[None]:
        return self._do("set", key, token)

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
    raise TokenCacheError("mend the folder")


async def time_out() -> None:
    raise TimeoutError("canary-token")


def guard(cache: Any, *, cache_seconds: float = LONG, lock_seconds: float = LONG, budget: float = LONG) -> GuardedCache:
    return GuardedCache(cache, "key", asyncio.get_running_loop().time() + budget, cache_seconds, lock_seconds)


async def use(guarded: GuardedCache, operation: str) -> None:
    """Do the operation, as a renewal would; nothing may come of it."""
    if operation == "get":
        assert await guarded.get() is None
    elif operation == "set":
        await guarded.set(TOKEN)
    else:
        async with guarded.renewal_lock() as has_lock:
            assert has_lock is True


def step_of(operation: str) -> str:
    return "enter" if operation == "lock" else operation


async def test_what_works_passes_through() -> None:
    """Key and token reach the cache, its token comes back, and nothing is told."""
    cache = ScriptedCache(get=find_token)
    guarded = guard(cache)

    assert await guarded.get() is TOKEN
    await guarded.set(TOKEN)

    assert [("get", "key"), ("set", "key", TOKEN)] == cache.calls
    assert [] == guarded.failures


async def test_a_miss_is_no_failure() -> None:
    """None from a cache is None, and nothing is told."""
    guarded = guard(ScriptedCache())
    assert await guarded.get() is None
    assert [] == guarded.failures


# case 46
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("misbehave", "problem"),
    [
        (fail, "it raised LookupError"),
        (fail_at_once, "it raised LookupError"),
        (time_out, "it raised TimeoutError"),
        (fail_in_our_words, "mend the folder"),
        (lambda: None, "it raised TypeError"),
    ],
    ids=["raises", "raises before it is awaited", "raises TimeoutError", "raises TokenCacheError", "is no coroutine"],
)
async def test_a_failure_is_told(operation: str, misbehave: Callable[[], Any], problem: str) -> None:
    """What a cache raises becomes an event; its text is shown only if it is our own."""
    guarded = guard(ScriptedCache(**{step_of(operation): misbehave}))
    async with asyncio.timeout(5):
        await use(guarded, operation)
    assert [CacheFailed(operation=operation, problem=problem)] == guarded.failures  # type: ignore[arg-type]  # one of three words


# case 46
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
async def test_a_hanging_cache_is_left(operation: str, limits: dict[str, float], problem: str) -> None:
    """A call ends with its own time or with the renewal's, whichever is first."""
    guarded = guard(ScriptedCache(**{step_of(operation): hang}), **limits)
    async with asyncio.timeout(5):
        await use(guarded, operation)
    (failure,) = guarded.failures
    assert operation == failure.operation
    assert failure.problem.startswith(problem)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_no_time_is_left(operation: str) -> None:
    """A call that begins after the renewal's deadline ends at once, and no negative time is told."""
    guarded = guard(ScriptedCache(**{step_of(operation): hang}), budget=-1)
    async with asyncio.timeout(5):
        await use(guarded, operation)
    (failure,) = guarded.failures
    assert failure.problem.endswith(" longer than 0 s")


@pytest.mark.parametrize("rubbish", ["canary-token", 5, {"value": "canary-token"}, False, AccessToken])
async def test_rubbish_is_a_miss(rubbish: object) -> None:
    """What is no AccessToken is none, and only its type is told."""

    async def find_rubbish() -> object:
        return rubbish

    guarded = guard(ScriptedCache(get=find_rubbish))
    assert await guarded.get() is None
    problem = f"it returned {type(rubbish).__name__}, no AccessToken"
    assert [CacheFailed(operation="get", problem=problem)] == guarded.failures


async def test_failures_add_up() -> None:
    """Every failure of one renewal is kept, in order."""
    guarded = guard(ScriptedCache(get=fail, set=fail, enter=fail))
    for operation in ["lock", "get", "set"]:
        await use(guarded, operation)
    assert ["lock", "get", "set"] == [failure.operation for failure in guarded.failures]


async def test_what_cannot_be_read_is_not_locked() -> None:
    """After a failed read the lock is not taken: it would be waited for in vain."""
    cache = ScriptedCache(get=fail)
    guarded = guard(cache)
    await guarded.get()
    async with guarded.renewal_lock() as has_lock:
        assert has_lock is False
    assert ["get"] == [failure.operation for failure in guarded.failures]
    assert [("get", "key")] == cache.calls


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_cancelled_renewal_is_cancelled(operation: str) -> None:
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


async def test_a_cache_that_is_not_shared_has_no_lock() -> None:
    """A cache without `renewal_lock` gives False: nobody else can have renewed meanwhile."""
    guarded = guard(MemoryTokenCache())
    async with guarded.renewal_lock() as has_lock:
        assert has_lock is False
    assert [] == guarded.failures


async def test_the_lock_is_held_inside() -> None:
    """The key's lock is taken before the body and released after it."""
    cache = ScriptedCache()
    assert isinstance(cache, SharedTokenCache)
    guarded = guard(cache)
    async with guarded.renewal_lock() as has_lock:
        assert has_lock is True
        assert [("renewal_lock", "key"), ("enter",)] == cache.calls
    assert [("leave", None, None, None)] == cache.calls[2:]
    assert [] == guarded.failures


async def test_the_time_for_the_lock_does_not_end_the_body() -> None:
    """Once the lock is held the body may take longer than taking it, or any call of the cache, may."""
    guarded = guard(ScriptedCache(), lock_seconds=1e-9, cache_seconds=1e-9)
    async with guarded.renewal_lock():
        for _ in range(5):
            await asyncio.sleep(0)
    assert [] == guarded.failures


class StopHereError(Exception):
    pass


async def swallow() -> bool:
    return True


@pytest.mark.parametrize("leave", [succeed, swallow, fail, fail_at_once, hang])
async def test_an_error_inside_releases_the_lock(leave: Callable[[], Any]) -> None:
    """An error in the body reaches the renewal, whatever the release of the lock does or answers."""
    cache = ScriptedCache(leave=leave)
    guarded = guard(cache, cache_seconds=SHORT)
    with pytest.raises(StopHereError):
        async with asyncio.timeout(5), guarded.renewal_lock():
            raise StopHereError
    assert ("leave", None, None, None) == cache.calls[-1]


async def test_a_cancel_inside_releases_the_lock() -> None:
    """A renewal that is cancelled while it holds the lock releases it, though that takes a turn of the loop."""
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


@pytest.mark.parametrize("enter", [fail, fail_at_once, fail_in_our_words, hang])
async def test_a_lock_not_taken_is_not_released(enter: Callable[[], Any]) -> None:
    """When the lock cannot be had the body runs without it, and there is nothing to release."""
    cache = ScriptedCache(enter=enter)
    guarded = guard(cache, lock_seconds=SHORT)
    async with asyncio.timeout(5):
        await use(guarded, "lock")
    assert [("renewal_lock", "key"), ("enter",)] == cache.calls
    assert ["lock"] == [failure.operation for failure in guarded.failures]


@pytest.mark.parametrize(
    ("leave", "problem"),
    [
        (fail, "it raised LookupError"),
        (fail_at_once, "it raised LookupError"),
        (fail_in_our_words, "mend the folder"),
        (hang, "it took longer than 0.01 s"),
    ],
)
async def test_a_release_that_fails_is_told(leave: Callable[[], Any], problem: str) -> None:
    """A release that raises or hangs, which has the time of a call and not that of the lock, is an event."""
    guarded = guard(ScriptedCache(leave=leave), cache_seconds=SHORT)
    async with asyncio.timeout(5):
        await use(guarded, "lock")
    assert [CacheFailed(operation="lock", problem=problem)] == guarded.failures


# case 46
async def test_a_lock_that_cannot_even_be_made() -> None:
    """When `renewal_lock()` itself raises, the body runs without a lock, and an event tells."""

    class Broken(ScriptedCache):
        def renewal_lock(self, key: str, /) -> ScriptedCache:
            raise LookupError("canary-token")

    guarded = guard(Broken())
    await use(guarded, "lock")
    assert [CacheFailed(operation="lock", problem="it raised LookupError")] == guarded.failures


# case 46
async def test_what_is_no_lock() -> None:
    """When `renewal_lock()` returns no context manager, the body runs without a lock, and an event tells."""

    class Broken(ScriptedCache):
        def renewal_lock(self, key: str, /) -> Any:
            return None

    guarded = guard(Broken())
    await use(guarded, "lock")
    assert [CacheFailed(operation="lock", problem="it raised AttributeError")] == guarded.failures


async def test_the_lock_is_released_after_the_deadline() -> None:
    """A renewal that used all of its time still has time to release the lock, or nobody else would get it."""
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


async def test_a_lock_made_by_a_generator() -> None:
    """A lock written with `asynccontextmanager`, the usual way, is taken and released."""
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


# case 46
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("misbehave", [fail, fail_at_once, hang])
async def test_the_caller_gets_its_token(
    token_server: TokenServer, operation: str, misbehave: Callable[[], Any]
) -> None:
    """A provider over a cache that fails or hangs gets the token from the endpoint, and one event tells."""
    events: list[Event] = []
    async with token_server.provider(
        cache=ScriptedCache(**{step_of(operation): misbehave}),
        policy=RenewalPolicy(cache_seconds=SHORT, lock_seconds=SHORT),
        on_event=events.append,
    ) as provider:
        token = await provider.get_token()

    assert token_server.issued == [token.value]
    failures = [event for event in events if isinstance(event, CacheFailed)]
    assert [operation] == [failure.operation for failure in failures]
    assert "canary" not in "".join(map(str, events))
