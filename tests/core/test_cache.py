"""`simplestore_async._core.cache`; the contract that all caches keep is in `test_every_cache.py`."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from simplestore_async import MemoryTokenCache
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
async def test_a_token_is_given_until_it_expires(
    cache: MemoryTokenCache, clock: FakeClock, age: float, *, is_alive: bool
) -> None:
    """A token is given up to the instant of its expiry, and not from that on."""
    token = living_for(10, clock)
    await cache.set("key", token)
    clock.advance(age)
    assert (token if is_alive else None) == await cache.get("key")


async def test_the_wall_clock_decides(cache: MemoryTokenCache, clock: FakeClock) -> None:
    """A step of the wall clock past the token's expiry makes it a miss: its instants are absolute."""
    await cache.set("key", living_for(10, clock))
    clock.step_wall(11)
    assert await cache.get("key") is None


async def test_the_machine_s_clock_is_the_default() -> None:
    """Without a clock of one's own the system's tells what has expired."""
    cache = MemoryTokenCache()
    await cache.set("old", make_token(issued_at=0, expires_at=1_000_000_000))
    await cache.set("new", make_token())
    assert await cache.get("old") is None
    assert make_token() == await cache.get("new")
    assert 1 == len(cache)


# case 64
@pytest.mark.parametrize(("age", "left"), [(9.5, 3), (10, 2), (19.5, 2), (20, 1)])
async def test_a_set_drops_what_has_expired(cache: MemoryTokenCache, clock: FakeClock, age: float, left: int) -> None:
    """Setting any key drops every expired token, and no other."""
    await cache.set("short", living_for(10, clock))
    await cache.set("long", living_for(20, clock))
    clock.advance(age)
    assert 2 == len(cache)

    await cache.set("new", living_for(30, clock))

    assert left == len(cache)


async def test_an_expired_token_is_not_taken(cache: MemoryTokenCache, clock: FakeClock) -> None:
    """Setting a token that has expired already keeps nothing, not even the one that was there."""
    await cache.set("key", living_for(10, clock))
    await cache.set("key", living_for(0, clock))
    assert 0 == len(cache)


# case 64
async def test_it_does_not_grow(cache: MemoryTokenCache, clock: FakeClock) -> None:
    """A thousand keys, a second apart, whose tokens live for ten seconds, never make more than ten entries."""
    sizes = set()
    for number in range(1000):
        await cache.set(f"key {number}", living_for(10, clock))
        clock.advance(1)
        sizes.add(len(cache))
    assert set(range(1, 11)) == sizes


def test_threads_do_not_disturb_each_other_s_sweep(cache: MemoryTokenCache, clock: FakeClock) -> None:
    """Threads that set keys at the same time, each looking through all that are there, lose none and raise nothing."""
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
