"""The measures. Rule: a floor is the least work that any client needs for the same."""

from ._batch import measure_batch
from ._calls import measure_cached, measure_due
from ._cold import measure_busy, measure_cold
from ._growth import measure_growth, measure_pause, measure_providers
from ._requests import measure_httpx, measure_instructions, measure_requests
from ._starts import measure_file_cache, measure_import, measure_processes

__all__ = ["MEASURES"]

MEASURES = {
    "cached": measure_cached,
    "cold": measure_cold,
    "busy": measure_busy,
    "requests": measure_requests,
    "instructions": measure_instructions,
    "httpx": measure_httpx,
    "import": measure_import,
    "processes": measure_processes,
    "file-cache": measure_file_cache,
    "due": measure_due,
    "growth": measure_growth,
    "providers": measure_providers,
    "pause": measure_pause,
    "batch": measure_batch,
}
