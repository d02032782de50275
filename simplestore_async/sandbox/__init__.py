"""A local SimpleStore for demos and tests. Rule: it listens on loopback only, and leaves nothing after the `with`."""

from __future__ import annotations

from ._clock import MovableClock
from ._endpoint import SandboxApi, SandboxEndpoint
from ._faults import Drip, Fault, Garbage, Late, RejectedToken, Reset, Response, Status, Truncated
from ._recorded import RecordedRequest
from ._sandbox import Sandbox
from ._script import HeldResponses
from ._state import Counters

__all__ = [
    "Counters",
    "Drip",
    "Fault",
    "Garbage",
    "HeldResponses",
    "Late",
    "MovableClock",
    "RecordedRequest",
    "RejectedToken",
    "Reset",
    "Response",
    "Sandbox",
    "SandboxApi",
    "SandboxEndpoint",
    "Status",
    "Truncated",
]
