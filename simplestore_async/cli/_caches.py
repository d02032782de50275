"""The caches of `--cache`. Rule: a command opens them as a program with the same environment does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from simplestore_async import FileTokenCache
from simplestore_async.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from simplestore_async._core.cache import TokenCodec
    from simplestore_async.caches.redis import RedisTokenCache

__all__ = ["has_redis", "open_cache", "open_directory", "open_redis"]


def has_redis() -> bool:
    """Return whether the environment names a Redis server."""
    return bool(os.environ.get("SIMPLESTORE_REDIS_URL"))


def open_cache() -> FileTokenCache | RedisTokenCache:
    """Return the cache of `--cache`: in Redis if the environment names a server, else in the default directory.

    Raises:
        ConfigurationError: if the URL or the encryption key is invalid, or an extra is not installed.
    """
    return open_redis() if has_redis() else open_directory()


def open_directory(directory: Path | None = None) -> FileTokenCache:
    """Return the cache in *directory*, or in the default one; encrypted if the environment names a key.

    Raises:
        ConfigurationError: if the key is invalid, or the extra `encryption` is not installed.
    """
    return FileTokenCache(directory, codec=_find_codec())


def open_redis() -> RedisTokenCache:
    """Return the cache in the environment's Redis server; encrypted if the environment names a key.

    Raises:
        ConfigurationError: if the URL or the key is invalid, or an extra is not installed.
    """
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
