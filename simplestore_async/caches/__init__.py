"""Token caches: the protocols, two caches, and the stored form for third-party caches. Re-exports only."""

from simplestore_async._core.cache import MemoryTokenCache, SharedTokenCache, TokenCache, TokenCodec

from ._file import FileTokenCache
from ._format import dumps, loads
from ._inventory import TokenFile

__all__ = [
    "FileTokenCache",
    "MemoryTokenCache",
    "SharedTokenCache",
    "TokenCache",
    "TokenCodec",
    "TokenFile",
    "dumps",
    "loads",
]
