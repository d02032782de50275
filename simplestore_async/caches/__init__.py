"""Where tokens are kept: the protocols, two caches, and the stored form for caches of one's own. Re-exports only."""

from ._file import FileTokenCache
from ._format import dumps, loads
from ._inventory import TokenFile
from ._memory import MemoryTokenCache
from ._protocols import SharedTokenCache, TokenCache, TokenCodec

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
