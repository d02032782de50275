"""Challenges in WWW-Authenticate (RFC 9110 §11.6.1). Rule: parsing takes bounded time for any header."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["bearer_errors", "is_token_rejected"]

# Limit for all header lines together, more than ten times what servers send.
_MAX_CHARS: Final = 16_384
# Possessive, without backtracking: a failed match costs no more than a successful one.
_SEPARATOR: Final = re.compile(r"[\s,;]*+")
_WORD: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED: Final = r'"(?:[^"\\]|\\.)*+"'
_PARAMETER: Final = re.compile(
    rf"(?P<name>{_WORD})[ \t]*+=[ \t]*+(?:(?P<quoted>{_QUOTED})|(?P<plain>{_WORD}(?=[\s,;]|\Z)))", re.DOTALL
)
_SCHEME: Final = re.compile(rf"(?P<scheme>{_WORD})(?![ \t]*+=)")
_UNREADABLE: Final = re.compile(rf'(?:[^\s,;"]|{_QUOTED})*+', re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)


def is_token_rejected(status: int, challenges: Iterable[str]) -> bool:
    """Return whether a response rejects the token (RFC 6750 §3.1).

    Args:
        status: the HTTP status.
        challenges: the values of all WWW-Authenticate lines.
    """
    if not 400 <= status < 500:
        return False
    errors = bearer_errors(challenges)
    # A token with insufficient scope is valid, and another one would have the same scope.
    return "invalid_token" in errors or (status == 401 and errors != {"insufficient_scope"})


def bearer_errors(challenges: Iterable[str]) -> set[str]:
    """Return the `error` parameters of the challenges whose scheme is Bearer, in lower case."""
    errors: set[str] = set()
    left = _MAX_CHARS
    for challenge in challenges:
        _read(challenge[:left], errors)
        left -= len(challenge)
        if left <= 0:
            break
    return errors


def _read(text: str, errors: set[str]) -> None:
    scheme = ""
    position, end = 0, len(text)
    while position < end:
        start, position = position, _end_of(_SEPARATOR, text, position)
        # Only a comma ends a challenge: other words belong to descriptions without quotes.
        begins = start == 0 or "," in text[start:position]
        if parameter := _PARAMETER.match(text, position):
            if scheme == "bearer" and parameter["name"].lower() == "error":
                value = parameter["plain"] or _ESCAPE.sub(r"\1", parameter["quoted"][1:-1])
                errors.add(value.lower())
            position = parameter.end()
        elif begins and (word := _SCHEME.match(text, position)):
            scheme = word["scheme"].lower()
            position = word.end()
        else:
            unreadable, position = position, _end_of(_UNREADABLE, text, position)
            if position == unreadable:
                return  # an unterminated quoted string: the rest is inside it


def _end_of(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return position if match is None else match.end()
