"""Text from a server. Rule: shown whole or withheld whole, on one line, at a bounded cost.

A server may echo a secret in any encoding. The text is cut, escapes are decoded until none is left, and it is shown
only if no decoding contains eight characters in a row of a secret, or the whole of a shorter one.
"""

from __future__ import annotations

import base64
import html
import re
import unicodedata
from math import gcd
from string import ascii_uppercase, digits
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus, unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["WITHHELD", "SecretFilter", "spell_in_base64"]

WITHHELD: Final = "[withheld]"

_LONGEST_TEXT: Final = 300
_RUN: Final = 8
# Shorter runs of letters and digits occur in many words.
_SHORTEST_ALTERED: Final = 5
# Text that exceeds a limit is withheld without a search.
_MOST_SECRET_CHARACTERS: Final = 16_384
_MOST_READINGS: Final = 64
_MOST_CHARACTERS: Final = 30_000
# NFKD expands one character to up to 18.
_LONGEST_EXPANSION: Final = 18

_HEX: Final = r"[0-9A-Fa-f]"
_ESCAPE: Final = re.compile(
    rf"\\u\{{({_HEX}{{1,6}})\}}|\\U({_HEX}{{8}})|(?:\\u|%u|U\+)({_HEX}{{4}})|(?:\\x|=|0x)({_HEX}{{2}})|\\([0-7]{{3}})"
    r"|\\(.)",
    re.DOTALL,
)
_NUMBERS: Final = re.compile(r"[0-9]{1,3}(?:[\s,;]+[0-9]{1,3})+")
_SEPARATORS: Final = re.compile(r"0x|\\x|[\W_]+", re.IGNORECASE)
_LETTERS_AND_DIGITS: Final = re.compile(r"[^0-9a-z]+")
# Alphabet and ignored characters, by bits per character.
_ALPHABETS: Final = {
    1: ("01", _SEPARATORS),
    4: ("0123456789abcdef", _SEPARATORS),
    5: (f"{ascii_uppercase}234567".lower(), re.compile(r"\s+")),
    6: (f"{ascii_uppercase}{ascii_uppercase.lower()}{digits}+/", re.compile(r"\s+")),
}
_URL_SAFE: Final = str.maketrans("-_", "+/")


def spell_in_base64(secret: str) -> list[str]:
    """Return the base64 forms of *secret*, plain and percent-encoded, at each alignment inside a longer text.

    For servers that change the case of an echo, which can then no longer be decoded.
    """
    return [
        base64.b64encode(bytes(before) + text.encode("utf-8", "replace")).decode().rstrip("=")[bool(before) + before :]
        for text in {secret, quote(secret, safe=""), quote_plus(secret)}
        for before in range(3)
    ]


class SecretFilter:
    """The values that no shown text may contain."""

    def __init__(self, secrets: Iterable[str]) -> None:
        secrets = [secret for secret in secrets if secret]
        self._is_too_long = sum(map(_count_folded, secrets)) > _MOST_SECRET_CHARACTERS
        self._shortest = min([_RUN, *map(len, secrets)])
        self._runs: dict[int, set[str]] = {}
        for secret in () if self._is_too_long else secrets:
            text, letters = _fold(secret)
            for needle in {text, letters}:
                if needle and (needle == text or len(needle) >= _SHORTEST_ALTERED):
                    self._add(needle)
                    self._add(needle[::-1])

    def _add(self, needle: str) -> None:
        length = min(_RUN, len(needle))
        self._runs.setdefault(length, set()).update(_list_runs(needle, length))

    def holds(self, text: str) -> bool:
        """Return whether *text* may contain a secret; True if the search would cost too much."""
        readings, unread, characters = {text}, [text], 0
        while unread:
            reading = unread.pop()
            for view in _fold(reading):
                characters += len(view)
                if self._is_too_long or len(readings) > _MOST_READINGS or characters > _MOST_CHARACTERS:
                    return True
                if any(not runs.isdisjoint(_list_runs(view, length)) for length, runs in self._runs.items()):
                    return True
            unread += (new := {decoded for decoded in _decode(reading, self._shortest) if decoded} - readings)
            readings |= new
        return False

    def show(self, text: str) -> str:
        """Return the beginning of *text* on one line without control characters, or `WITHHELD`."""
        shown = text[:_LONGEST_TEXT]
        if self.holds(shown):
            return WITHHELD
        shown = "".join(character if character.isprintable() else " " for character in shown)
        return shown if len(text) <= _LONGEST_TEXT else f"{shown}…"


def _list_runs(text: str, length: int) -> Iterator[str]:
    return (text[start : start + length] for start in range(len(text) - length + 1))


def _count_folded(text: str) -> int:
    return len(text) * (1 if text.isascii() else _LONGEST_EXPANSION)


def _fold(text: str) -> tuple[str, str]:
    """Return *text* without case, accents, white space and invisible characters, and only its letters and digits."""
    folded = unicodedata.normalize("NFKD", text).casefold()
    if folded.isascii():
        folded = "".join(character for character in folded if character > " " and character != "\x7f")
    else:
        folded = "".join(character for character in folded if unicodedata.category(character)[0] not in "ZCM")
    return folded, _LETTERS_AND_DIGITS.sub("", folded)


def _decode(text: str, shortest: int) -> Iterator[str]:
    """Return *text* with each kind of escape decoded once; all results but one are shorter."""
    if "%" in text:
        yield _read_bytes(unquote_to_bytes(text))
    if "+" in text:
        yield text.replace("+", " ")
    if "&" in text:
        yield html.unescape(text)
    yield _ESCAPE.sub(_undo_escape, text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    for encoding in () if text.isascii() else ("latin-1", "cp1252"):
        yield _read_bytes(text.encode(encoding, "replace"))
    for numbers in _NUMBERS.findall(text):
        codes = re.findall(r"[0-9]+", numbers)
        for base in (10, 8) if len(codes) >= shortest else ():
            yield _read_bytes(bytes(int(code, base) % 256 for code in codes if max(code) <= str(base - 1)))
    for bits, (alphabet, separators) in _ALPHABETS.items():
        yield from _decode_bits(separators.sub("", text), alphabet, bits, shortest)


def _undo_escape(match: re.Match[str]) -> str:
    *hexadecimal, octal, character = match.groups()
    if character is not None:
        return " " if character in "nrtbfv0" else str(character)
    code = int(octal, 8) if octal else int("".join(filter(None, hexadecimal)), 16)
    return chr(code) if code <= 0x10FFFF else ""


def _read_bytes(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _decode_bits(text: str, alphabet: str, bits: int, shortest: int) -> Iterator[str]:
    """Return the readable parts of each run of *alphabet*, decoded with *bits* per character at any alignment."""
    text = text.translate(_URL_SAFE) if bits == 6 else text.lower()
    for run in re.findall(f"[{alphabet}]{{{-(-8 * shortest // bits)},}}", text):
        stream = "".join(f"{alphabet.index(character):0{bits}b}" for character in run)
        for start in range(0, 8, gcd(bits, 8)):
            length = (len(stream) - start) // 8
            data = int(stream[start : start + 8 * length] or "0", 2).to_bytes(length)
            decoded = data.replace(b"\0", b"").decode("utf-8", "replace")
            # Long runs of readable characters rarely occur by chance.
            yield " ".join(re.findall(rf"[^\x00-\x1f\x7f\ufffd]{{{shortest},}}", decoded))
