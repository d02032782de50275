"""Shared tokens: the caches of `--cache`, and the tokens in Redis.

Rule: a command opens a cache as a program with the same environment does. It reads no token in Redis.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from simplestore_async import FileTokenCache
from simplestore_async.caches import TokenFile
from simplestore_async.errors import ConfigurationError

from ._output import CommandError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from simplestore_async._core.cache import TokenCodec
    from simplestore_async.caches.redis import RedisTokenCache

__all__ = ["clear_redis_tokens", "has_redis", "list_redis_tokens", "open_cache", "open_directory"]

_REDIS_KEYS: Final = "simplestore-async:{*}:token-v*"
_DIGEST: Final = re.compile(rb"\{([0-9a-f]{64})\}")
_REDIS_SECONDS: Final = 5.0


def has_redis() -> bool:
    """Return whether the environment names a Redis server."""
    return bool(os.environ.get("SIMPLESTORE_REDIS_URL"))


def open_cache() -> FileTokenCache | RedisTokenCache:
    """Return the cache of `--cache`: in Redis if the environment names a server, else in the default directory.

    Raises:
        ConfigurationError: if the URL or the encryption key is invalid, or an extra is not installed.
    """
    return _open_redis() if has_redis() else open_directory()


def open_directory(directory: Path | None = None) -> FileTokenCache:
    """Return the cache in *directory*, or in the default one; encrypted if the environment names a key.

    Raises:
        ConfigurationError: if the key is invalid, or the extra `encryption` is not installed.
    """
    return FileTokenCache(directory, codec=_find_codec())


async def list_redis_tokens() -> list[TokenFile]:
    """Return digest, expiry and size of each token in the environment's Redis server.

    Raises:
        ConfigurationError: if the URL is invalid, or the extra `redis` is not installed.
        CommandError: if the server cannot be used.
    """
    async with _redis_client() as client:
        found: list[TokenFile] = []
        async for key in client.scan_iter(match=_REDIS_KEYS):
            match = _DIGEST.search(key)
            left = await client.pttl(key)
            if match and left > 0:
                size, expires_at = await client.strlen(key), time.time() + left / 1000
                found.append(TokenFile(digest=match[1].decode(), size_bytes=size, expires_at=expires_at))
        return sorted(found, key=lambda file: file.digest)


async def clear_redis_tokens() -> int:
    """Remove every token in the environment's Redis server; return their number. Raises as `list_redis_tokens()`."""
    async with _redis_client() as client:
        return sum([await client.delete(key) async for key in client.scan_iter(match=_REDIS_KEYS)])


@asynccontextmanager
async def _redis_client() -> AsyncGenerator[Any]:
    _open_redis()  # checks the URL and the extra
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    client: Any = Redis.from_url(  # pyright: ignore[reportUnknownMemberType] - redis-py types its options loosely
        os.environ["SIMPLESTORE_REDIS_URL"], socket_timeout=_REDIS_SECONDS, socket_connect_timeout=_REDIS_SECONDS
    )
    try:
        yield client
    # Without the error's text, which may quote the URL.
    except (RedisError, OSError) as error:
        raise CommandError(f"cannot use the server of SIMPLESTORE_REDIS_URL: {type(error).__name__}") from None
    finally:
        await client.aclose()


def _open_redis() -> RedisTokenCache:
    try:
        from simplestore_async.caches.redis import RedisTokenCache
    except ImportError:
        hint = 'pip install "simplestore-async[redis]"'
        raise ConfigurationError("SIMPLESTORE_REDIS_URL", "needs the package redis", hint) from None
    return RedisTokenCache.from_env(codec=_find_codec())


def _find_codec() -> TokenCodec | None:
    names = [name for name in ("SIMPLESTORE_CACHE_KEY", "SIMPLESTORE_CACHE_KEY_FILE") if os.environ.get(name)]
    if not names:
        return None
    try:
        from simplestore_async.caches.encryption import FernetCodec
    except ImportError:
        hint = 'pip install "simplestore-async[encryption]"'
        raise ConfigurationError(names[0], "needs the package cryptography", hint) from None
    return FernetCodec.from_env()
