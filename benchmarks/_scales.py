"""The scales of ratios and quantities. Rule: what is shown fits, and each mark is a round value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ._drawing import Scale
from ._wording import TIMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._results import Outcome

__all__ = ["linear_scale", "logarithmic_scale", "ratio_scale"]

WIDE = 10.0
"""From which ratio on a scale is logarithmic."""


def ratio_scale(outcomes: Iterable[Outcome]) -> Scale:
    """Return the scale on which the floor, the goals and all ratios with their quartiles have their place."""
    values = [1.0]
    for outcome in outcomes:
        values += [] if outcome.goal is None else [outcome.goal]
        for one in outcome.contenders:
            # The quartiles of very few rounds lie beyond them, even below zero.
            values += [value for value in (one.ratio, *(one.spread or ())) if value is not None and value > 0]
    low, high = min(values), max(values)
    if high < WIDE and low > 1 / WIDE:
        room = (high - low) * 0.05 or 0.05
        return linear_scale(low - room if low < 1 else 1.0, high + room, _write)
    return logarithmic_scale(low / 1.1 if low < 1 else 1.0, high * 1.1, _write)


def _write(ratio: float) -> str:
    return f"{ratio:g}{TIMES}"


def linear_scale(low: float, high: float, write: Callable[[float], str]) -> Scale:
    """Return a scale with at most eight marks or so."""
    magnitude = 10.0 ** math.floor(math.log10((high - low) / 8))
    step = next(step * magnitude for step in (1, 2, 5, 10) if step * magnitude * 8 >= high - low)
    values = [round(number * step, 9) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return Scale(low, high, {value: write(value) for value in values})


def logarithmic_scale(low: float, high: float, write: Callable[[float], str]) -> Scale:
    """Return a scale with marks at 1, 2 and 5 in each power of ten, or at the powers alone if these are many."""
    steps = (1, 2, 5) if high / low < 1000 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [step * 10.0**power for power in powers for step in steps]
    return Scale(low, high, {value: write(value) for value in values if low <= value <= high}, is_logarithmic=True)
