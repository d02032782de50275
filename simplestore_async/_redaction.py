"""Redaction. Rule: what is secret shows as `***` wherever Python shows values, and cannot be pickled.

A `RedactedStr` still *is* the value: it must travel through aiohttp, urllib and json as it is. Only its `repr` differs,
because `repr` is what loggers, tracebacks with locals, debuggers and `request_info` use.
"""

from __future__ import annotations

import base64
import html
import json
from typing import TYPE_CHECKING, Final, NoReturn, Self, TypeVar
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MASK", "RedactedStr", "conceal", "scrub", "spellings"]

T = TypeVar("T")

MASK: Final = "***"


class RedactedStr(str):
    """A string whose `repr` hides it. Operations on it (`+`, f-strings, slices) give plain strings: build it whole."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{MASK}'"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret or token cannot be pickled: let each process read or request its own")


def conceal(value: T) -> T | RedactedStr:
    """Return a string redacted, anything else as it is.

    Constructors that take a secret call it first, so that a later error's traceback finds no clear text in their
    frames.
    """
    return RedactedStr(value) if isinstance(value, str) else value


def spellings(secret: str) -> frozenset[str]:
    """Return the forms in which a server may echo *secret*: plain, percent- and form-encoded, JSON, HTML, base64."""
    percent_encoded = quote(secret, safe="")
    return frozenset(
        {
            secret,
            percent_encoded,
            percent_encoded.lower(),
            quote(secret),
            quote_plus(secret),
            json.dumps(secret)[1:-1],
            json.dumps(secret, ensure_ascii=False)[1:-1],
            html.escape(secret),
            html.escape(secret, quote=False),
            base64.b64encode(secret.encode()).decode(),
        }
    )


def scrub(text: str, hidden: Iterable[str]) -> str:
    """Return *text* with every string of *hidden* replaced by `***`, longest first."""
    for value in sorted(hidden, key=len, reverse=True):
        text = text.replace(value, MASK)
    return text
