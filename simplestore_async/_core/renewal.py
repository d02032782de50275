"""One renewal. Rule: look in the cache, take its lock, look again, fetch, store; tell once the locks are released.

A renewal is one task, owned by its event loop's flight. The loop's `asyncio.Lock` guards the critical section, so that
renewals of different causes never overlap; callers do not queue on it.
"""

from __future__ import annotations

from collections.abc import Callable
from traceback import extract_tb
from typing import TYPE_CHECKING

import attrs

from simplestore_async.errors import ConfigurationError, ProviderClosedError, TokenError
from simplestore_async.events import (
    Cause,
    Listener,
    OutageBegan,
    OutageEnded,
    RenewalFailed,
    RenewalStarted,
    TokenReceived,
    emit,
)

from .endpoint import TokenEndpoint
from .guarded_cache import GuardedCache
from .holdings import Commit, Holdings
from .state import Lease, State

if TYPE_CHECKING:
    import asyncio

    from simplestore_async.events import Event

__all__ = ["Renewal"]


@attrs.define(eq=False, kw_only=True)
class Renewal:
    """One run: why, by when (loop time), what the provider held before, and who waits."""

    cause: Cause
    deadline: float
    seen: Lease | None
    holdings: Holdings
    endpoint: TokenEndpoint
    cache: GuardedCache
    count_waiters: Callable[[], int]
    waiting_since: Callable[[], float | None]
    on_event: Listener | None
    began_at: float = attrs.field(init=False)

    async def run(self, lock: asyncio.Lock) -> Commit:
        """Return what is now held, or what serves those who wait; remember a failure and raise it."""
        self.began_at = self.holdings.now()
        self._tell(RenewalStarted(cause=self.cause))
        try:
            async with lock:
                commit = await self._obtain()
        except ProviderClosedError:
            raise
        except Exception as error:  # noqa: BLE001 - even a defect must not leave callers waiting, or storm the endpoint
            failure = _as_failure(error)
        else:
            self._tell_success(commit)
            return commit
        renewed = self.holdings.renewed_since(self.seen)
        if renewed is not None:
            self._tell_success(renewed)
            return renewed
        self._remember_and_tell(failure)
        # A token that came so late that it is due already serves those who wait.
        renewed = self.holdings.renewed_since(self.seen, may_be_due=True)
        if renewed is None:
            raise failure
        return renewed

    async def _obtain(self) -> Commit:
        commit = await self._look()
        if commit is not None:
            return commit
        async with self.cache.renewal_lock() as has_waited:
            commit = await self._look() if has_waited else None
            while commit is None:
                # One attempt in the background; as many as the policy says once callers wait for it.
                token, requested_at = await self.endpoint.fetch(
                    deadline=self.deadline, may_retry=lambda: self.count_waiters() > 0
                )
                commit = self.holdings.take(token, requested_at, is_replacement=self.cause == "rejected")
            # A token that may expire while it is being stored serves those who wait, and nobody else.
            is_worth_storing = commit.expires_at - self.holdings.now() > self.cache.cache_seconds
            if is_worth_storing and commit.is_kept and commit.source == "endpoint":
                await self.cache.set(commit.token)
        return commit

    async def _look(self) -> Commit | None:
        """Return a token that another event loop put here, or another process into the cache, meanwhile."""
        stored = await self.cache.get()
        renewed = self.holdings.renewed_since(self.seen)
        return renewed if renewed or stored is None else self.holdings.adopt(stored)

    def _tell_success(self, commit: Commit) -> None:
        now = self.holdings.now()
        self._tell(
            *self.cache.failures,
            TokenReceived(
                cause=self.cause,
                source=commit.source,
                is_unchanged=commit.is_unchanged,
                duration_seconds=now - self.began_at,
                life_seconds=commit.expires_at - now,
                waiter_count=self.count_waiters(),
                longest_wait_seconds=self._longest_wait(now),
            ),
        )
        if commit.outage_began_at is not None:
            self._tell(OutageEnded(duration_seconds=now - commit.outage_began_at))

    def _remember_and_tell(self, failure: TokenError | ConfigurationError) -> None:
        before, after = self.holdings.fail(failure)
        now = self.holdings.now()
        is_alive = before.state(now) is not State.NONE
        self._tell(
            *self.cache.failures,
            RenewalFailed(
                cause=self.cause,
                error=after.error or failure,
                is_token_alive=is_alive,
                duration_seconds=now - self.began_at,
                retry_in_seconds=after.not_before - now,
                waiter_count=self.count_waiters(),
                longest_wait_seconds=self._longest_wait(now),
            ),
        )
        if before.outage_began_at is None:
            life = before.lease.expires_at - now if before.lease is not None and is_alive else 0.0
            self._tell(OutageBegan(error=after.error or failure, life_seconds=life))

    def _longest_wait(self, now: float) -> float:
        since = self.waiting_since()
        return 0.0 if since is None else now - since

    def _tell(self, *events: Event) -> None:
        for event in events:
            emit(event, self.on_event)


def _as_failure(error: Exception) -> TokenError | ConfigurationError:
    if isinstance(error, TokenError | ConfigurationError):
        return error
    # Not chained: its values are unknown. Where it happened is enough to find it.
    where = extract_tb(error.__traceback__)[-1]
    return TokenError(
        f"No token: unexpected {type(error).__name__} in {where.name}, line {where.lineno}; please report it",
        retryable=True,
    )
