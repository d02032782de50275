"""Tokens in Redis or Valkey, for many hosts. Rule: a token is written by the holder of its lock and has an expiry.

Each key has a token and a lock. Both are changed only by scripts or single commands, so every change is atomic.
Requires the extra `redis`.
"""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from simplestore_async._core.redaction import SupportsSecretValue, conceal, reveal
from simplestore_async._core.token import AccessToken
from simplestore_async._core.validation import check_number, check_type
from simplestore_async._core.worker import Worker
from simplestore_async.errors import ConfigurationError

from ._coding import check_codec
from ._format import StoredForm, digest_of
from ._redis_client import Client, Clients, clients_of_url, explained
from ._redis_entry import Names, RenewalLock, read, store

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from redis.asyncio import Redis, RedisCluster

    from simplestore_async._core.cache import TokenCodec

__all__ = ["RedisTokenCache"]

T = TypeVar("T")

_VARIABLE: Final = "SIMPLESTORE_REDIS_URL"
_NAMESPACE: Final = "simplestore-async"
# The budget of a renewal, 30 s, and half as much for a busy machine.
_LEASE_SECONDS: Final = 45.0


class RedisTokenCache:
    """A cache in Redis (6.2 or later) or Valkey, shared by all processes of all hosts that reach the server.

    If several processes need the same token at once, one renews it and wakes the others. An entry expires with its
    token. A server that is down, slow, full or read-only causes more token requests; callers still get tokens. Keys
    contain only digests.

    Args:
        client: a callable without arguments that creates a client, such as
            `lambda: Redis(host="redis.example.com", ssl=True)` or
            `lambda: Sentinel([...]).master_for("main")`: each call creates a client and closes it, so that event loops,
            threads and forks share nothing. Or a client, `redis.asyncio.Redis` or `RedisCluster`, which serves one
            event loop and is closed by its owner.
        namespace: prefix of all keys and channels; programs with the same namespace share tokens.
        lease_seconds: life of the lock of a dead holder; must exceed `RenewalPolicy.budget_seconds`.
        codec: encrypts the tokens, such as `simplestore_async.caches.encryption.FernetCodec`; it runs in the cache's
            thread. By default tokens are stored unencrypted. All programs that share them need the same codec.

    Raises:
        ConfigurationError: if an argument is wrong; names it.
    """

    def __init__(
        self,
        client: Redis | RedisCluster | Callable[[], Redis | RedisCluster],
        *,
        namespace: str = _NAMESPACE,
        lease_seconds: float = _LEASE_SECONDS,
        codec: TokenCodec | None = None,
    ) -> None:
        check_type("namespace", namespace, str)
        if not re.fullmatch(r"[\w.:-]+", namespace, re.ASCII):
            raise ConfigurationError("namespace", "must be one or more ASCII letters, digits, and any of . : - _")
        check_number("lease_seconds", lease_seconds, at_least=1)
        check_codec(codec)
        self._clients = Clients(client)
        self._namespace = namespace
        self._lease_seconds = lease_seconds
        self._form = StoredForm(codec)
        self._worker = Worker("simplestore-cache")
        self._is_from_env = False
        # By the task that entered the lock and the key's digest: only that task stores under the lock.
        self._locks: dict[tuple[asyncio.Task[Any] | None, str], RenewalLock] = {}

    @classmethod
    def from_url(
        cls,
        url: str | SupportsSecretValue,
        *,
        namespace: str = _NAMESPACE,
        lease_seconds: float = _LEASE_SECONDS,
        codec: TokenCodec | None = None,
    ) -> RedisTokenCache:
        """Return a cache on the server at *url*.

        Its clients wait 1.5 s for a response and do not retry. The query of the URL may have options of redis-py,
        such as `?ssl_ca_certs=/etc/ca.pem`.

        Args:
            url: `redis://user:password@host:6379/0`, `rediss://…` for TLS, or `unix:///path`. Treated as a secret; may
                be an object with `get_secret_value()`.
            namespace: prefix of all keys and channels.
            lease_seconds: life of the lock of a dead holder.
            codec: encrypts the tokens.

        Raises:
            ConfigurationError: if an argument is wrong. The message does not quote the URL.
        """
        given, problem = reveal(url)
        del url
        if problem:
            raise ConfigurationError("url", problem)
        return cls(clients_of_url(given, field="url"), namespace=namespace, lease_seconds=lease_seconds, codec=codec)

    @classmethod
    def from_env(
        cls,
        *,
        namespace: str = _NAMESPACE,
        lease_seconds: float = _LEASE_SECONDS,
        codec: TokenCodec | None = None,
    ) -> RedisTokenCache:
        """Return a cache on the server at `SIMPLESTORE_REDIS_URL`.

        It pickles without the URL: another process reads its own environment.

        Args:
            namespace: prefix of all keys and channels.
            lease_seconds: life of the lock of a dead holder.
            codec: encrypts the tokens.

        Raises:
            ConfigurationError: if the variable is missing or is not the URL of a server, or an argument is wrong.
        """
        url = conceal(os.environ.get(_VARIABLE))
        if not url:
            raise ConfigurationError(
                _VARIABLE, "is not set", "set it to the URL of a Redis server, redis://host:6379/0"
            )
        make_client = clients_of_url(url, field=_VARIABLE)
        cache = cls(make_client, namespace=namespace, lease_seconds=lease_seconds, codec=codec)
        cache._is_from_env = True
        return cache

    def __repr__(self) -> str:
        return f"{type(self).__name__}(namespace={self._namespace!r}, lease_seconds={self._lease_seconds!r})"

    def __reduce__(self) -> tuple[Callable[..., RedisTokenCache], tuple[object, ...]]:
        if not self._is_from_env:
            raise TypeError(
                "a RedisTokenCache cannot be pickled, because its password would travel along: "
                "use RedisTokenCache.from_env() in each process"
            )
        return _from_env, (self._namespace, self._lease_seconds, self._form.codec)

    async def get(self, key: str, /) -> AccessToken | None:
        """Return the token last set for *key*, by any process of any host.

        Raises:
            ConfigurationError: if *key* is not a string.
            TokenCacheError: if the server does not respond, or refuses.
        """
        names = self._names_of(key)
        data = await self._call(names, lambda client, lock: read(client, names, lock))
        return await self._code(lambda: self._form.unpack(names.digest, data))

    async def set(self, key: str, token: AccessToken, /) -> None:
        """Keep *token* for *key*, for all processes, until it expires.

        Raises:
            ConfigurationError: if *key* is not a string, or *token* not an `AccessToken`.
            TokenCacheError: if the server does not respond, or refuses; or if this task's renewal lock has outlived its
                lease and another process has stored a token since, which stays.
        """
        names = self._names_of(key)
        check_type("token", token, AccessToken)
        data = await self._code(lambda: self._form.pack(names.digest, token))
        await self._call(names, lambda client, lock: store(client, names, lock, data, expires_at=token.expires_at))

    @asynccontextmanager
    async def renewal_lock(self, key: str, /) -> AsyncGenerator[None]:
        """Hold *key*'s lock among all processes that share the server; entering it waits for other holders.

        The wait ends without the lock as soon as its holder has stored a token, which waiters then use. Leaving never
        fails: a lock that cannot be released ends with its lease.

        Raises:
            ConfigurationError: when entered, if *key* is not a string.
            TokenCacheError: when entered, if the server does not respond, or refuses.
        """
        names = self._names_of(key)
        holder = (asyncio.current_task(), names.digest)
        async with self._clients.open() as client:
            lock = RenewalLock(client, names, lease_seconds=self._lease_seconds)
            try:
                await explained(lock.acquire(), client)
                self._locks[holder] = lock
                yield
            finally:
                self._locks.pop(holder, None)
                await lock.release()

    async def _call(self, names: Names, work: Callable[[Client, RenewalLock | None], Awaitable[T]]) -> T:
        """Return the result of *work* with a client; the lock's client if this task holds the lock."""
        lock = self._locks.get((asyncio.current_task(), names.digest))
        if lock is not None:
            return await explained(work(lock.client, lock), lock.client)
        async with self._clients.open() as client:
            return await explained(work(client, None), client)

    async def _code(self, work: Callable[[], T]) -> T:
        """Return the result of *work*; with a codec, which may block, in the cache's thread."""
        return work() if self._form.codec is None else await self._worker.run(work, droppable=True)

    def _names_of(self, key: str) -> Names:
        return Names(self._namespace, digest_of(key))


def _from_env(namespace: str, lease_seconds: float, codec: TokenCodec | None) -> RedisTokenCache:
    return RedisTokenCache.from_env(namespace=namespace, lease_seconds=lease_seconds, codec=codec)
