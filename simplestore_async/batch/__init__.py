"""Many requests from a file, each with its result, through interruptions. Rule: re-exports only."""

from __future__ import annotations

from ._engine import run_batch
from ._file import RequestFile
from ._journal import Journal
from ._values import BatchPolicy, BatchRequest, BatchResult, BatchSummary, Outcome

__all__ = [
    "BatchPolicy",
    "BatchRequest",
    "BatchResult",
    "BatchSummary",
    "Journal",
    "Outcome",
    "RequestFile",
    "run_batch",
]
