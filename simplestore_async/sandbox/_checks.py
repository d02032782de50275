"""The sandbox's arguments. Rule: a check passes in silence, or says what the value is and what to set instead."""

from __future__ import annotations

from math import inf

from simplestore_async._core.validation import is_number
from simplestore_async.errors import ConfigurationError

__all__ = ["check_seconds", "check_whole"]


def check_whole(name: str, value: object, *, advice: str, least: int = 1, most: float = inf) -> None:
    """Refuse what is no int from *least* to *most*; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigurationError(f"{name} is {value!r}: {advice}")


def check_seconds(name: str, value: object, *, advice: str, is_zero_allowed: bool = False) -> None:
    """Refuse what is no finite number above zero, or zero where that is allowed."""
    if not is_number(value) or value < 0 or (value == 0 and not is_zero_allowed):
        raise ConfigurationError(f"{name} is {value!r}: {advice}")
