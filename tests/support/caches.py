"""Caches that count or fail as scripted, and tokens for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simplestore_async import AccessToken, MemoryTokenCache
from tests.support.providers import LIFE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.clocks import FakeClock


class RecordingCache(MemoryTokenCache):
    """A cache that counts its calls."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock=clock)
        self.calls: list[str] = []

    async def get(self, key: str, /) -> AccessToken | None:
        self.calls.append("get")
        return await super().get(key)

    async def set(self, key: str, token: AccessToken, /) -> None:
        self.calls.append("set")
        await super().set(key, token)


class FaultyCache:
    """A cache with scripted coroutines; empty by default."""

    def __init__(self, **faults: Callable[[], Awaitable[Any]]) -> None:
        self._faults = faults

    async def get(self, key: str, /) -> AccessToken | None:
        token: AccessToken | None = await self._faults["get"]() if "get" in self._faults else None
        return token

    async def set(self, key: str, token: AccessToken, /) -> None:
        if "set" in self._faults:
            await self._faults["set"]()


def build_token(clock: FakeClock, *, age: float = 0, life: float = LIFE, value: str = "canary-cached") -> AccessToken:
    """Return a token that another process asked for *age* seconds ago."""
    issued_at = clock.time() - age
    return AccessToken(value, issued_at=issued_at, expires_at=issued_at + life)
