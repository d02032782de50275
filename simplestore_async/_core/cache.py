"""Cache protocols and the memory cache. Rule: two coroutines make a cache; a third method lets processes share it."""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, cast, runtime_checkable

import attrs

from simplestore_async.errors import ConfigurationError

from .clock import Clock, default_clock
from .process_lock import ProcessLock
from .token import LONGEST_LIFETIME_SECONDS, AccessToken
from .validation import check_type, is_coroutine_function, type_error

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

__all__ = [
    "MemoryTokenCache",
    "SharedTokenCache",
    "TokenCache",
    "TokenCodec",
    "check_cache",
    "find_reading",
    "undo_clock_step",
]

# Tolerance: the two clocks are read in sequence, and NTP slews one of them.
_NOISE_SECONDS: Final = 1.0
_LOCK: Final = ProcessLock()


@runtime_checkable
class TokenCache(Protocol):
    """Token storage that outlives the provider.

    Used by several tasks at once, and from several event loops if the provider is. A cache that raises or hangs never
    fails a renewal: the provider continues without it and reports `simplestore_async.events.CacheFailed`.
    Any string is a key; those of providers are digests. `simplestore_async.testing.TokenCacheContract` is a ready-made
    test suite for your own cache.
    """

    async def get(self, key: str, /) -> AccessToken | None:
        """Return the token last set for *key*, or None if there is none or it cannot be trusted.

        An expired token may be returned; the provider checks.
        """
        ...

    async def set(self, key: str, token: AccessToken, /) -> None:
        """Keep *token* for *key* in place of any other, until it expires."""
        ...


@runtime_checkable
class SharedTokenCache(TokenCache, Protocol):
    """A cache that processes share, with a lock that lets one of them renew for all."""

    def renewal_lock(self, key: str, /) -> AbstractAsyncContextManager[object]:
        """Return a context manager that holds *key*'s lock across processes; entering it waits for other holders.

        The provider cancels a wait that takes too long and renews without the lock: the lock saves token requests;
        correctness does not depend on it.
        """
        ...


@runtime_checkable
class TokenCodec(Protocol):
    """Encodes the bytes that a cache stores; `simplestore_async.caches.encryption.FernetCodec` is one.

    The methods may block: a cache calls them in its own thread, concurrently if the codec serves several caches.
    The data has the token and a digest of its key, so that an entry copied to another key is detected. An exception
    is logged by its type, because its text may contain the token; a `SimpleStoreError` is logged whole. It never fails
    a renewal.
    """

    def encode(self, data: bytes, /) -> bytes:
        """Return the bytes to store for *data*, which contains an unencrypted token."""
        ...

    def decode(self, data: bytes, /) -> bytes | None:
        """Return the data that was encoded, or None for bytes that this codec cannot have made."""
        ...


class MemoryTokenCache:
    """A cache in memory, for several providers of one process; safe for concurrent event loops and threads.

    Args:
        clock: the clock for expiry; by default the system clock.

    Raises:
        ConfigurationError: if *clock* is not a `Clock`.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        check_type("clock", clock, Clock | None)
        self._clock = clock or default_clock()
        self._tokens: dict[str, tuple[AccessToken, float | None]] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    async def get(self, key: str, /) -> AccessToken | None:
        """Return the token last set for *key*, unless it has expired.

        Raises:
            ConfigurationError: if *key* is not a string.
        """
        check_type("key", key, str)
        entry = self._tokens.get(key)
        return None if entry is None else self._find_living(*entry)

    async def set(self, key: str, token: AccessToken, /) -> None:
        """Keep *token* for *key*, and drop all expired tokens.

        Raises:
            ConfigurationError: if *key* is not a string, or *token* not an `AccessToken`.
        """
        check_type("key", key, str)
        check_type("token", token, AccessToken)
        with _LOCK:  # guards the sweep against another thread's set
            self._tokens[key] = token, find_reading(token, self._clock)
            for expired in [key for key, entry in self._tokens.items() if self._find_living(*entry) is None]:
                del self._tokens[expired]

    def __len__(self) -> int:
        return len(self._tokens)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def _find_living(self, token: AccessToken, reading: float | None) -> AccessToken | None:
        token = undo_clock_step(token, reading, self._clock)
        return token if token.expires_at > self._clock.time() else None


def check_cache(value: object) -> None:
    """Check that *value* is None or a `TokenCache`.

    Raises:
        ConfigurationError: if it is a class, lacks a method, or has one that is a plain function.
    """
    if value is None:
        return
    if isinstance(value, type) or not isinstance(value, TokenCache):
        raise type_error("cache", value, "an object with async get() and set()")
    for name in ("get", "set"):
        method = inspect.unwrap(getattr(cast("Any", value), name))
        function = getattr(method, "__func__", method)
        # Other callables may return an awaitable.
        if isinstance(function, FunctionType) and not is_coroutine_function(function):
            raise ConfigurationError(
                "cache", f"must implement async get() and set(); {name}() of {type(value).__name__} is a plain function"
            )


def find_reading(token: AccessToken, clock: Clock) -> float | None:
    """Return `clock.monotonic()` at the time the token was issued; None if it is out of date by either clock."""
    age = clock.time() - token.issued_at
    return clock.monotonic() - age if abs(age) <= LONGEST_LIFETIME_SECONDS else None


def undo_clock_step(token: AccessToken, reading: float | None, clock: Clock) -> AccessToken:
    """Return the token with its instants by the current wall clock, if it was stepped since.

    Args:
        token: the token as it was stored.
        reading: the result of `find_reading()` when it was stored.
        clock: the same clock.
    """
    if reading is None:
        return token
    step = clock.time() - (clock.monotonic() - reading) - token.issued_at
    if abs(step) <= _NOISE_SECONDS:
        return token
    return attrs.evolve(token, issued_at=token.issued_at + step, expires_at=token.expires_at + step)
