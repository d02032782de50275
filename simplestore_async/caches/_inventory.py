"""What a folder of tokens holds. Rule: files are told of and removed by their names; a token is never among the facts.

The folder's own checks apply. What is not named like a token's file is not ours, and is left alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

from ._format import FORMAT_VERSION, unpack

if TYPE_CHECKING:
    from simplestore_async._core.cache import TokenCodec

    from ._folder import Folder

__all__ = ["TokenFile", "clear_files", "list_files"]

# Of any version: another release of the package may have left it.
_ANY_PREFIX: Final = "token-v"
_NAME: Final = re.compile(_ANY_PREFIX + r"([0-9]+)-([0-9a-f]{64})\.json")


@attrs.frozen(kw_only=True)
class TokenFile:
    """What is known of a token's file.

    Attributes:
        digest: of the token's key, as the file's name has it; 64 hexadecimal digits.
        problem: why no token is taken from it; empty if one is.
        size_bytes: how long it is; None if it was not read.
        issued_at: when its token was asked for, in POSIX seconds; None if no token is taken from it.
        expires_at: when its token must no longer be used, likewise.
    """

    digest: str
    problem: str = ""
    size_bytes: int | None = None
    issued_at: float | None = None
    expires_at: float | None = None


def list_files(folder: Folder, codec: TokenCodec | None) -> list[TokenFile]:
    """Return what is known of the files named like a token's, in the order of their names.

    Raises:
        OSError: if the folder cannot be read.
        TokenCacheError: if the codec fails.
    """
    matches = filter(None, map(_NAME.fullmatch, sorted(folder.names())))
    return [_look(folder, match[0], version=match[1], digest=match[2], codec=codec) for match in matches]


def clear_files(folder: Folder) -> int:
    """Remove the files named like a token's, and the temporary ones of killed writers; return how many.

    Lock files stay: they are empty, and whoever is about to lock one must find the same file as everybody else.

    Raises:
        OSError: if one cannot be removed; those before it are gone.
    """
    removed = sum(folder.remove(name) for name in sorted(folder.names()) if _NAME.fullmatch(name))
    return removed + folder.remove_stale_files(_ANY_PREFIX)


def _look(folder: Folder, name: str, *, version: str, digest: str, codec: TokenCodec | None) -> TokenFile:
    if version != str(FORMAT_VERSION):
        return TokenFile(digest=digest, problem=f"it is of another version of the format, {version}")
    data = folder.read(name)
    if isinstance(data, str):
        return TokenFile(digest=digest, problem=data)
    token = unpack(digest, data, codec)
    if token is None:
        return TokenFile(digest=digest, problem=_find_fault(digest, data, codec), size_bytes=len(data))
    return TokenFile(digest=digest, size_bytes=len(data), issued_at=token.issued_at, expires_at=token.expires_at)


def _find_fault(digest: str, data: bytes, codec: TokenCodec | None) -> str:
    if codec is None:
        return "it is damaged, or encrypted"
    if unpack(digest, data, None) is not None:
        return "it is not encrypted"
    return "it is encrypted with another key, or damaged"
