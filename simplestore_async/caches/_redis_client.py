"""Redis clients. Rule: a client created here lives for one call, and no error shows values sent or received.

Renewals are about an hour apart. A connection that is kept open would be cut by firewalls, belong to one event loop,
and not survive a fork.
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

# redis-py declares the methods for blocking and async clients together, with results of both types.
Client: TypeAlias = Any

_KINDS: Final = redis.asyncio.Redis, redis.asyncio.RedisCluster
# Less than a renewal's limit for a cache, so that the error comes from redis-py and is more specific.
_RESPONSE_SECONDS: Final = 1.5
_CLOSE_SECONDS: Final = 5.0

# Problem and hint by class names of redis-py, the most specific first, since an error also matches its bases.
_REFUSED_PASSWORD: Final = "it refused the user name or the password", "check them in the URL or the client"
_FAILURES: Final = {
    "AuthenticationError": _REFUSED_PASSWORD,
    "AuthenticationWrongNumberOfArgsError": _REFUSED_PASSWORD,
    "NoPermissionError": (
        "its user lacks a permission",
        "grant the commands, keys and channels that the documentation lists",
    ),
    "ReadOnlyError": ("it is a read-only replica", "name the primary, or get it from Sentinel"),
    "OutOfMemoryError": (
        "its memory is full (maxmemory)",
        "raise the limit, or set a policy that evicts keys with an expiry",
    ),
    "BusyLoadingError": ("it is still loading its data", "wait until it has finished"),
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
# The first word of an error response, such as NOREPLICAS; the rest may contain values.
_CODE: Final = re.compile(r"[A-Z]{2,20}(?= |$)")


def clients_of_url(url: str, *, field: str) -> Callable[[], Client]:
    """Return a function that creates a client for the single server at *url*, which is treated as a secret.

    Raises:
        ConfigurationError: if *url* is not such a URL; names *field* without quoting the URL.
    """
    check_type(field, url, str, expected="a URL")
    url = conceal(url)
    # Not chained: redis-py's message may quote part of the password.
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
    """Source of clients: the caller's client, for one event loop, or a callable that creates clients."""

    def __init__(self, source: Client | Callable[[], Client]) -> None:
        _check_source(source)
        self._source = source
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Client]:
        """Yield a client, and close it afterwards if it was created here.

        Raises:
            TokenCacheError: if the client belongs to another event loop or cannot be created.
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
    """Return the response to a *call* of redis-py; raise CancelledError if this task was cancelled meanwhile.

    redis-py uses `asyncio.wait_for()`, which before Python 3.12 swallows a cancellation at its completion.
    """
    task = cast("asyncio.Task[Any]", asyncio.current_task())  # redis-py needs one
    cancellations = task.cancelling()
    result = await call
    if task.cancelling() > cancellations:
        raise asyncio.CancelledError
    return result


async def explained(work: Awaitable[T], client: Client) -> T:
    """Return the result of *work* with *client*.

    Errors are replaced: redis-py's frames contain the password and the token as plain text.

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
    except Exception as error:  # noqa: BLE001 - redis-py also raises other exceptions
        problem, hint = _describe(error)
        failure = TokenCacheError(f"cannot use {_find_place(client)}: {problem}", hint)
    raise failure


async def end(call: Callable[[], Awaitable[object]], *, seconds: float) -> None:
    """Make a clean-up *call*, and repeat it once if this task is cancelled meanwhile.

    Each call takes at most *seconds*. Raises only the cancellation, without redis-py's frames.
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


def _check_source(source: Any) -> None:
    if isinstance(source, _KINDS) or (isinstance(source, type) and issubclass(source, _KINDS)):
        return
    if isinstance(source, type) or not callable(source):
        expected = "a client of redis.asyncio, or a callable that makes one"
        raise ConfigurationError("client", f"must be {expected}, got {_kind_of(source)}")
    check_callable("client", source, arguments=0, is_plain=True)


def _make(source: Callable[[], Client]) -> Client:
    # Not chained: the error may quote an address with its password.
    try:
        client = source()
    except Exception as error:  # noqa: BLE001 - of the caller's code
        problem = f"raised {type(error).__name__}"
    else:
        if isinstance(client, _KINDS):
            return client
        if inspect.iscoroutine(client):
            client.close()
        problem = f"returned {_kind_of(client)} instead of a client of redis.asyncio"
    raise TokenCacheError(f"the callable that makes the Redis client {problem}")


def _kind_of(value: object) -> str:
    # With the module, since blocking clients have the same class names.
    if isinstance(value, type):
        return f"the class {value.__module__}.{value.__qualname__}"
    return f"{type(value).__module__}.{type(value).__qualname__}"


async def _close(client: Client) -> None:
    # Including the clients of the sentinels.
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for each in (client, *getattr(manager, "sentinels", ())):
        await end(each.aclose, seconds=_CLOSE_SECONDS)


def _describe(error: Exception) -> tuple[str, str]:
    """Return problem and hint, from the error's type and code only: its text may quote the request."""
    # While connecting, redis-py wraps every error in a ConnectionError, even that of a refused password.
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
    """Return the reason of the operating system or TLS, if the error comes from there."""
    if isinstance(error, ssl.SSLError):
        return getattr(error, "verify_message", None) or error.reason
    return describe_system_error(error) if isinstance(error, OSError) else None


def _find_place(client: Client) -> str:
    # Clients of a cluster or of Sentinel have no single address.
    settings: dict[str, Any] = client.get_connection_kwargs()
    if path := settings.get("path"):
        return f"Redis at {path}"
    return f"Redis at {settings['host']}:{settings.get('port')}" if settings.get("host") else "Redis"
