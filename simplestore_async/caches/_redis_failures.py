"""What Redis said, in our words. Rule: the kind of an error and its code only; its text may quote what was sent."""

from __future__ import annotations

import os
import re
import ssl
from typing import TYPE_CHECKING, Any, Final, TypeVar

from simplestore_async.errors import TokenCacheError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from ._redis_client import Client

__all__ = ["explained"]

T = TypeVar("T")

# By the names of redis-py's classes, the most special first: an error is what any of its bases is.
_PROBLEMS: Final = {
    "AuthenticationError": "it refused the user name or the password: set those that it knows",
    "AuthenticationWrongNumberOfArgsError": "it refused the user name or the password: set those that it knows",
    "NoPermissionError": "its user may not do this: give it the commands, keys and channels of the page on many hosts",
    "ReadOnlyError": "it is a replica, which cannot be written to: name the primary, or ask Sentinel for it",
    "OutOfMemoryError": "its memory is full (maxmemory): give it more, or a policy that evicts what has an expiry",
    "BusyLoadingError": "it is still loading its data: wait until it is up",
    "MaxConnectionsError": "the client has no connection left: raise its max_connections; waiting for a lock takes two",
    "MasterNotFoundError": "Sentinel knows no primary of this name that is up",
    "TimeoutError": "it did not answer in time: is it overloaded, stopped, or behind a firewall?",
    "ConnectionError": "it cannot be reached: is it up, and may this machine reach it?",
    "ClusterDownError": "the cluster is down: some of its slots have no node that is up",
    "RedisClusterException": "no node of the cluster can be reached: is one up, and may this machine reach it?",
}
# The first word of an error reply, such as NOREPLICAS; never what follows it.
_CODE: Final = re.compile(r"[A-Z]{2,20}(?= |$)")


async def explained(call: Awaitable[T], client: Client) -> T:
    """Return what *call* to *client* gives.

    Raises:
        TokenCacheError: for whatever it raises; says what to do.
    """
    try:
        return await call
    except TokenCacheError as error:
        failure = TokenCacheError(str(error))  # without the frames that held the token
    except Exception as error:  # noqa: BLE001 - redis-py raises errors of the system and of Python, too
        failure = TokenCacheError(f"Cannot keep tokens in {_find_place(client)}: {_describe(error)}")
    raise failure


def _describe(error: Exception) -> str:
    # redis-py wraps in a ConnectionError what goes wrong while it connects, be it the password.
    chain = [*_trace_back(error)]
    names = {each.__name__ for link in chain for each in type(link).__mro__}
    problem = next((problem for name, problem in _PROBLEMS.items() if name in names), None)
    if problem is None:
        code = _CODE.match(str(error)) if "ResponseError" in names else None
        return f"it answered {code[0]}" if code else f"unexpected {type(error).__name__}"
    reason = next(filter(None, map(_find_reason, chain)), None)
    return f"{problem} ({reason})" if reason else problem


def _trace_back(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _find_reason(error: BaseException) -> str | None:
    """Return the words of the system, or of TLS, if it is an error of theirs."""
    if isinstance(error, ssl.SSLError):
        return getattr(error, "verify_message", None) or error.reason
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else None


def _find_place(client: Client) -> str:
    # A cluster's client, and Sentinel's, has no one address.
    settings: dict[str, Any] = client.get_connection_kwargs()
    if path := settings.get("path"):
        return f"Redis at {path}"
    return f"Redis at {settings['host']}:{settings.get('port')}" if settings.get("host") else "Redis"
