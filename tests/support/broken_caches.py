"""A sound cache, and subclasses that each break one rule of the contracts in `simplestore_async.testing`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

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
        self.threads: list[int] = []
        self.loops: list[asyncio.AbstractEventLoop] = []

    def note_caller(self) -> None:
        """Record the calling threads and event loops in order."""
        if threading.get_ident() not in self.threads:
            self.threads.append(threading.get_ident())
        if asyncio.get_running_loop() not in self.loops:
            self.loops.append(asyncio.get_running_loop())

    async def get(self, key: str, /) -> AccessToken | None:
        self.note_caller()
        return self.tokens.get(key)

    async def set(self, key: str, token: AccessToken, /) -> None:
        self.tokens[key] = token

    async def acquire(self, key: str) -> None:
        while not self.locks[key].acquire(blocking=False):
            await asyncio.sleep(0.001)  # polled, for any event loop and thread

    @asynccontextmanager
    async def renewal_lock(self, key: str, /) -> AsyncGenerator[None]:
        self.note_caller()
        await self.acquire(key)
        try:
            yield
        finally:
            self.locks[key].release()


async def never() -> Any:
    await asyncio.Event().wait()


async def result(value: Any = None) -> Any:
    return value


def flawed(**methods: Any) -> type[SoundCache]:
    """Return a sound cache with other *methods*."""
    return type("Flawed", (SoundCache,), methods)


set_sound = SoundCache.set
AlwaysFull = flawed(get=lambda cache, key: result(cache.tokens.get(key, AccessToken("x", issued_at=0, expires_at=1))))
ReadOnce = flawed(get=lambda cache, key: result(cache.tokens.pop(key, None)))
FirstCounts = flawed(set=lambda cache, key, token: result(cache.tokens.setdefault(key, token)))
FoldsCase = flawed(
    get=lambda cache, key: SoundCache.get(cache, key.lower()),
    set=lambda cache, key, token: set_sound(cache, key.lower(), token),
)
IgnoresPaths = flawed(set=lambda cache, key, token: result() if "/" in key else set_sound(cache, key, token))
IgnoresExpired = flawed(
    set=lambda cache, key, token: result() if token.expires_at < time.time() + 1 else set_sound(cache, key, token)
)


class Forgetful(SoundCache):
    async def set(self, key: str, token: AccessToken, /) -> None:
        pass


class OneForAll(SoundCache):
    async def get(self, key: str, /) -> AccessToken | None:
        return await super().get("")

    async def set(self, key: str, token: AccessToken, /) -> None:
        await super().set("", token)


class RefusesExpired(SoundCache):
    async def set(self, key: str, token: AccessToken, /) -> None:
        if token.expires_at <= time.time():
            raise ValueError("invalid expire time")
        await super().set(key, token)


class Small(SoundCache):
    async def set(self, key: str, token: AccessToken, /) -> None:
        await super().set(key, token)
        if len(self.tokens) > 3:
            del self.tokens[next(iter(self.tokens))]


class DeletesFirst(SoundCache):
    async def set(self, key: str, token: AccessToken, /) -> None:
        self.tokens.pop(key, None)
        await asyncio.sleep(0)
        await super().set(key, token)


class Cancelled(SoundCache):
    """A cache whose get() handles a cancellation by the coroutine function *react*."""

    def __init__(self, react: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self.react = react

    async def get(self, key: str, /) -> AccessToken | None:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            await self.react()
        return self.tokens.get(key)


async def fail() -> None:
    raise ConnectionError from None


class StaysBusy(SoundCache):
    """A cancelled get() keeps a lock."""

    def __init__(self) -> None:
        super().__init__()
        self.guard = asyncio.Lock()

    async def get(self, key: str, /) -> AccessToken | None:
        await self.guard.acquire()
        await asyncio.sleep(0)
        self.guard.release()
        return self.tokens.get(key)


class Changing(SoundCache):
    """Returns tokens with other fields."""

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        self.changes = changes

    async def set(self, key: str, token: AccessToken, /) -> None:
        fields = {field: getattr(token, field) for field in ("issued_at", "expires_at", "scope", "is_replacement")}
        changed = {field: change(fields.get(field, token.value)) for field, change in self.changes.items()}
        self.tokens[key] = AccessToken(changed.pop("value", token.value), **fields | changed)


class BuriesExpired(SoundCache):
    """Ignores tokens for a key whose token has expired."""

    async def set(self, key: str, token: AccessToken, /) -> None:
        before = self.tokens.get(key)
        if before is None or before.expires_at > time.time() + 1 or token.value == "before":
            await super().set(key, token)


class SharedVariable(SoundCache):
    """Keeps the key in an attribute that all tasks share."""

    async def set(self, key: str, token: AccessToken, /) -> None:
        self.key = key
        await asyncio.sleep(0)
        await super().set(self.key, token)


class TornWrites(SoundCache):
    async def set(self, key: str, token: AccessToken, /) -> None:
        before = self.tokens.get(key, token)
        self.tokens[key] = attrs.evolve(before, value=token.value)
        await asyncio.sleep(0)
        self.tokens[key] = token


class FirstThreadOnly(SoundCache):
    """Threads other than the first get None or wait forever."""

    def __init__(self, *, returns: bool) -> None:
        super().__init__()
        self.returns = returns

    async def get(self, key: str, /) -> AccessToken | None:
        self.note_caller()
        if threading.get_ident() == self.threads[0]:
            return await super().get(key)
        return None if self.returns else await never()


class FirstLoopOnly(FirstThreadOnly):
    """Event loops other than the first get None or wait forever."""

    async def get(self, key: str, /) -> AccessToken | None:
        self.note_caller()
        if asyncio.get_running_loop() is self.loops[0]:
            return self.tokens.get(key)
        return None if self.returns else await never()


class ShowsBytes(SoundCache):
    def __init__(self) -> None:
        super().__init__()
        self.stored: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"<ShowsBytes {self.stored}>"

    async def set(self, key: str, token: AccessToken, /) -> None:
        await super().set(key, token)
        self.stored[key] = dumps(token)


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


class Stingy(SoundCache):
    """Gives its lock *times* times and never again."""

    def __init__(self, *, times: int) -> None:
        super().__init__()
        self.times = times

    async def acquire(self, key: str) -> None:
        if self.times <= 0:
            await never()
        self.times -= 1
        await super().acquire(key)


class LoopLock(SoundCache):
    """A lock that is bound to the event loop on which it was first contended."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = asyncio.Lock()

    def renewal_lock(self, key: str, /) -> Any:
        return self.lock


