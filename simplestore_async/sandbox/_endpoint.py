"""What a test says to one endpoint of the sandbox. Rule: a script is checked when it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from simplestore_async.errors import ConfigurationError

from ._checks import check_seconds, check_whole
from ._faults import Fault, RejectedToken, Status
from ._script import RateLimit

if TYPE_CHECKING:
    from ._traffic import RecordedRequest, Traffic

__all__ = ["UNAVAILABLE", "SandboxEndpoint"]

UNAVAILABLE: Final = Status(503)


class SandboxEndpoint:
    """Script one of the sandbox's two endpoints, and read what it saw: `sandbox.token_endpoint` and `sandbox.api`.

    Scripted faults queue up: each starts when the one before it is over. A fault comes before anything else about the
    request is looked at, but for the rate limit, which comes first.
    """

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def __repr__(self) -> str:
        return f"<SandboxEndpoint {self._traffic.name!r}>"

    def fail_next(self, requests: int, fault: Fault = UNAVAILABLE) -> None:
        """Let the next requests meet a fault.

        Args:
            requests: how many, 1 or more.
            fault: which one; by default HTTP status 503.

        Raises:
            ConfigurationError: names the argument, what was wrong and what to set.
        """
        check_whole("requests", requests, advice="set how many requests meet the fault, 1 or more")
        self._traffic.script.add(self._check(fault), requests=requests)

    def fail_for(self, seconds: float, fault: Fault = UNAVAILABLE) -> None:
        """Let every request meet a fault for a while, which starts with the next one.

        Args:
            seconds: how long from that request on, by the sandbox's clock; above 0.
            fault: as for `fail_next()`.

        Raises:
            ConfigurationError: names the argument, what was wrong and what to set.
        """
        check_seconds("seconds", seconds, advice="set how long requests meet the fault, above 0")
        self._traffic.script.add(self._check(fault), seconds=seconds)

    def limit_rate(self, requests: int | None, *, seconds: float = 1.0) -> None:
        """Let through at most so many requests in any window of so many seconds, from now on.

        The others are answered 429, with the least number of whole seconds in Retry-After after which one would pass.
        They do not count against the limit.

        Args:
            requests: how many, 1 or more; None lifts the limit.
            seconds: the length of the window, by the sandbox's clock; above 0.

        Raises:
            ConfigurationError: names the argument, what was wrong and what to set.
        """
        if requests is not None:
            check_whole("requests", requests, advice="set how many requests pass, 1 or more, or None for no limit")
        check_seconds("seconds", seconds, advice="set the length of the window in seconds, above 0")
        self._traffic.limit = None if requests is None else RateLimit(requests=requests, seconds=seconds)

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """What this endpoint saw, oldest first: its newest 10 000 requests."""
        return self._traffic.recorded

    def clear_requests(self) -> None:
        """Forget the requests so far; numbers go on."""
        self._traffic.clear_recorded()

    def _check(self, fault: Fault) -> Fault:
        if not isinstance(fault, Fault):
            raise ConfigurationError(f"fault is {fault!r}: set a value such as Status(503) or Reset()")
        if isinstance(fault, RejectedToken) and self._traffic.name != "api":
            raise ConfigurationError("fault is RejectedToken(): only sandbox.api sees tokens, use reject_next()")
        return fault
