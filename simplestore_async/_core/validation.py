"""Checks of values from outside. Rule: an error names the argument and its type, never the value."""

from __future__ import annotations

import sys
from typing import TypeGuard

from simplestore_async.errors import ConfigurationError

__all__ = ["check_type", "is_number"]


def check_type(field: str, value: object, kind: type) -> None:
    """Check that *value* is None or a *kind*.

    Raises:
        ConfigurationError: names the argument and its type.
    """
    if value is not None and not isinstance(value, kind):
        raise ConfigurationError(f"{field} must be a {kind.__name__}, which {type(value).__name__} is not")


def is_number(value: object) -> TypeGuard[float]:
    """Return whether *value* is an int or float that is finite as a float; a bool is not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    # Compared, not converted: an int may be too large for a float, and NaN compares false with everything.
    return -sys.float_info.max <= value <= sys.float_info.max
