"""`simplestore_async._core.cache`; the contract that all caches keep is in `test_every_cache.py`."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import pytest

from simplestore_async import FileTokenCache, MemoryTokenCache
from simplestore_async._core.cache import check_cache
from simplestore_async.errors import ConfigurationError
from simplestore_async.testing._running import run
from tests.support.tokens import make_token

if TYPE_CHECKING:
    from simplestore_async import AccessToken
    from tests.support.clocks import FakeClock


@pytest.fixture
def cache(clock: FakeClock) -> MemoryTokenCache:
    return MemoryTokenCache(clock=clock)


def living_for(seconds: float, clock: FakeClock, value: str = "canary-token") -> AccessToken:
    now = clock.time()
    return make_token(value, issued_at=now - 3600, expires_at=now + seconds)


@pytest.mark.parametrize(("age", "is_alive"), [(9.5, True), (10, False), (10.5, False)])
async def test_expiry(cache: MemoryTokenCache, clock: FakeClock, age: float, *, is_alive: bool) -> None:
    """A token is returned until the instant of its expiry."""
    token = living_for(10, clock)
    await cache.set("key", token)
    clock.advance(age)
    assert (token if is_alive else None) == await cache.get("key")


@pytest.mark.parametrize("step", [-7200, -5, 5, 7200])
async def test_wall_clock_step(cache: MemoryTokenCache, clock: FakeClock, step: float) -> None:
    """A step of the wall clock changes no token's life: its instants are moved by the step."""
    token = living_for(10, clock)
    await cache.set("key", token)
    clock.step_wall(step)

    got = await cache.get("key")
    clock.advance(10)

    assert got is not None
    assert (token.issued_at + step, token.expires_at + step) == (got.issued_at, got.expires_at)
    assert token.value == got.value
    assert await cache.get("key") is None


async def test_default_clock() -> None:
    """The machine's clock is the default."""
    cache = MemoryTokenCache()
    await cache.set("old", make_token(issued_at=0, expires_at=1_000_000_000))
    await cache.set("new", make_token())
    assert await cache.get("old") is None
    assert make_token() == await cache.get("new")
    assert 1 == len(cache)


@pytest.mark.parametrize(("age", "left"), [(9.5, 3), (10, 2), (19.5, 2), (20, 1)])
async def test_set_drops_expired_tokens(cache: MemoryTokenCache, clock: FakeClock, age: float, left: int) -> None:
    """Setting any key drops every expired token, and no other."""
    await cache.set("short", living_for(10, clock))
    await cache.set("long", living_for(20, clock))
    clock.advance(age)
    assert 2 == len(cache)

    await cache.set("new", living_for(30, clock))

    assert left == len(cache)


async def test_set_of_an_expired_token(cache: MemoryTokenCache, clock: FakeClock) -> None:
    """Setting an expired token keeps nothing, not even the token before it."""
    await cache.set("key", living_for(10, clock))
    await cache.set("key", living_for(0, clock))
    assert 0 == len(cache)


async def test_size_is_bounded(cache: MemoryTokenCache, clock: FakeClock) -> None:
    """A thousand keys, a second apart, whose tokens live for ten seconds, never make more than ten entries."""
    sizes = set()
    for number in range(1000):
        await cache.set(f"key {number}", living_for(10, clock))
        clock.advance(1)
        sizes.add(len(cache))
    assert set(range(1, 11)) == sizes


def test_concurrent_threads(cache: MemoryTokenCache, clock: FakeClock) -> None:
    """Threads that set keys concurrently lose none and raise nothing."""
    token = living_for(10, clock)

    async def use(thread: int) -> None:
        for number in range(200):
            await cache.set(f"key {thread}-{number}", token)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda thread: run(use(thread)), range(4)))
    finally:
        sys.setswitchinterval(interval)

    assert 800 == len(cache)


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("clock", lambda: MemoryTokenCache(clock=5)),  # type: ignore[arg-type]
        ("key", lambda: MemoryTokenCache().get(None)),  # type: ignore[arg-type]
        ("key", lambda: MemoryTokenCache().set(b"key", make_token())),  # type: ignore[arg-type]
        ("token", lambda: MemoryTokenCache().set("key", "token")),  # type: ignore[arg-type]
    ],
)
async def test_wrong_argument(field: str, call: Any) -> None:
    """An argument of the wrong type is a ConfigurationError that names it."""
    with pytest.raises(ConfigurationError) as caught:
        await call()
    assert field == caught.value.field


class PlainCache:
    def get(self, key: str, /) -> None: ...

    def set(self, key: str, token: AccessToken, /) -> None: ...


def passed_on(function: Any) -> Any:
    @wraps(function)
    def decorated(*arguments: Any) -> Any:
        return function(*arguments)

    return decorated


class UnusualCache:
    """A cache whose methods return awaitables without being coroutine functions."""

    def __init__(self) -> None:
        cache = MemoryTokenCache()
        self.get = partial(cache.get)
        self.set = passed_on(cache.set)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (FileTokenCache, "must be an object with async get() and set(), got the class FileTokenCache"),
        ({}, "must be an object with async get() and set(), got dict"),
        ("~/cache", "must be an object with async get() and set(), got str"),
        (PlainCache(), "must implement async get() and set(); get() of PlainCache is a plain function"),
    ],
    ids=["class", "dict", "str", "plain functions"],
)
def test_no_cache(value: object, problem: str) -> None:
    """A value that every call would fail with is refused."""
    with pytest.raises(ConfigurationError) as caught:
        check_cache(value)
    assert ("cache", problem) == (caught.value.field, caught.value.problem)


@pytest.mark.parametrize("value", [None, MemoryTokenCache(), UnusualCache()], ids=["None", "cache", "unusual cache"])
def test_cache(value: object) -> None:
    """A cache is accepted, also with methods of which nothing shows that they are coroutines."""
    check_cache(value)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_fork_while_a_thread_stores() -> None:
    """A child that is forked while another thread is inside `set()` does not hang."""
    command = [sys.executable, "-W", "ignore", "-c", _FORK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert ("0\n", "") == (done.stdout, done.stderr)


_FORK = """
import asyncio, os, threading, time
from simplestore_async import AccessToken, MemoryTokenCache

class SlowClock:
    monotonic = time.monotonic
    is_inside, may_go_on = threading.Event(), threading.Event()

    def time(self):
        self.is_inside.set()
        self.may_go_on.wait()
        return time.time()

clock = SlowClock()
token = AccessToken("token", issued_at=0, expires_at=1)
thread = threading.Thread(target=lambda: asyncio.run(MemoryTokenCache(clock=clock).set("key", token)))
thread.start()
clock.is_inside.wait()
child = os.fork()
if not child:
    import signal
    signal.alarm(20)
    asyncio.run(MemoryTokenCache().set("key", token))
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
clock.may_go_on.set()
thread.join()
"""
