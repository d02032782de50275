"""Many requests, each sent at most once unless that is safe, each with a result. Rule: re-exports only."""

from __future__ import annotations

from ._database import BatchDatabase, read_results
from ._engine import run_batch
from ._file import RequestFile
from ._values import BatchPolicy, BatchRequest, BatchResult, BatchSummary, Outcome

__all__ = [
    "BatchDatabase",
    "BatchPolicy",
    "BatchRequest",
    "BatchResult",
    "BatchSummary",
    "Outcome",
    "RequestFile",
    "read_results",
    "run_batch",
]
