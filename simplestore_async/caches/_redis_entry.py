"""One key's token in Redis. Rule: it expires with the token, and who lost the lock does not overwrite another's."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from redis.client import NEVER_DECODE

from simplestore_async._core.redaction import conceal
from simplestore_async.errors import TokenCacheError

from ._folder import MAX_BYTES
from ._redis_client import answer
from ._redis_lock import STORED

if TYPE_CHECKING:
    from ._redis_client import Client
    from ._redis_lock import Names, RenewalLock

__all__ = ["STORE", "read", "store"]

# The year 9999: Redis refuses what is no sane instant.
_LAST_INSTANT: Final = 253_402_300_799.0

# KEYS: the token, its lock. ARGV: the stored form, when it expires (ms), what our lock holds (nothing if we have none),
# the digest of the stored form that we saw, the channel, the message.
# Whoever has lost the lock writes only where nobody else has written since.
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


async def read(client: Client, names: Names, lock: RenewalLock | None) -> bytes:
    # Bounded, as nobody knows what is there; and in bytes, whatever the client does with other replies.
    command = "GETRANGE", names.token, 0, MAX_BYTES
    data: bytes = conceal(await answer(client.execute_command(*command, **{NEVER_DECODE: True})))
    if lock is not None:
        lock.seen = data
    return data


async def store(client: Client, names: Names, lock: RenewalLock | None, data: bytes, *, expires_at: float) -> None:
    if len(data) > MAX_BYTES:
        raise TokenCacheError(f"The token is too long to be kept: in Redis it takes {len(data)} bytes")
    mark, seen = (lock.mark, lock.seen) if lock else ("", b"")
    arguments = data, _to_milliseconds(expires_at), mark, _fingerprint(seen), names.channel, STORED
    is_stored = await answer(client.eval(STORE, 2, names.token, names.lock, *arguments))
    if not is_stored:
        raise TokenCacheError(
            "The token was not stored: the lease of the renewal's lock had ended, and another process has stored one. "
            "Set lease_seconds above the policy's budget_seconds"
        )


def _fingerprint(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()  # scripts have this one


def _to_milliseconds(instant: float) -> int:
    return max(1, int(min(instant, _LAST_INSTANT) * 1000))
