"""Numbers from outside. Rule: a bool is no number, and what no float can hold is none either."""

from __future__ import annotations

import sys
from typing import TypeGuard

__all__ = ["is_number"]


def is_number(value: object) -> TypeGuard[float]:
    """Return whether *value* is an int or float that is finite as a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    # Compared, not converted: an int may be too large for a float, and NaN compares false with everything.
    return -sys.float_info.max <= value <= sys.float_info.max
