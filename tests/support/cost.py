"""How long something takes. Rule: CPU time, compared with other work of this machine, which may be slow or busy."""

from __future__ import annotations

import json
import time
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["is_quick"]

_NUMBERS = json.dumps([number / 7 for number in range(5_000)])


def is_quick(action: Callable[[], object]) -> bool:
    """Return whether *action* takes less time than parsing 250 000 numbers, in one of three tries."""
    return any(_seconds(action) < _longest_seconds() for _ in range(3))


@cache
def _longest_seconds() -> float:
    # So long that the clock of Windows, which advances in steps of 16 ms, measures it.
    return _seconds(lambda: [json.loads(_NUMBERS) for _ in range(50)])


def _seconds(action: Callable[[], object]) -> float:
    began_at = time.thread_time()
    action()
    return time.thread_time() - began_at
