"""Headers that a user names. Rule: what cannot be sent is refused, and no value is in a message."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["find_header_problem", "is_header_name"]

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2
_OURS: Final = {"authorization", "content-length", "transfer-encoding"}


def is_header_name(text: str) -> bool:
    """Return whether a header may be called so."""
    return _NAME.fullmatch(text) is not None


def find_header_problem(name: str, value: str) -> str:
    """Return what is wrong with a header of a possible name, or nothing."""
    if name.lower() in _OURS:
        return f"{name} is set by the command itself"
    if not value.isprintable():
        return f"the value of {name} holds a line break or another character that is not text"
    return ""
