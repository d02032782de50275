"""The folder of shared tokens. Rule: the commands open it as a program with the same environment does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from simplestore_async import FileTokenCache
from simplestore_async.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["open_folder"]


def open_folder(directory: Path | None = None) -> FileTokenCache:
    """Return the cache in *directory*, or in the default one; an encrypted one if the environment names a key.

    Raises:
        ConfigurationError: if that is no key, or the extra `encryption` is not installed.
    """
    if not os.environ.get("SIMPLESTORE_CACHE_KEY") and not os.environ.get("SIMPLESTORE_CACHE_KEY_FILE"):
        return FileTokenCache(directory)
    try:
        from simplestore_async.caches.encryption import FernetCodec
    except ImportError as error:
        raise ConfigurationError(f"The environment names a key of the cache: {error}") from None
    return FileTokenCache(directory, codec=FernetCodec.from_env())
