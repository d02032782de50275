"""Redaction. Rule: what is secret shows as `***` wherever Python shows values, and cannot be pickled.

A `RedactedStr` still *is* the value: it must travel through aiohttp, urllib and json as it is. Only its `repr` differs,
because `repr` is what loggers, tracebacks with locals, debuggers and `request_info` use.
"""

from __future__ import annotations

import base64
import re
from html.entities import codepoint2name
from typing import Final, NoReturn, Self, SupportsIndex, TypeVar, cast

import attrs

__all__ = ["MASK", "RedactedBytes", "RedactedStr", "conceal", "find_spellings", "kind_of", "show_fields"]

T = TypeVar("T")

MASK: Final = "***"


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
    """Return text redacted, anything else as it is.

    Constructors that take a secret call it first: then a later error's traceback finds no clear text in their frames.
    """
    redacted = RedactedStr(value) if isinstance(value, str) else value
    return cast("T", RedactedBytes(redacted) if isinstance(redacted, bytes) else redacted)


def show_fields(instance: attrs.AttrsInstance) -> str:
    """Return the `repr` of an attrs instance, also of one that is half built.

    When a constructor fails, the instance stands among the locals of its frames, and a traceback shows them.
    """
    shown: list[str] = []
    for field in attrs.fields(type(instance)):
        if field.repr and hasattr(instance, field.name):
            show = field.repr if callable(field.repr) else repr
            shown.append(f"{field.name}={show(getattr(instance, field.name))}")
    return f"{type(instance).__name__}({', '.join(shown)})"


def kind_of(value: object) -> str:
    """Return the name of the type that the user passed: bytes are concealed as a type of our own."""
    return "bytes" if isinstance(value, bytes) else type(value).__name__


def find_spellings(secret: str) -> re.Pattern[str]:
    """Return a pattern for every form in which a server may echo *secret*.

    Each character may stand for itself, be percent- or form-encoded (RFC 3986 §2.1), escaped as in JSON, JavaScript or
    Python, an HTML entity, or UTF-8 read as Latin-1; or the whole may be base64.
    """
    encoded = [base64.b64encode(secret.encode()).decode().rstrip("=")]
    encoded.append(encoded[0].replace("+", "-").replace("/", "_"))
    whole = "".join(map(_spell_character, secret))
    return re.compile("|".join([whole, *(f"{re.escape(text)}=*" for text in encoded)]))


def _spell_character(character: str) -> str:
    code = ord(character)
    utf8 = character.encode()
    utf16 = character.encode("utf-16-be").hex()
    hexadecimal = [
        "".join(f"%{byte:02x}" for byte in utf8),
        "".join(f"\\u{utf16[start : start + 4]}" for start in range(0, len(utf16), 4)),
        f"\\x{code:02x}",
        f"&#x{code:x};",
    ]
    exact = [character, utf8.decode("latin-1"), f"\\{character}", f"&#{code};"]
    # HTML's table of names leaves the apostrophe out.
    exact += [f"&{name};" for name in (codepoint2name | {0x27: "apos"}).get(code, "").split()]
    exact += ["+"] if character == " " else []
    forms = [f"(?i:{re.escape(form)})" for form in hexadecimal] + sorted(map(re.escape, exact), key=len, reverse=True)
    return f"(?:{'|'.join(forms)})"
