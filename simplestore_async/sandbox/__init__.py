"""A local SimpleStore for demos and tests. Rule: nothing leaves this machine, and nothing outlives the `with`."""

from __future__ import annotations

from ._clock import MovableClock
from ._endpoint import SandboxEndpoint
from ._faults import Drip, Fault, Garbage, Late, RejectedToken, Reset, Status, Truncated
from ._ledger import Counters
from ._sandbox import Sandbox
from ._traffic import RecordedRequest

__all__ = [
    "Counters",
    "Drip",
    "Fault",
    "Garbage",
    "Late",
    "MovableClock",
    "RecordedRequest",
    "RejectedToken",
    "Reset",
    "Sandbox",
    "SandboxEndpoint",
    "Status",
    "Truncated",
]
