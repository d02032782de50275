"""Text for terminals. Rule: text from outside passes `as_line` or `as_text` before it is printed.

It may come from a server, a file, a file name or the environment. Control characters (C0 and C1), bidirectional marks,
line separators and invisible characters are shown as escapes: they cannot move the cursor, reorder or hide text.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from simplestore_async._core.redaction import MASK
from simplestore_async._core.secret import SecretFile, read_secret_text, show_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["as_line", "as_text", "find_odd", "hidden_values", "hide"]

# Letters and marks by their category that are invisible all the same (Unicode's Default_Ignorable_Code_Point).
_INVISIBLE: Final = frozenset(
    map(
        chr,
        (
            *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
            *range(0x180B, 0x1810),
            *range(0xFE00, 0xFE10),
            *range(0xE0100, 0xE01F0),
        ),
    )
)
# Shorter values occur in ordinary words.
_SHORTEST_HIDDEN: Final = 8


def as_line(text: str) -> str:
    """Return *text* as one printable line; white space and line breaks become single blanks."""
    return "".join(map(_show, " ".join(text.split())))


def as_text(text: str) -> str:
    """Return *text* with its line breaks and tabs, and otherwise printable."""
    return "".join(char if char in "\n\t" else _show(char) for char in text.replace("\r\n", "\n"))


def find_odd(text: str) -> list[str]:
    """Return the invisible and unusual characters of *text*, as `U+…`."""
    return [f"U+{ord(char):04X}" for char in dict.fromkeys(text) if char != " " and _show(char) != char]


def _show(char: str) -> str:
    if char.isprintable() and char not in _INVISIBLE:
        return char
    return repr(char)[1:-1] if char < "\x80" else char.encode("ascii", "backslashreplace").decode()


def hide(text: str, values: Iterable[str]) -> str:
    """Return *text* with `***` for each of *values*."""
    for value in values:
        text = text.replace(value, MASK)
    return text


def hidden_values(environment: Mapping[str, str]) -> list[str]:
    """Return the secrets in the environment and in the files that it names, the longest first.

    A `…_FILE` variable that cannot be a path may hold the secret itself, and counts as one.
    """
    found = {environment.get(name, "") for name in ("SIMPLESTORE_CLIENT_SECRET", "SIMPLESTORE_CACHE_KEY")}
    for name in "SIMPLESTORE_CLIENT_SECRET_FILE", "SIMPLESTORE_CACHE_KEY_FILE":
        if value := environment.get(name):
            path = SecretFile(value).path
            found.add(value if show_path(path) == MASK else str(read_secret_text(path)[0]))
    with suppress(ValueError):
        password = urlsplit(environment.get("SIMPLESTORE_REDIS_URL", "")).password or ""
        found |= {password, unquote(password)}
    stripped = {each.strip() for each in found}
    return sorted((each for each in stripped if len(each) >= _SHORTEST_HIDDEN), key=len, reverse=True)
