"""How long something takes. Rule: compared with other work of the same moment, as any machine may be slow or busy."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["is_quick"]

_NUMBERS = json.dumps([number / 7 for number in range(5_000)])


def is_quick(action: Callable[[], object]) -> bool:
    """Return whether *action* takes less than 25 times as long as parsing 5 000 numbers, in one of three tries."""
    return any(_seconds(action) < 25 * _seconds(lambda: json.loads(_NUMBERS)) for _ in range(3))


def _seconds(action: Callable[[], object]) -> float:
    began_at = time.perf_counter()
    action()
    return time.perf_counter() - began_at