class Locked(SoundCache):
    """While its lock is held, reads return None or block."""

    def __init__(self, *, returns: bool) -> None:
        super().__init__()
        self.returns = returns

    async def get(self, key: str, /) -> AccessToken | None:
        if not self.locks[key].locked():
            return await super().get(key)
        return None if self.returns else await never()


class OneLockForAll(SoundCache):
    async def acquire(self, key: str) -> None:
        while any(lock.locked() for lock in self.locks.values()):
            await asyncio.sleep(0.001)  # polled, for any event loop and thread
        await super().acquire(key)


class KeepsWhenLate(SoundCache):
    """A caller that is cancelled right after it acquired the lock keeps it."""

    async def acquire(self, key: str) -> None:
        await super().acquire(key)
        await asyncio.sleep(0)


class Held(SoundCache):
    """A cache that is its own lock, which it releases unless its holder ends with *unless*."""

    def __init__(self, unless: type[BaseException] | None = None) -> None:
        super().__init__()
        self.unless = unless

    def renewal_lock(self, key: str, /) -> Any:
        return self

    async def __aenter__(self) -> Self:
        await self.acquire("")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> bool | None:
        if kind is None or kind is not self.unless:
            self.locks[""].release()
        return None


class Swallows(Held):
    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> bool | None:
        await super().__aexit__(kind)
        return True


class ReinterpretsEnd(Held):
    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> bool | None:
        await super().__aexit__(kind)
        if kind is asyncio.CancelledError:
            raise ConnectionError
        return None


class NeverEnds(Held):
    async def __aexit__(self, *_: object) -> bool | None:
        await never()
        return None
