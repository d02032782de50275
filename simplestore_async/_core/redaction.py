"""Redaction. Rule: what is secret shows as `***` wherever Python shows values, and cannot be pickled.

A `RedactedStr` still *is* the value: it must travel through aiohttp, urllib and json as it is. Only its `repr` differs,
because `repr` is what loggers, tracebacks with locals, debuggers and `request_info` use.
"""

from __future__ import annotations

import base64
from string import ascii_lowercase, ascii_uppercase
from typing import TYPE_CHECKING, Final, NoReturn, Self, SupportsIndex, TypeVar, cast

import attrs
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MASK", "RedactedBytes", "RedactedStr", "Spellings", "conceal", "kind_of", "scrub", "show_fields"]

T = TypeVar("T")

MASK: Final = "***"
_ASCII_LOWER: Final = str.maketrans(ascii_uppercase, ascii_lowercase)


class RedactedStr(str):
    """A string whose `repr` hides it. `+` and f-strings with it give plain strings: build it whole."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{MASK}'"

    def __getitem__(self, key: SupportsIndex | slice) -> Self:
        # reprlib and rich cut long strings short before they show them.
        return type(self)(super().__getitem__(key))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret or token cannot be pickled: let each process read or request its own")


class RedactedBytes(bytes):
    """Bytes whose `repr` hides them."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"b'{MASK}'"


def conceal(value: T) -> T:
    """Return text redacted (a URL as text), anything else as it is.

    Constructors that take a secret call it first: then a later error's traceback finds no clear text in their frames.
    """
    redacted = RedactedStr(value) if isinstance(value, str | URL) else value
    return cast("T", RedactedBytes(redacted) if isinstance(redacted, bytes) else redacted)


def show_fields(self: attrs.AttrsInstance) -> str:
    """Be the `__repr__` of an attrs class, also of an instance that is half built.

    A method of its own for each class, which attrs would write, is what would cost most of our import time. When a
    constructor fails, the instance stands among the locals of its frames, and a traceback shows them.
    """
    shown: list[str] = []
    for field in attrs.fields(type(self)):
        if field.repr and hasattr(self, field.name):
            show = field.repr if callable(field.repr) else repr
            shown.append(f"{field.name}={show(getattr(self, field.name))}")
    return f"{type(self).__name__}({', '.join(shown)})"


def kind_of(value: object) -> str:
    """Return the name of the type that the user passed: bytes are concealed as a type of our own."""
    return "bytes" if isinstance(value, bytes) else type(value).__name__


class Spellings:
    """Every form in which a server may echo a secret.

    Each character may stand for itself, be percent- or form-encoded (RFC 3986 2.1), escaped as in JSON, JavaScript or
    Python, an HTML entity, or UTF-8 read as Latin-1; or the whole may be base64. Not a regular expression: the forms
    are ambiguous, and backtracking over them takes exponential time for a secret such as twenty backslashes.
    """

    def __init__(self, secret: str) -> None:
        # Each character once: a server may call a megabyte a token.
        forms = {character: _list_forms(character) for character in set(secret)}
        self._forms = [forms[character] for character in secret]
        utf8 = secret.encode("utf-8", "surrogatepass")
        padded = {base64.b64encode(utf8).decode(), base64.urlsafe_b64encode(utf8).decode()}
        self._encoded = padded | {encoded.rstrip("=") for encoded in padded}

    def find_end(self, text: str, lowered: str, start: int) -> int | None:
        """Return where the longest spelling that begins at *start* ends, or None; *lowered* is *text* in lower case."""
        ends = {start}
        for exact, hexadecimal in self._forms:
            ends = {end + len(form) for end in ends for form in exact if text.startswith(form, end)} | {
                end + len(form) for end in ends for form in hexadecimal if lowered.startswith(form, end)
            }
            if not ends:
                break
        ends |= {start + len(encoded) for encoded in self._encoded if text.startswith(encoded, start)}
        return max(ends, default=None)


def scrub(text: str, hidden: Sequence[Spellings], *, limit: int) -> str:
    """Return the first *limit* characters of *text*, with `***` for each spelling of what is hidden, on one line."""
    # ASCII only: other letters may change their number when they change their case.
    lowered = text.translate(_ASCII_LOWER)
    shown = ""
    position = 0
    while position < len(text) and len(shown) <= limit:
        ends = [end for spellings in hidden if (end := spellings.find_end(text, lowered, position)) is not None]
        character = text[position]
        shown += MASK if ends else character if character.isprintable() else " "
        position = max(ends, default=position + 1)
    return shown if len(shown) <= limit else f"{shown[:limit]}…"


def _list_forms(character: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return how one character may be written: forms that keep their case, and hexadecimal ones in lower case."""
    from html.entities import codepoint2name  # only for a refused request

    code = ord(character)
    utf8 = character.encode("utf-8", "surrogatepass")
    utf16 = character.encode("utf-16-be", "surrogatepass").hex()
    exact = {character, utf8.decode("latin-1"), f"\\{character}", f"&#{code};", f"&#{code:03};"}
    # HTML's table of names leaves the apostrophe out.
    exact |= {f"&{name};" for name in (codepoint2name | {0x27: "apos"}).get(code, "").split()}
    exact |= {"+"} if character == " " else set()
    hexadecimal = {
        "".join(f"%{byte:02x}" for byte in utf8),
        "".join(f"\\u{utf16[start : start + 4]}" for start in range(0, len(utf16), 4)),
        f"\\x{code:02x}",
        f"%{code:02x}",  # Latin-1
        f"&#x{code:x};",
    }
    return frozenset(exact), frozenset(hexadecimal)
