"""A sound cache, and caches that each break one rule of the contracts in `simplestore_async.testing`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import attrs

from simplestore_async import AccessToken
from simplestore_async.caches import dumps

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable


class SoundCache:
    """A dictionary, and locks that are not bound to an event loop."""

    def __init__(self) -> None:
        self.tokens: dict[str, AccessToken] = {}
        self.locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    async def get(self, key: str, /) -> AccessToken | None:
        return self.tokens.get(key)

    async def set(self, key: str, token: AccessToken, /) -> None:
        self.tokens[key] = token

    async def acquire(self, key: str) -> None:
        while not self.locks[key].acquire(blocking=False):
            await asyncio.sleep(0.001)  # polled, for any event loop and thread

    @asynccontextmanager
    async def renewal_lock(self, key: str, /) -> AsyncGenerator[None]:
        await self.acquire(key)
        try:
            yield
        finally:
            self.locks[key].release()


def flawed(**methods: Any) -> type[SoundCache]:
    """Return a sound cache with other *methods*."""
    return type("Flawed", (SoundCache,), methods)


async def never(*_: object) -> Any:
    await asyncio.Event().wait()


async def result(value: Any = None) -> Any:
    return value


async def fail() -> Any:
    raise ConnectionError from None


get, put, lock = SoundCache.get, SoundCache.set, SoundCache.renewal_lock


def is_expired(token: AccessToken | None) -> bool:
    return token is not None and token.expires_at < time.time() + 1


# ---- tokens

AlwaysFull = flawed(get=lambda cache, key: result(cache.tokens.get(key, AccessToken("x", issued_at=0, expires_at=1))))
ReadOnce = flawed(get=lambda cache, key: result(cache.tokens.pop(key, None)))
FirstCounts = flawed(set=lambda cache, key, token: result(cache.tokens.setdefault(key, token)))
FoldsCase = flawed(
    get=lambda cache, key: get(cache, key.lower()), set=lambda cache, key, token: put(cache, key.lower(), token)
)
IgnoresPaths = flawed(set=lambda cache, key, token: result() if "/" in key else put(cache, key, token))
IgnoresExpired = flawed(set=lambda cache, key, token: result() if is_expired(token) else put(cache, key, token))
RefusesExpired = flawed(set=lambda cache, key, token: fail() if is_expired(token) else put(cache, key, token))
KeepsExpired = flawed(
    set=lambda cache, key, token: (
        result() if is_expired(cache.tokens.get(key)) and token.value != "before" else put(cache, key, token)
    )
)
Small = flawed(set=lambda cache, key, token: result() if len(cache.tokens) == 3 else put(cache, key, token))
ShowsBytes = flawed(__repr__=lambda cache: str([dumps(token) for token in cache.tokens.values()]))


def changing(field: str, change: Callable[[Any], object]) -> Callable[[], SoundCache]:
    """Return a cache that changes a field of each token."""
    return flawed(
        set=lambda cache, key, token: put(cache, key, attrs.evolve(token, **{field: change(getattr(token, field))}))
    )


class Forgetful(SoundCache):
    async def set(self, key: str, token: AccessToken, /) -> None:
        pass


class OneForAll(SoundCache):
    async def get(self, key: str, /) -> AccessToken | None:
        return await super().get("")

    async def set(self, key: str, token: AccessToken, /) -> None:
        await super().set("", token)


class SharedVariable(SoundCache):
    """Keeps the key in an attribute that all tasks share."""

    async def set(self, key: str, token: AccessToken, /) -> None:
        self.key = key
        await asyncio.sleep(0)
        await super().set(self.key, token)


class TornWrites(SoundCache):
    async def set(self, key: str, token: AccessToken, /) -> None:
        self.tokens[key] = attrs.evolve(self.tokens.get(key, token), value=token.value)
        await asyncio.sleep(0)
        self.tokens[key] = token


class DeletesFirst(SoundCache):
    async def set(self, key: str, token: AccessToken, /) -> None:
        self.tokens.pop(key, None)
        await asyncio.sleep(0)
        await super().set(key, token)


def when_cancelled(react: Callable[[], Awaitable[None]]) -> Callable[[], SoundCache]:
    """Return a cache whose set() handles a cancellation by *react*."""

    async def handle(cache: SoundCache, key: str, token: AccessToken) -> None:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            await react()
        await put(cache, key, token)

    return flawed(set=handle)


class StaysBusy(SoundCache):
    """A cancelled set() keeps a lock."""

    async def set(self, key: str, token: AccessToken, /) -> None:
        await self.acquire("busy")
        await asyncio.sleep(0)
        self.locks["busy"].release()
        await super().set(key, token)


class FirstLoopOnly(SoundCache):
    """Event loops other than the first get None or wait forever."""

    def __init__(self, miss: Callable[[], Awaitable[Any]]) -> None:
        super().__init__()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.miss = miss

    async def get(self, key: str, /) -> AccessToken | None:
        self.loop = self.loop or asyncio.get_running_loop()
        return self.tokens.get(key) if self.loop is asyncio.get_running_loop() else await self.miss()


# ---- locks


class NoLock(SoundCache):
    @asynccontextmanager
    async def renewal_lock(self, key: str, /) -> AsyncGenerator[None]:
        yield


class NoLockAmongThreads(NoLock):
    """Admits four threads at once, whose reads wait for each other."""

    def __init__(self) -> None:
        super().__init__()
        self.barrier = threading.Barrier(4)

    async def get(self, key: str, /) -> AccessToken | None:
        self.barrier.wait(30)
        return None


class LoopLock(SoundCache):
    """A lock that is bound to the event loop on which it was first contended."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = asyncio.Lock()

    def renewal_lock(self, key: str, /) -> Any:
        return self.lock


OneLockForAll = flawed(renewal_lock=lambda cache, key: lock(cache, ""))


def while_locked(get_instead: Callable[[], Awaitable[None]]) -> Callable[[], SoundCache]:
    """Return a cache whose get() calls *get_instead* while the key's lock is held."""
    return flawed(get=lambda cache, key: get_instead() if cache.locks[key].locked() else get(cache, key))


class Stingy(SoundCache):
    """Gives its lock *times* times and never again."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def acquire(self, key: str) -> None:
        self.times -= 1
        await (super().acquire(key) if self.times >= 0 else never())


class KeepsWhenLate(SoundCache):
    """A caller that is cancelled right after it acquired the lock keeps it."""

    async def acquire(self, key: str) -> None:
        await super().acquire(key)
        await asyncio.sleep(0)


@asynccontextmanager
async def lock_that_swallows(cache: SoundCache, key: str) -> AsyncGenerator[None]:
    async with lock(cache, key):
        with suppress(BaseException):
            yield


@asynccontextmanager
async def lock_that_reinterprets(cache: SoundCache, key: str) -> AsyncGenerator[None]:
    async with lock(cache, key):
        try:
            yield
        except asyncio.CancelledError:
            raise ConnectionError from None


@asynccontextmanager
async def lock_that_never_ends(cache: SoundCache, key: str) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        await never()


def kept_after(error: type[BaseException]) -> Callable[[], SoundCache]:
    """Return a cache whose lock is kept if its holder ends with *error*."""

    @asynccontextmanager
    async def renewal_lock(cache: SoundCache, key: str) -> AsyncGenerator[None]:
        await cache.acquire(key)
        try:
            yield
        except error:
            raise
        except BaseException:
            cache.locks[key].release()
            raise
        cache.locks[key].release()

    return flawed(renewal_lock=renewal_lock)
