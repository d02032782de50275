"""A local SimpleStore for demos and tests. Rule: nothing leaves this machine, and nothing outlives the `async with`."""

from __future__ import annotations

from ._ledger import Counters
from ._server import Sandbox

__all__ = ["Counters", "Sandbox"]
