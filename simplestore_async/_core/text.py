"""Text from outside. Rule: invisible characters around it are stripped, and those inside it are refused by name."""

from __future__ import annotations

import unicodedata
from itertools import chain
from typing import Final

__all__ = ["find_odd_character", "trim"]

# White space but the space itself, soft hyphen, zero-width and direction characters, byte order mark.
_RANGES: Final = [(0x09, 0x0D), (0x1C, 0x1F), (0x85, 0x85), (0xA0, 0xA0), (0xAD, 0xAD), (0x1680, 0x1680)]
_RANGES_ABOVE: Final = [(0x180E, 0x180E), (0x2000, 0x200F), (0x2028, 0x202F), (0x205F, 0x206F), (0x3000, 0x3000)]
# Hangul fillers, the blank of Braille, and the grapheme joiner: letters and symbols to Unicode.
_BLANK: Final = "\u115f\u1160\u3164\uffa0\u2800\u034f"
_INVISIBLE: Final = f"\ufeff{_BLANK}" + "".join(
    map(chr, chain.from_iterable(range(first, last + 1) for first, last in _RANGES + _RANGES_ABOVE))
)
# Control, format, surrogate, separators. Unassigned and private-use characters may be intended, and are accepted.
_ODD_CATEGORIES: Final = {"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"}


def trim(text: str, *, keep_spaces: bool = False) -> str:
    """Return *text* without surrounding invisible characters; with *keep_spaces* the space U+0020 is kept."""
    return text.strip(_INVISIBLE if keep_spaces else f" {_INVISIBLE}")


def find_odd_character(text: str) -> str:
    """Return the name of the first invisible character of *text*, or an empty string."""
    for char in text:
        is_odd = char in _BLANK or (not char.isprintable() and unicodedata.category(char) in _ODD_CATEGORIES)
        if not is_odd:
            continue
        code = f"U+{ord(char):04X}"
        if char in "\r\n":
            return f"a line break ({code})"
        name = unicodedata.name(char, "").lower()
        return f"{name} ({code})" if name else code
    return ""
