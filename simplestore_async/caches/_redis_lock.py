"""One key's renewal lock in Redis. Rule: only its holder lets go of it, and whoever waits is woken by a message.

A message may get lost, and a holder may be gone: who waits looks again each second, and a lock ends with its lease.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
from redis.asyncio.lock import Lock

from ._redis_client import answer, end

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from ._redis_client import Client

__all__ = ["RELEASE", "STORED", "Names", "RenewalLock"]

STORED: Final = b"stored"
_RELEASED: Final = b"released"
_POLL_SECONDS: Final = 1.0
_RELEASE_SECONDS: Final = 1.0

# KEYS: the lock. ARGV: what its holder wrote there, the channel, the message.
RELEASE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
  redis.call('PUBLISH', ARGV[2], ARGV[3])
end
"""


@attrs.frozen
class Names:
    """What belongs to one key: its digest, and in Redis a token, a lock and a channel, all in one slot of a cluster."""

    namespace: str
    digest: str

    @property
    def token(self) -> str:
        return self._name("token-v1")

    @property
    def lock(self) -> str:
        return self._name("lock")

    @property
    def channel(self) -> str:
        return self._name("news")

    def _name(self, what: str) -> str:
        return f"{self.namespace}:{{{self.digest}}}:{what}"


class _Lock(Lock):
    """redis-py's own, without its scripts: those would keep a process's first client, and its event loop, for good."""

    def register_scripts(self) -> None:
        pass


class RenewalLock:
    """A lock that one task asks for, may get, and lets go of.

    Attributes:
        client: the client that it was asked for by.
        mark: what the lock's key holds while the lock is ours; empty if it was not needed.
        seen: the stored form that was last read under the lock.
    """

    def __init__(self, client: Client, names: Names, *, lease_seconds: float) -> None:
        self.client = client
        self.mark = uuid.uuid4().hex
        self.seen = b""
        self._names = names
        self._lock = client.lock(names.lock, timeout=lease_seconds, thread_local=False, lock_class=_Lock)

    async def acquire(self) -> None:
        """Wait until the lock is ours, or until its holder has stored a token, which is what all wait for.

        If each of a thousand took the lock only to find that token, they would do so one after the other.
        """
        if await self._try():
            return
        async with _subscribed(self.client, self._names.channel) as next_message:
            while not await self._try():
                # The first one, for which nobody waits, says that we are subscribed: what came before is looked at.
                if await next_message() == STORED:
                    self.mark = ""
                    return

    async def release(self) -> None:
        """Let go of the lock, if it is ours, and wake those who wait. Never raises, and never takes long.

        Also after an `acquire()` that was cancelled, or had no answer: it may have been granted nevertheless.
        """
        if self.mark:
            arguments = self._names.lock, self.mark, self._names.channel, _RELEASED
            await end(lambda: self.client.eval(RELEASE, 1, *arguments), seconds=_RELEASE_SECONDS)

    async def _try(self) -> bool:
        return bool(await answer(self._lock.acquire(blocking=False, token=self.mark)))


@asynccontextmanager
async def _subscribed(client: Client, channel: str) -> AsyncGenerator[Callable[[], Awaitable[bytes | None]]]:
    """Give a function that waits for the channel's next message, and returns None for what is none, or too late."""
    # Before redis-py 8 a cluster's client had no messages.
    if not hasattr(client, "pubsub"):
        yield lambda: asyncio.sleep(_POLL_SECONDS)
        return
    async with client.pubsub() as subscription:
        await answer(subscription.subscribe(channel))

        async def next_message() -> bytes | None:
            message = await answer(subscription.get_message(ignore_subscribe_messages=True, timeout=_POLL_SECONDS))
            data = message and message["data"]
            return data.encode() if isinstance(data, str) else data

        yield next_message
