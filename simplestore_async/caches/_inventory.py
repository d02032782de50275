"""The files of a cache directory. Rule: facts about a file never include its token; other files are not touched."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

from ._format import FORMAT_VERSION, StoredForm

if TYPE_CHECKING:
    from ._directory import Directory

__all__ = ["ANY_PREFIX", "TokenFile", "clear_files", "list_files"]

# Of any format version: another release of the package may have written it.
ANY_PREFIX: Final = "token-v"
_NAME: Final = re.compile(ANY_PREFIX + r"([0-9]+)-([0-9a-f]{64})\.json")


@attrs.frozen(kw_only=True)
class TokenFile:
    """Facts about a token file.

    Attributes:
        digest: digest of the token's key, as in the file's name; 64 hexadecimal digits.
        problem: why the token is not used; empty if it is.
        size_bytes: size of the file; None if it was not read.
        issued_at: time of the token request, in POSIX seconds; None if the token is not used.
        expires_at: end of the token's life, in POSIX seconds; None if the token is not used.
    """

    digest: str
    problem: str = ""
    size_bytes: int | None = None
    issued_at: float | None = None
    expires_at: float | None = None


def list_files(directory: Directory, form: StoredForm) -> list[TokenFile]:
    """Return facts about the files whose names are those of tokens, ordered by name.

    Raises:
        OSError: if the directory cannot be read.
        TokenCacheError: if the codec fails.
    """
    matches = filter(None, map(_NAME.fullmatch, sorted(directory.names())))
    return [_inspect(directory, match[0], version=match[1], digest=match[2], form=form) for match in matches]


def clear_files(directory: Directory) -> int:
    """Remove token files, and temporary files of killed writers; return their number.

    Lock files are kept: they are empty, and all processes must lock the same one.

    Raises:
        OSError: if a file cannot be removed; earlier ones are gone.
    """
    removed = sum(directory.remove(name) for name in sorted(directory.names()) if _NAME.fullmatch(name))
    return removed + directory.remove_stale_files(ANY_PREFIX)


def _inspect(directory: Directory, name: str, *, version: str, digest: str, form: StoredForm) -> TokenFile:
    if version != str(FORMAT_VERSION):
        return TokenFile(digest=digest, problem=f"its format version is {version}, not {FORMAT_VERSION}")
    data = directory.read(name)
    if isinstance(data, str):
        return TokenFile(digest=digest, problem=data)
    token = form.unpack(digest, data)
    if token is None:
        return TokenFile(digest=digest, problem=_find_fault(digest, data, form), size_bytes=len(data))
    return TokenFile(digest=digest, size_bytes=len(data), issued_at=token.issued_at, expires_at=token.expires_at)


def _find_fault(digest: str, data: bytes, form: StoredForm) -> str:
    if form.codec is None:
        return "it is damaged, or encrypted"
    if StoredForm(None).unpack(digest, data) is not None:
        return "it is not encrypted"
    return "it is encrypted with another key, or damaged"
