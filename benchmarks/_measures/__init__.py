"""What is measured. Rule: a floor is the least that any client would have to do, written down as plainly as can be."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import attrs

from benchmarks._measure import Result

from ._batch import measure_batch
from ._cached import measure_alternating, measure_cached
from ._callers import measure_busy, measure_cancel, measure_cold, measure_growth, measure_memory
from ._due import measure_due
from ._files import measure_file_cache
from ._processes import measure_import, measure_processes
from ._requests import measure_instructions, measure_requests
from ._scale import Scale

__all__ = ["MEASURES", "Measure", "Scale"]


@attrs.frozen
class Measure:
    """What is run for one name, and whether on uvloop's event loop."""

    run: Callable[[Scale], Coroutine[Any, Any, list[Result]]]
    is_on_uvloop: bool = False


MEASURES = {
    "cached": Measure(measure_cached),
    "cached-uvloop": Measure(measure_cached, is_on_uvloop=True),
    "alternating": Measure(measure_alternating),
    "cold": Measure(measure_cold),
    "busy": Measure(measure_busy),
    "cancel": Measure(measure_cancel),
    "memory": Measure(measure_memory),
    "requests": Measure(measure_requests),
    "instructions": Measure(measure_instructions),
    "import": Measure(measure_import),
    "processes": Measure(measure_processes),
    "file-cache": Measure(measure_file_cache),
    "due": Measure(measure_due),
    "growth": Measure(measure_growth),
    "batch": Measure(measure_batch),
}
