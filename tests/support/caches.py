"""A cache that records its calls, and tokens for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simplestore_async import AccessToken, MemoryTokenCache
from tests.support.providers import LIFE

if TYPE_CHECKING:
    from tests.support.clocks import FakeClock


class RecordingCache(MemoryTokenCache):
    """A memory cache that records its calls."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock=clock)
        self.calls: list[str] = []

    async def get(self, key: str, /) -> AccessToken | None:
        self.calls.append("get")
        return await super().get(key)

    async def set(self, key: str, token: AccessToken, /) -> None:
        self.calls.append("set")
        await super().set(key, token)


def build_token(clock: FakeClock, *, age: float = 0, life: float = LIFE, value: str = "canary-cached") -> AccessToken:
    """Return a token that another process requested *age* seconds ago."""
    issued_at = clock.time() - age
    return AccessToken(value, issued_at=issued_at, expires_at=issued_at + life)
