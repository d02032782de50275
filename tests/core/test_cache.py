"""`MemoryTokenCache` and `check_cache`; `test_every_cache.py` has the contract of all caches."""

from __future__ import annotations

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
    """A token is returned until it expires."""
    token = living_for(10, clock)
    await cache.set("key", token)
    clock.advance(age)
    assert (token if is_alive else None) == await cache.get("key")


@pytest.mark.parametrize("step", [-7200, -5, 5, 7200])
async def test_wall_clock_step(cache: MemoryTokenCache, clock: FakeClock, step: float) -> None:
    """A step of the wall clock moves a token's timestamps with it and leaves its remaining life unchanged."""
    token = living_for(10, clock)
    await cache.set("key", token)
    clock.step_wall(step)

    got = await cache.get("key")
    clock.advance(10)

    assert got is not None
    assert (token.issued_at + step, token.expires_at + step) == (got.issued_at, got.expires_at)
    assert token.value == got.value
    assert await cache.get("key") is None


@pytest.mark.parametrize(("age", "left"), [(9.5, 3), (10, 2), (19.5, 2), (20, 1)])
async def test_set_drops_expired_tokens(cache: MemoryTokenCache, clock: FakeClock, age: float, left: int) -> None:
    """Setting any key drops every expired token and no live one."""
    await cache.set("short", living_for(10, clock))
    await cache.set("long", living_for(20, clock))
    clock.advance(age)
    assert 2 == len(cache)

    await cache.set("new", living_for(30, clock))

    assert left == len(cache)


async def test_set_of_an_expired_token(cache: MemoryTokenCache, clock: FakeClock) -> None:
    """Setting an expired token removes the key's previous token and stores nothing."""
    await cache.set("key", living_for(10, clock))
    await cache.set("key", living_for(0, clock))
    assert 0 == len(cache)


def test_concurrent_threads(cache: MemoryTokenCache, clock: FakeClock) -> None:
    """Threads that set keys concurrently lose none of them."""
    token = living_for(10, clock)

    async def use(thread: int) -> None:
        for number in range(100):
            await cache.set(f"key {thread}-{number}", token)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda thread: run(use(thread)), range(4)))
    finally:
        sys.setswitchinterval(interval)

    assert 400 == len(cache)


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("clock", lambda: MemoryTokenCache(clock=5)),  # type: ignore[arg-type]
        ("key", lambda: MemoryTokenCache().get(None)),  # type: ignore[arg-type]
        ("key", lambda: MemoryTokenCache().set(b"key", make_token())),  # type: ignore[arg-type]
        ("token", lambda: MemoryTokenCache().set("key", "token")),  # type: ignore[arg-type]
    ],
    ids=["clock", "key of get", "key of set", "token"],
)
async def test_wrong_argument(field: str, call: Any) -> None:
    """An argument of the wrong type raises a ConfigurationError that names it."""
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
def test_rejected_as_a_cache(value: object, problem: str) -> None:
    """An object that cannot work as a cache is refused with the reason."""
    with pytest.raises(ConfigurationError) as caught:
        check_cache(value)
    assert ("cache", problem) == (caught.value.field, caught.value.problem)


@pytest.mark.parametrize("value", [None, MemoryTokenCache(), UnusualCache()], ids=["None", "cache", "unusual cache"])
def test_accepted_as_a_cache(value: object) -> None:
    """None, a cache, and a cache whose methods are not recognisable as coroutine functions are accepted."""
    check_cache(value)
