"""Clients of Redis. Rule: one that is made here lives for one call; one that was given stays open, on its event loop.

A renewal comes once in an hour. A connection that waited for it would be cut by whatever is on the way, would belong to
one event loop, and would not survive a fork: there is nothing to keep, to close, or to inherit.
"""

from __future__ import annotations

import asyncio
import inspect
import weakref
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

from simplestore_async._core.redaction import conceal
from simplestore_async.errors import ConfigurationError, TokenCacheError

try:
    import redis.asyncio
    from redis.asyncio.connection import parse_url
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
except ImportError as _missing:
    raise ImportError(
        'simplestore_async.caches.redis needs redis: pip install "simplestore-async[redis]"'
    ) from _missing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

__all__ = ["Client", "Clients", "answer", "end", "from_url"]

T = TypeVar("T")

# redis-py declares the same methods for its blocking clients and for these: what they return is both.
Client: TypeAlias = Any

# Less than a renewal gives a cache: then the error is the server's own, and says more than that it took too long.
_ANSWER_SECONDS: Final = 1.5
_CLOSE_SECONDS: Final = 5.0


def from_url(url: str, *, setting: str) -> Callable[[], Client]:
    """Return what makes a client of a single server, by its *url*, which is a secret.

    Raises:
        ConfigurationError: if it is no such URL; names the *setting*, and does not quote it.
    """
    url = conceal(url)
    # Not chained: redis-py's own words may quote a part of the password.
    try:
        parse_url(url)
        is_valid = True
    except (ValueError, TypeError, AttributeError):  # the last two for what is no text
        is_valid = False
    if not is_valid:
        raise ConfigurationError(
            f"{setting} must be the URL of a Redis server: redis://host:6379/0, rediss://… for TLS, or unix:///path"
        )

    def make() -> Client:
        return redis.asyncio.Redis.from_url(  # pyright: ignore[reportUnknownMemberType] - its options have no types
            url,
            socket_connect_timeout=_ANSWER_SECONDS,
            socket_timeout=_ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),  # a renewal goes on without the cache, and the next one tries again
        )

    return make


async def answer(call: Awaitable[T]) -> T:
    """Return what a *call* of redis-py gives, and end as cancelled if this task was cancelled meanwhile.

    redis-py sends by `asyncio.wait_for()`, which before Python 3.12 swallows a cancellation that comes when it is done.
    """
    task = cast("asyncio.Task[Any]", asyncio.current_task())  # redis-py needs one
    cancellations = task.cancelling()
    result = await call
    if task.cancelling() > cancellations:
        raise asyncio.CancelledError
    return result


async def end(call: Callable[[], Awaitable[object]], *, seconds: float) -> None:
    """Make a *call* that ends something, and once more if this task is cancelled meanwhile.

    It takes *seconds* at most, and raises nothing but the cancellation: whatever became of it, it is over.
    """

    async def attempt() -> None:
        with suppress(Exception):
            async with asyncio.timeout(seconds):
                await answer(call())

    try:
        await attempt()
    except asyncio.CancelledError:
        await attempt()
        raise


class Clients:
    """Where clients come from: one that was given, for one event loop, or a callable that makes one."""

    def __init__(self, source: Client | Callable[[], Client]) -> None:
        if not callable(source) and not _is_client(source):
            raise ConfigurationError(
                "client must be a client of redis.asyncio, or a callable that makes one, "
                f"which {_kind_of(source)} is not"
            )
        self._source = source
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Client]:
        """Give a client, and close it afterwards if it was made for this.

        Raises:
            TokenCacheError: if there is none for this event loop; says what to do.
        """
        if not callable(self._source):
            self._check_loop()
            yield self._source
            return
        client = _make(self._source)
        try:
            yield client
        finally:
            await _close(client)

    def _check_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = weakref.ref(loop)
        if self._loop() is not loop:
            raise TokenCacheError(
                "The Redis client belongs to another event loop: give RedisTokenCache a callable that makes a client"
            )


def _make(source: Callable[[], Client]) -> Client:
    # Not chained: what it raises may quote an address with its password.
    try:
        client = source()
    except Exception as error:  # noqa: BLE001 - it is the user's
        problem = f"raised {type(error).__name__}"
    else:
        if _is_client(client):
            return client
        if inspect.iscoroutine(client):
            client.close()
        problem = f"returned {_kind_of(client)}, no client of redis.asyncio"
    raise TokenCacheError(f"The callable that makes the Redis client {problem}")


def _is_client(value: object) -> bool:
    return isinstance(value, redis.asyncio.Redis | redis.asyncio.RedisCluster)


def _kind_of(value: object) -> str:
    # There are clients of the same name that block.
    return f"{type(value).__module__}.{type(value).__qualname__}"


async def _close(client: Client) -> None:
    # Those by which it was told where the primary is.
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for each in (client, *getattr(manager, "sentinels", ())):
        await end(each.aclose, seconds=_CLOSE_SECONDS)
