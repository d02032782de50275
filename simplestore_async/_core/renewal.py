"""One renewal. Rule: read the cache, take its lock, read again, request, store; report once the lock is released.

A renewal is one task in its event loop's single flight. It makes one attempt while no caller waits for it, and all
attempts of the endpoint's policy once one does.
"""

from __future__ import annotations

import asyncio
import copy
from traceback import extract_tb
from typing import TYPE_CHECKING

import attrs

from simplestore_async.errors import ConfigurationError, ProviderClosedError, TokenError, TokenTransportError
from simplestore_async.events import (
    Cause,
    Listener,
    OutageBegan,
    OutageEnded,
    RenewalFailed,
    RenewalOverdue,
    RenewalStarted,
    TokenReceived,
    emit,
)

from .clock import Clock
from .endpoint import TokenEndpoint
from .guarded_cache import GuardedCache
from .policy import HeldToken
from .single_flight import Flight
from .state import ProviderState, RenewalResult, StateStore

if TYPE_CHECKING:
    from simplestore_async.events import Event

__all__ = ["Renewal"]


@attrs.define(eq=False, kw_only=True)
class Renewal(Flight[RenewalResult]):
    """State of one renewal.

    Attributes:
        cause: why it runs.
        deadline: by when it must end, in the loop's time.
        seen: the held token when it started.
        waiting_since: when the first caller without a token began to wait, on the monotonic clock.
        awaited_state: the snapshot for which callers without a token wait.
        is_overdue: whether a brief wait for it timed out.
    """

    cause: Cause
    deadline: float
    seen: HeldToken | None
    store: StateStore
    clock: Clock
    endpoint: TokenEndpoint
    cache: GuardedCache
    on_event: Listener | None
    waiting_since: float | None
    began_at: float = attrs.field(init=False)
    awaited_state: ProviderState | None = attrs.field(init=False, default=None)
    is_overdue: bool = attrs.field(init=False, default=False)

    def __attrs_pre_init__(self) -> None:
        super().__init__(
            cancelled=TokenTransportError("token renewal was cancelled by the program", "the next call starts another")
        )

    async def run(self) -> RenewalResult:
        """Return the result for waiters, or remember a failure and raise it."""
        self.began_at = self.clock.monotonic()
        self._report(RenewalStarted(cause=self.cause))
        try:
            result = await self._obtain()
        except ProviderClosedError:
            raise
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            failure = _as_failure(error)  # raised by a component: this task was not cancelled
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - even a defect must end the callers' wait and cause a backoff
            if self.is_stranded:
                raise GeneratorExit from None  # the garbage collector closes this coroutine
            failure = _as_failure(error)
        else:
            self._report_success(result)
            return result
        return self._settle_failure(failure)

    def note_wait(self, state: ProviderState, now: float) -> None:
        """Record that callers without a token wait, by snapshot *state*."""
        self.awaited_state = state
        if self.waiting_since is None:
            self.waiting_since = now

    def report_overdue(self, *, waited_seconds: float, life_seconds: float) -> None:
        """Report once that a brief wait for this renewal timed out."""
        if not self.is_overdue:
            self.is_overdue = True
            self._report(RenewalOverdue(waited_seconds=waited_seconds, life_seconds=life_seconds))

    async def _obtain(self) -> RenewalResult:
        result = await self._look()
        if result is not None:
            return result
        async with self.cache.renewal_lock() as may_have_changed:
            result = await self._look() if may_have_changed else None
            while result is None:
                result = await self._request()
            # A token that may expire while it is being stored is only for the waiting callers.
            is_worth_storing = result.expires_at - self.clock.monotonic() > self.cache.cache_seconds
            if is_worth_storing and result.is_kept and result.source == "endpoint":
                await self.cache.set(result.token)
        return result

    async def _look(self) -> RenewalResult | None:
        """Return a token that another event loop, or another process through the cache, has obtained meanwhile."""
        stored = await self.cache.get()
        now = self.clock.monotonic()
        renewed = self.store.state.renewed_since(self.seen, now)
        if renewed is not None or stored is None:
            return renewed
        return self.store.step(lambda state: state.found(stored, now=now, wall_now=self.clock.time()))

    async def _request(self) -> RenewalResult | None:
        token, requested_at = await self.endpoint.fetch(deadline=self.deadline, may_retry=lambda: self.waiter_count > 0)
        return self.store.step(
            lambda state: state.received(
                token,
                requested_at=requested_at,
                now=self.clock.monotonic(),
                is_replacement=self.cause == "rejected",
            )
        )

    def _settle_failure(self, failure: TokenError | ConfigurationError) -> RenewalResult:
        """Return a newer result of another event loop, or remember *failure* and raise it."""
        renewed = self.store.state.renewed_since(self.seen, self.clock.monotonic())
        if renewed is not None:
            self._report_success(renewed)
            return renewed
        self._report_failure(failure)
        # A token that is already due on arrival is returned to the waiting callers.
        renewed = self.store.state.renewed_since(self.seen, self.clock.monotonic(), may_be_due=True)
        if renewed is None:
            raise failure
        return renewed

    def _report_success(self, result: RenewalResult) -> None:
        now = self.clock.monotonic()
        self._report(
            *self.cache.failures,
            TokenReceived(
                cause=self.cause,
                source=result.source,
                is_unchanged=result.is_unchanged,
                duration_seconds=now - self.began_at,
                life_seconds=result.expires_at - now,
                waiter_count=self.waiter_count,
                longest_wait_seconds=self._longest_wait(now),
            ),
        )
        if result.outage_began_at is not None:
            self._report(OutageEnded(duration_seconds=now - result.outage_began_at))

    def _report_failure(self, failure: TokenError | ConfigurationError) -> None:
        """Remember *failure*, and report it."""
        # A copy has no traceback, whose frames would keep the event loop alive.
        error, now = copy.copy(failure), self.clock.monotonic()
        before, after = self.store.step(lambda state: (after := state.failed(error, now), (state, after)))
        held = before.live_token(now)
        self._report(
            *self.cache.failures,
            RenewalFailed(
                cause=self.cause,
                error=error,
                is_token_alive=held is not None,
                duration_seconds=now - self.began_at,
                retry_in_seconds=after.not_before - now,
                waiter_count=self.waiter_count,
                longest_wait_seconds=self._longest_wait(now),
            ),
        )
        if before.outage_began_at is None:
            self._report(OutageBegan(error=error, life_seconds=held.expires_at - now if held else 0.0))

    def _longest_wait(self, now: float) -> float:
        return 0.0 if self.waiting_since is None else now - self.waiting_since

    def _report(self, *events: Event) -> None:
        for event in events:
            emit(event, self.on_event)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _as_failure(error: BaseException) -> TokenError | ConfigurationError:
    if isinstance(error, TokenError | ConfigurationError):
        return error
    # Not chained, because its values may be secret. The place is enough to find the defect.
    where = extract_tb(error.__traceback__)[-1]
    problem = f"unexpected {type(error).__name__} in {where.name}, line {where.lineno}"
    return TokenError(problem, "" if isinstance(error, asyncio.CancelledError) else "please report it", retryable=True)
