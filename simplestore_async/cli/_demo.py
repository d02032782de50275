"""What `simplestore demo` does. Rule: no output, and every number in it was counted.

The faults follow what the package tells of itself, not a timetable: the outage is armed when the first token has come,
so that the first renewal meets it; the revocation waits until that renewal has succeeded.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import aiohttp
import attrs

from simplestore_async import RenewalPolicy, open_session
from simplestore_async.errors import SimpleStoreError, TokenEndpointError
from simplestore_async.events import Event, OutageEnded, RenewalFailed, TokenReceived, TokenRejected
from simplestore_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LIFETIME_SECONDS", "Caller", "Demo", "Plan"]

LIFETIME_SECONDS: Final = 20
_OUTAGE_SECONDS: Final = 1.0
_REVOCATION_AT: Final = 0.7

# From this duration on, a first renewal by the package's own policy leaves time for both faults.
_FULL_DURATION_SECONDS: Final = 30.0
# In a shorter run it is due between these parts of the duration.
_SHORT_RUN_DUE: Final = (0.2, 0.35)


@attrs.frozen(kw_only=True)
class Plan:
    """How many requests, how many at once, and over how many seconds."""

    requests: int
    concurrency: int
    duration_seconds: float

    def policy(self) -> RenewalPolicy | None:
        """Return the package's own policy (None), or one that renews earlier in a run that is too short for it."""
        if self.duration_seconds >= _FULL_DURATION_SECONDS:
            return None
        first, last = (part * self.duration_seconds / LIFETIME_SECONDS for part in _SHORT_RUN_DUE)
        return RenewalPolicy(first_due_fractions=(first, last))


@attrs.define
class Caller:
    """What the callers saw so far; a request that failed never got its 200."""

    succeeded: int = 0
    failed: int = 0
    slowest_seconds: float = 0.0
    first_problem: str = ""

    @property
    def done(self) -> int:
        """How many requests have ended, either way."""
        return self.succeeded + self.failed


class Demo:
    """Drive a sandbox through two faults with one session of the package.

    Attributes:
        sandbox: the server, whose counters are the server's view.
        caller: the callers' view.
        news: what happened, each with its second.
        has_revoked: whether the run got as far as the second fault.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.sandbox = Sandbox(lifetime_seconds=LIFETIME_SECONDS)
        self.caller = Caller()
        self.news: list[tuple[float, str]] = []
        self.has_revoked = False
        self._is_outage_over = False
        self._began_at = 0.0
        self._ended_at = 0.0

    @property
    def elapsed_seconds(self) -> float:
        """How long the requests have been going on; 0 before the first, and standing still after the last."""
        return (self._ended_at or self._now()) - self._began_at if self._began_at else 0.0

    async def run(self) -> None:
        """Send every request. One that fails is counted, and raises nothing."""
        connector = aiohttp.TCPConnector(limit=self.plan.concurrency)
        async with (
            self.sandbox,
            open_session(
                self.sandbox.credentials,
                base_url=self.sandbox.base_url,
                policy=self.plan.policy(),
                on_event=self._on_event,
                connector=connector,
            ) as session,
        ):
            self._began_at = self._now()
            numbers = iter(range(self.plan.requests))
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.plan.concurrency, self.plan.requests)):
                    group.create_task(self._work(session, numbers))
            self._ended_at = self._now()

    async def _work(self, session: aiohttp.ClientSession, numbers: Iterator[int]) -> None:
        pace = self.plan.duration_seconds / self.plan.requests
        for number in numbers:
            # Each request has its own moment, so that a stall is made up for.
            await asyncio.sleep(max(self._began_at + number * pace - self._now(), 0))
            if number >= self.plan.requests * _REVOCATION_AT and self._is_outage_over and not self.has_revoked:
                self._revoke()
            await self._request(session, number)

    async def _request(self, session: aiohttp.ClientSession, number: int) -> None:
        began_at = self._now()
        try:
            async with session.get(f"orders/{number}") as response:
                await response.read()
                problem = "" if response.status == 200 else f"the API answered {response.status}"
        except (SimpleStoreError, aiohttp.ClientError, TimeoutError) as error:
            problem = str(error) or type(error).__name__
        caller = self.caller
        caller.slowest_seconds = max(caller.slowest_seconds, self._now() - began_at)
        caller.first_problem = caller.first_problem or problem
        if problem:
            caller.failed += 1
        else:
            caller.succeeded += 1

    def _revoke(self) -> None:
        self.has_revoked = True
        self.sandbox.revoke_all()
        self.sandbox.fail_next(2, status=503)
        self._tell("all tokens revoked; the token endpoint will answer 503 twice")

    def _on_event(self, event: Event) -> None:
        match event:
            case TokenReceived(cause="first"):
                self._tell("first token received")
                self.sandbox.fail_for(_OUTAGE_SECONDS, status=503)
            case TokenReceived(cause="due"):
                self._tell(f"renewed in the background; {event.waiter_count} requests waited")
            case TokenReceived():
                self._tell(
                    f"new token after {event.duration_seconds:.1f} s; {event.waiter_count} requests waited for it"
                )
            case RenewalFailed(error=TokenEndpointError() as error, is_token_alive=True):
                self._tell(f"token endpoint answers {error.status}; the old token serves on")
            case RenewalFailed():
                self._tell(f"renewal failed: {event.error}")
            case TokenRejected():
                self._tell("the API rejects the token")
            case OutageEnded():
                self._is_outage_over = True
            case _:
                pass

    def _tell(self, text: str) -> None:
        self.news.append((self.elapsed_seconds, text))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
