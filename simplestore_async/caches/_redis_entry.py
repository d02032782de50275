"""One key in Redis: its token and its renewal lock. Rule: only the lock's holder releases it or overwrites a new token.

A lost message delays a waiter by a second at most; the lock of a dead holder ends with its lease.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
from redis.asyncio.lock import Lock
from redis.client import NEVER_DECODE

from simplestore_async._core.redaction import conceal
from simplestore_async.errors import TokenCacheError

from ._directory import MAX_BYTES
from ._format import FORMAT_VERSION
from ._redis_client import end, response

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from ._redis_client import Client

__all__ = ["RELEASE", "STORE", "STORED", "Names", "RenewalLock", "read", "store"]

STORED: Final = b"stored"
_RELEASED: Final = b"released"
_POLL_SECONDS: Final = 1.0
_RELEASE_SECONDS: Final = 1.0
# The year 9999: Redis refuses later instants.
_LAST_INSTANT: Final = 253_402_300_799.0

# KEYS: the token, its lock. ARGV: the stored form, its expiry (ms), the content of the writer's lock or nothing, the
# digest of the stored form that it last read, the channel, the message.
# A holder that lost the lock writes only if no other process has written since.
STORE: Final = """
if ARGV[3] ~= '' and redis.call('GET', KEYS[2]) ~= ARGV[3] then
  local stored = redis.call('GET', KEYS[1])
  if stored and redis.sha1hex(stored) ~= ARGV[4] then
    return 0
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[2])
redis.call('PUBLISH', ARGV[5], ARGV[6])
return 1
"""

# KEYS: the lock. ARGV: its content, the channel, the message.
RELEASE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
  redis.call('PUBLISH', ARGV[2], ARGV[3])
end
"""


@attrs.frozen
class Names:
    """The names of one key's token, lock and channel, all in one slot of a cluster."""

    namespace: str
    digest: str

    @property
    def token(self) -> str:
        return self._name(f"token-v{FORMAT_VERSION}")

    @property
    def lock(self) -> str:
        return self._name("lock")

    @property
    def channel(self) -> str:
        return self._name("news")

    def _name(self, kind: str) -> str:
        return f"{self.namespace}:{{{self.digest}}}:{kind}"


class _Lock(Lock):
    """redis-py's lock without its scripts, which would keep the process's first client and its event loop alive."""

    def register_scripts(self) -> None:
        pass


class RenewalLock:
    """A lock for one task.

    Attributes:
        client: the client of all its commands.
        mark: content of the lock's key while the lock is held; empty if it was not needed.
        seen: the stored form that was last read under the lock.
    """

    def __init__(self, client: Client, names: Names, *, lease_seconds: float) -> None:
        self.client = client
        self.mark = uuid.uuid4().hex
        self.seen = b""
        self._names = names
        self._lock = client.lock(names.lock, timeout=lease_seconds, thread_local=False, lock_class=_Lock)

    async def acquire(self) -> None:
        """Wait until the lock is acquired, or until its holder has stored a token, which waiters then use.

        Without the second case a thousand waiters would acquire the lock one by one, only to find that token.
        """
        if await self._try():
            return
        async with _subscribed(self.client, self._names.channel) as next_message:
            while not await self._try():
                # The first message confirms the subscription; earlier changes were checked above.
                if await next_message() == STORED:
                    self.mark = ""
                    return

    async def release(self) -> None:
        """Release the lock if it is held, and wake the waiters, within a second; raises only a cancellation.

        Call it also after an `acquire()` that was cancelled or failed: the lock may have been granted.
        """
        if self.mark:
            arguments = self._names.lock, self.mark, self._names.channel, _RELEASED
            await end(lambda: self.client.eval(RELEASE, 1, *arguments), seconds=_RELEASE_SECONDS)

    async def _try(self) -> bool:
        return bool(await response(self._lock.acquire(blocking=False, token=self.mark)))


async def read(client: Client, names: Names, lock: RenewalLock | None) -> bytes:
    """Return the stored form, redacted; empty if there is none."""
    # Bounded, because the value may be of any size; in bytes, even if the client decodes responses.
    command = "GETRANGE", names.token, 0, MAX_BYTES
    data: bytes = conceal(await response(client.execute_command(*command, **{NEVER_DECODE: True})))
    if lock is not None:
        lock.seen = data
    return data


async def store(client: Client, names: Names, lock: RenewalLock | None, data: bytes, *, expires_at: float) -> None:
    """Store *data* until *expires_at*, and wake the waiters.

    Raises:
        TokenCacheError: if it is too long, or the lock was lost and another process has stored a token since.
    """
    if len(data) > MAX_BYTES:
        raise TokenCacheError(f"the token is too long to be stored: in Redis it takes {len(data)} bytes")
    mark, seen = (lock.mark, lock.seen) if lock else ("", b"")
    milliseconds = max(1, int(min(expires_at, _LAST_INSTANT) * 1000))
    arguments = data, milliseconds, mark, _fingerprint(seen), names.channel, STORED
    if not await response(client.eval(STORE, 2, names.token, names.lock, *arguments)):
        raise TokenCacheError(
            "the token was not stored: the renewal lock's lease had ended, and another process has stored one",
            "set lease_seconds above the policy's budget_seconds",
        )


def _fingerprint(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()  # as in scripts


@asynccontextmanager
async def _subscribed(client: Client, channel: str) -> AsyncGenerator[Callable[[], Awaitable[bytes | None]]]:
    """Yield a function that waits for the channel's next message, or returns None after a second."""
    # Before redis-py 8 cluster clients have no pub/sub.
    if not hasattr(client, "pubsub"):
        yield lambda: asyncio.sleep(_POLL_SECONDS)
        return
    async with client.pubsub() as subscription:
        await response(subscription.subscribe(channel))

        async def next_message() -> bytes | None:
            message = await response(subscription.get_message(ignore_subscribe_messages=True, timeout=_POLL_SECONDS))
            data = message and message["data"]
            return data.encode() if isinstance(data, str) else data

        yield next_message
