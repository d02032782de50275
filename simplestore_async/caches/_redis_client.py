"""Clients of Redis. Rule: a client made here lives for one call, and no error shows values sent or received.

A renewal comes once in an hour. A connection that waited for it would be cut by a firewall, would belong to one event
loop, and would not survive a fork.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import ssl
import weakref
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

from simplestore_async._core.redaction import conceal
from simplestore_async._core.transport_errors import describe_system_error
from simplestore_async._core.validation import check_callable, check_type
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
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator

__all__ = ["Client", "Clients", "clients_of_url", "end", "explained", "response"]

T = TypeVar("T")

# redis-py declares the same methods for its blocking clients and for these: their results are of both types.
Client: TypeAlias = Any

# Less than a renewal gives a cache: then the error is the server's own, and more specific than a timeout.
_RESPONSE_SECONDS: Final = 1.5
_CLOSE_SECONDS: Final = 5.0

# By the names of redis-py's classes, the most special first: an error counts as each of its bases. Problem, and hint.
_REFUSED_PASSWORD: Final = "it refused the user name or the password", "set those of its users"
_FAILURES: Final = {
    "AuthenticationError": _REFUSED_PASSWORD,
    "AuthenticationWrongNumberOfArgsError": _REFUSED_PASSWORD,
    "NoPermissionError": (
        "its user lacks a permission",
        "grant the commands, keys and channels of the page on many hosts",
    ),
    "ReadOnlyError": ("it is a read-only replica", "name the primary, or get it from Sentinel"),
    "OutOfMemoryError": (
        "its memory is full (maxmemory)",
        "raise the limit, or set a policy that evicts keys with an expiry",
    ),
    "BusyLoadingError": ("it is still loading its data", "wait until it is up"),
    "MaxConnectionsError": (
        "the client has no connection left",
        "raise its max_connections; waiting for a lock takes two",
    ),
    "MasterNotFoundError": ("Sentinel has no primary of this name that is up", ""),
    "TimeoutError": ("it did not respond in time", "is it overloaded, stopped, or behind a firewall?"),
    "ConnectionError": ("it cannot be reached", "is it up, and may this machine reach it?"),
    "ClusterDownError": ("the cluster is down", "bring up a node for each of its slots"),
    "RedisClusterException": (
        "no node of the cluster can be reached",
        "is one up, and may this machine reach it?",
    ),
}
# The first word of an error response, such as NOREPLICAS; never the rest.
_CODE: Final = re.compile(r"[A-Z]{2,20}(?= |$)")


def clients_of_url(url: str, *, field: str) -> Callable[[], Client]:
    """Return a function that makes a client of a single server, by its *url*, which is a secret.

    Raises:
        ConfigurationError: if it is no such URL; names the *field*, and does not quote it.
    """
    check_type(field, url, str, expected="a URL")
    url = conceal(url)
    # Not chained: redis-py's own words may quote a part of the password.
    try:
        parse_url(url)
        is_valid = True
    except (ValueError, TypeError, AttributeError):
        is_valid = False
    if not is_valid:
        raise ConfigurationError(
            field, "is not the URL of a Redis server", "write redis://host:6379/0, rediss://… for TLS, or unix:///path"
        )

    def make() -> Client:
        return redis.asyncio.Redis.from_url(  # pyright: ignore[reportUnknownMemberType] - its options have no types
            url,
            socket_connect_timeout=_RESPONSE_SECONDS,
            socket_timeout=_RESPONSE_SECONDS,
            retry=Retry(NoBackoff(), 0),  # a renewal continues without the cache, and the next one tries again
        )

    return make


class Clients:
    """The source of clients: a client of the user's, for one event loop, or a callable that makes one."""

    def __init__(self, source: Client | Callable[[], Client]) -> None:
        _check_source(source)
        self._source = source
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Client]:
        """Yield a client, and close it afterwards if it was made for this.

        Raises:
            TokenCacheError: if there is none for this event loop.
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
                "the Redis client belongs to another event loop",
                "give RedisTokenCache a callable that makes a client",
            )


async def response(call: Awaitable[T]) -> T:
    """Return the response to a *call* of redis-py, and end as cancelled if this task was cancelled meanwhile.

    redis-py sends by `asyncio.wait_for()`, which before Python 3.12 swallows a cancellation that comes when it is done.
    """
    task = cast("asyncio.Task[Any]", asyncio.current_task())  # redis-py needs one
    cancellations = task.cancelling()
    result = await call
    if task.cancelling() > cancellations:
        raise asyncio.CancelledError
    return result


async def explained(work: Awaitable[T], client: Client) -> T:
    """Return the result of *work* with *client*.

    Errors are replaced: redis-py's frames hold the password and the token in clear.

    Raises:
        TokenCacheError: for any error.
        asyncio.CancelledError: if this task was cancelled.
    """
    failure: BaseException
    try:
        return await work
    except asyncio.CancelledError as error:
        failure = asyncio.CancelledError(*error.args)
    except TokenCacheError as error:
        failure = TokenCacheError(error.problem, error.hint)
    except Exception as error:  # noqa: BLE001 - redis-py also raises errors of the system and of Python
        problem, hint = _describe(error)
        failure = TokenCacheError(f"cannot use {_find_place(client)}: {problem}", hint)
    raise failure


async def end(call: Callable[[], Awaitable[object]], *, seconds: float) -> None:
    """Make a *call* that ends something, and repeat it once if this task is cancelled meanwhile.

    It takes *seconds* at most, and raises nothing but the cancellation, without redis-py's frames.
    """
    cancelled = None
    for _ in range(2):
        try:
            with suppress(Exception):
                async with asyncio.timeout(seconds):
                    await response(call())
            break
        except asyncio.CancelledError as error:
            cancelled = asyncio.CancelledError(*error.args)
    if cancelled is not None:
        raise cancelled


def _check_source(source: object) -> None:
    kinds: tuple[type, ...] = redis.asyncio.Redis, redis.asyncio.RedisCluster
    if isinstance(source, kinds) or (isinstance(source, type) and issubclass(source, kinds)):
        return
    if callable(source) and not isinstance(source, type):  # pyright: ignore[reportUnknownArgumentType] - of anything
        check_callable("client", source, arguments=0, is_plain=True)
        return
    expected = "a client of redis.asyncio, or a callable that makes one"
    raise ConfigurationError("client", f"must be {expected}, got {_kind_of(source)}")


def _make(source: Callable[[], Client]) -> Client:
    # Not chained: the error may quote an address with its password.
    try:
        client = source()
    except Exception as error:  # noqa: BLE001 - it is the user's
        problem = f"raised {type(error).__name__}"
    else:
        if _is_client(client):
            return client
        if inspect.iscoroutine(client):
            client.close()
        problem = f"returned {_kind_of(client)} instead of a client of redis.asyncio"
    raise TokenCacheError(f"the callable that makes the Redis client {problem}")


def _is_client(value: object) -> bool:
    return isinstance(value, redis.asyncio.Redis | redis.asyncio.RedisCluster)


def _kind_of(value: object) -> str:
    # With the module: there are clients of the same name that block.
    if isinstance(value, type):
        return f"the class {value.__module__}.{value.__qualname__}"
    return f"{type(value).__module__}.{type(value).__qualname__}"


async def _close(client: Client) -> None:
    # With the clients of the sentinels, which named the primary.
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for each in (client, *getattr(manager, "sentinels", ())):
        await end(each.aclose, seconds=_CLOSE_SECONDS)


def _describe(error: Exception) -> tuple[str, str]:
    """Return problem and hint, from the kind of the error and its code only: its text may quote the request."""
    # redis-py wraps every error while it connects in a ConnectionError, also a refused password.
    chain = [*_trace_back(error)]
    names = {each.__name__ for link in chain for each in type(link).__mro__}
    known = next((facts for name, facts in _FAILURES.items() if name in names), None)
    if known is None:
        code = _CODE.match(str(error)) if "ResponseError" in names else None
        return f"it responded {code[0]}" if code else f"unexpected {type(error).__name__}", ""
    problem, hint = known
    reason = next(filter(None, map(_find_reason, chain)), None)
    return f"{problem} ({reason})" if reason else problem, hint


def _trace_back(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _find_reason(error: BaseException) -> str | None:
    """Return the words of the system, or of TLS, if it is an error of theirs."""
    if isinstance(error, ssl.SSLError):
        return getattr(error, "verify_message", None) or error.reason
    return describe_system_error(error) if isinstance(error, OSError) else None


def _find_place(client: Client) -> str:
    # A client of a cluster or of Sentinel has no one address.
    settings: dict[str, Any] = client.get_connection_kwargs()
    if path := settings.get("path"):
        return f"Redis at {path}"
    return f"Redis at {settings['host']}:{settings.get('port')}" if settings.get("host") else "Redis"
