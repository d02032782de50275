"""The provider. Rule: is the token fresh? Then here it is; else renew once, for everybody.

Who may write what: `_memory` is one immutable snapshot, replaced under `_guard` (a `threading.Lock`, because several
event loops may share a provider) and read without it. A renewal is one task per event loop, owned by that loop's
`SingleFlight`; the loop's `asyncio.Lock` guards its critical section. Callers queue on neither lock: they wait for the
flight's outcome.
"""

from __future__ import annotations

import asyncio
import copy
import random
import threading
from contextlib import suppress
from traceback import extract_tb
from typing import TYPE_CHECKING, Final, Literal, Self
from weakref import WeakKeyDictionary

import attrs

from ._credentials import ClientCredentials
from ._endpoint import TokenEndpoint
from ._renewal import Action, Lease, Memory, State
from ._single_flight import SingleFlight
from ._token import AccessToken
from ._wire import LONGEST_LIFETIME_SECONDS
from .caches import MemoryTokenCache, TokenCache
from .caches._guarded import GuardedCache
from .errors import (
    ConfigurationError,
    ProviderClosedError,
    SimpleStoreError,
    TokenError,
    TokenTransportError,
)
from .events import (
    Cause,
    OutageBegan,
    OutageEnded,
    RenewalFailed,
    RenewalOverdue,
    RenewalStarted,
    TokenReceived,
    TokenRejected,
    emit,
)

if TYPE_CHECKING:
    from ._clock import Clock
    from ._endpoint import Receipt
    from ._renewal import RenewalPolicy
    from .events import Event, Listener

__all__ = ["TokenProvider"]

# A stored token from further in the future was written by a clock that cannot be trusted.
_LARGEST_CLOCK_SKEW: Final = 60.0


@attrs.define(eq=False)
class _Loop:
    """What a provider keeps for one event loop; it does not refer to the loop while no renewal runs."""

    flight: SingleFlight[AccessToken]
    lock: asyncio.Lock
    is_overdue_told: bool = False


@attrs.define(eq=False)
class _Renewal:
    """One run of the critical section: why it runs, until when, what the provider held before, and how it went."""

    cause: Cause
    began_at: float
    deadline: float
    seen: Lease | None
    cache: GuardedCache
    source: Literal["cache", "endpoint", "memory"] = "memory"
    is_unchanged: bool = False
    is_to_be_stored: bool = False
    outage_began_at: float | None = None


class TokenProvider:
    """Give every task the same access token, and renew it before it expires.

    A fresh token is returned without I/O, lock or task switch. Otherwise one renewal runs per event loop, however many
    callers there are; a caller's cancellation or deadline ends its own wait and nothing else. Nothing runs between
    calls: only a call starts a renewal. Safe to share among tasks, event loops and threads.

    Args:
        credentials: who asks for tokens; by default `ClientCredentials.from_env()`.
        cache: where tokens are kept beyond this provider; by default in memory.
        policy: the numbers of the state machine.
        endpoint: a `TokenEndpoint` of your own, for a proxy, a private CA or a connector. It has its own credentials,
            policy and clock, so it excludes these three arguments.
        on_event: called with each of `simplestore_async.events`, synchronously, on the renewing loop's thread.
        clock: the clock that decides about a token's life; for tests.

    Raises:
        ConfigurationError: if an argument is wrong, or the environment names no credentials.
    """

    def __init__(  # noqa: PLR0913 - one argument for each part that can be replaced
        self,
        credentials: ClientCredentials | None = None,
        *,
        cache: TokenCache | None = None,
        policy: RenewalPolicy | None = None,
        endpoint: TokenEndpoint | None = None,
        on_event: Listener | None = None,
        clock: Clock | None = None,
    ) -> None:
        if endpoint is None:
            endpoint = TokenEndpoint(credentials or ClientCredentials.from_env(), policy=policy, clock=clock)
        elif credentials is not None or policy is not None or clock is not None:
            raise ConfigurationError(
                "endpoint has its own credentials, policy and clock: give them to TokenEndpoint only"
            )
        if cache is not None and not isinstance(cache, TokenCache):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"cache must have the coroutines get and set, which {type(cache).__name__} has not"
            )
        if on_event is not None and not callable(on_event):
            raise ConfigurationError(f"on_event must be callable, which {type(on_event).__name__} is not")
        self._endpoint = endpoint
        self._policy = endpoint.policy
        self._clock = endpoint.clock
        self._now = endpoint.clock.monotonic
        self._cache = MemoryTokenCache(clock=endpoint.clock) if cache is None else cache
        self._key = endpoint.credentials.cache_key
        self._on_event = on_event
        self._memory = Memory()
        self._is_closed = False
        self._guard = threading.Lock()
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = WeakKeyDictionary()

    async def get_token(self) -> AccessToken:
        """Return a token that lives, renewing it first if there is none.

        A token that is due for renewal is returned at once, while one renewal runs in the background. In the last
        seconds of its life callers wait briefly for the renewal, and get the old token if it does not come.

        Raises:
            TokenError: no token can be had; each caller gets an instance of its own.
            ConfigurationError: a borrowed connector is closed or belongs to another loop, or a proxy setting is wrong.
            ProviderClosedError: the provider was closed, before or meanwhile.
        """
        lease = self._memory.lease
        if lease is not None and self._now() < lease.due_at:
            return lease.token
        return await self._get_token_not_fresh()

    def invalidate(self, token: AccessToken) -> bool:
        """Note that the API rejected *token* (RFC 6750 §3.1); return whether `get_token()` may now give another one.

        Does no I/O. False means: use the rejection as the answer. That is so while the endpoint is left alone after a
        failure, for a replacement that is rejected in turn while it is young, and once the provider is closed.
        """
        now = self._now()
        with self._guard:
            if self._is_closed:
                return False
            held = self._memory.lease
            self._memory, is_replaced = self._memory.after_rejection(token, now, self._policy)
        if held is not None and held.token.value == token.value:
            emit(TokenRejected(age_seconds=now - held.requested_at, is_replaced=is_replaced), self._on_event)
        return is_replaced

    async def aclose(self) -> None:
        """Cancel a running renewal and wait for its end; its waiters, and all later callers, get ProviderClosedError.

        Renewals on other event loops are asked to end. Calling it again does nothing.
        """
        with self._guard:
            self._is_closed = True
            self._memory = Memory()
            loops = dict(self._loops)
        own = loops.pop(asyncio.get_running_loop(), None)
        for loop, state in loops.items():
            with suppress(RuntimeError):  # that loop is closed, and its tasks with it
                loop.call_soon_threadsafe(state.flight.cancel, ProviderClosedError())
        task = own.flight.cancel(ProviderClosedError()) if own else None
        if task is not None:
            await asyncio.wait([task])

    async def __aenter__(self) -> Self:
        if self._is_closed:
            raise ProviderClosedError
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _get_token_not_fresh(self) -> AccessToken:
        while True:
            state = self._state_of_running_loop()
            memory, now = self._memory, self._now()
            lease = memory.lease
            action = memory.action(now, is_renewing=state.flight.is_running)
            if action is Action.RAISE and memory.error is not None:
                raise copy.copy(memory.error)
            if action is not Action.SERVE:
                self._start_renewal(state, memory, now)
            if lease is None or action is Action.WAIT:
                return await state.flight.wait()
            if action is not Action.WAIT_BRIEFLY:
                return lease.token
            token = await self._wait_briefly(state, lease, now)
            # The wait may have outlasted the old token (a suspended machine), or seen it rejected.
            if token is not None:
                return token

    async def _wait_briefly(self, state: _Loop, lease: Lease, now: float) -> AccessToken | None:
        seconds = self._policy.hard_wait(lease, now)
        try:
            async with asyncio.timeout(seconds):
                return await state.flight.wait()
        except ProviderClosedError:
            raise
        except SimpleStoreError:
            pass  # the renewal has told its event
        except TimeoutError:
            if not state.is_overdue_told:
                state.is_overdue_told = True
                emit(
                    RenewalOverdue(waited_seconds=seconds, life_seconds=lease.expires_at - self._now()), self._on_event
                )
        return lease.token if self._memory.lease is lease and self._now() < lease.expires_at else None

    def _state_of_running_loop(self) -> _Loop:
        loop = asyncio.get_running_loop()
        with self._guard:
            if self._is_closed:
                raise ProviderClosedError
            state = self._loops.get(loop)
            if state is None:
                cancelled = TokenTransportError("No token: the program cancelled its renewal; the next call asks again")
                state = self._loops[loop] = _Loop(SingleFlight(cancelled=cancelled), asyncio.Lock())
            return state

    def _start_renewal(self, state: _Loop, memory: Memory, now: float) -> None:
        if state.flight.is_running:
            return
        if memory.is_replacing:
            cause: Cause = "rejected"
        elif memory.lease is None:
            cause = "first"
        else:
            cause = "due" if now < memory.lease.expires_at else "expired"
        deadline = asyncio.get_running_loop().time() + self._policy.budget_seconds
        renewal = _Renewal(
            cause=cause,
            began_at=now,
            deadline=deadline,
            seen=memory.lease,
            cache=GuardedCache(self._cache, self._key, deadline, self._policy.cache_seconds, self._policy.lock_seconds),
        )
        state.is_overdue_told = False
        state.flight.start(lambda: self._renew(state, renewal))

    async def _renew(self, state: _Loop, renewal: _Renewal) -> AccessToken:
        emit(RenewalStarted(cause=renewal.cause), self._on_event)
        try:
            async with state.lock:
                token = await self._obtain(state, renewal)
        except ProviderClosedError:
            raise
        except Exception as error:  # noqa: BLE001 - even a defect must not leave callers waiting, or storm the endpoint
            failure = _as_failure(error)
        else:
            self._tell_success(state, renewal, token)
            return token
        renewed = self._renewed_elsewhere(renewal)
        if renewed is None:
            self._remember_failure(state, renewal, failure)
            raise failure
        return renewed

    async def _obtain(self, state: _Loop, renewal: _Renewal) -> AccessToken:
        """Look in the cache, take its renewal lock, look again, fetch, store: the critical section."""
        cache = renewal.cache
        token = await self._look(renewal)
        if token is not None:
            return token
        async with cache.renewal_lock() as has_waited:
            token = await self._look(renewal) if has_waited else None
            while token is None:
                # One attempt in the background; as many as the policy says once callers wait for it.
                receipt = await self._endpoint.fetch(
                    deadline=renewal.deadline, may_retry=lambda: state.flight.waiter_count > 0
                )
                renewal.source = "endpoint"
                token = self._commit_fetched(receipt, renewal)
            if renewal.is_to_be_stored:
                await cache.set(token)
        return token

    async def _look(self, renewal: _Renewal) -> AccessToken | None:
        """Return a token that another event loop put here, or another process into the cache, meanwhile."""
        stored = await renewal.cache.get()
        now, wall_now = self._now(), self._clock.time()
        renewed = self._renewed_elsewhere(renewal)
        if renewed is not None or stored is None or not _is_plausible(stored, wall_now):
            return renewed
        with self._guard:
            memory = self._memory
            # From the wall clock to the deciding one. A writer whose clock is ahead of ours must not lengthen the life.
            age = max(wall_now - stored.issued_at, 0.0)
            lease = self._build_lease(stored, now - age)
            if not memory.wants_cached(lease, now):
                return None
            renewal.source = "cache"
            renewal.outage_began_at = memory.outage_began_at
            self._replace_memory(memory.after_token(lease, now, self._policy))
            return stored

    def _renewed_elsewhere(self, renewal: _Renewal) -> AccessToken | None:
        """Return the fresh token that another event loop has put here since *renewal* began, if one did."""
        memory = self._memory
        is_new = memory.lease is not renewal.seen and memory.state(self._now()) is State.FRESH
        return memory.lease.token if memory.lease is not None and is_new else None

    def _commit_fetched(self, receipt: Receipt, renewal: _Renewal) -> AccessToken | None:
        """Hold a token that just came, if it is still the newest; return the token to serve, or None to fetch again."""
        now = self._now()
        with self._guard:
            memory = self._memory
            lease = self._build_lease(receipt.token, receipt.requested_at)
            if now >= lease.hard_at:
                return receipt.token  # so short-lived or so late that it serves those who wait, and is not kept
            if memory.accepts(lease):
                renewal.is_unchanged = memory.is_unchanged(lease, now)
                renewal.is_to_be_stored = True
                renewal.outage_began_at = memory.outage_began_at
                self._replace_memory(memory.after_token(lease, now, self._policy))
                return receipt.token
            is_alive = memory.state(now) is not State.NONE
            return memory.lease.token if memory.lease is not None and is_alive else None

    def _build_lease(self, token: AccessToken, requested_at: float) -> Lease:
        return self._policy.lease(
            token,
            requested_at=requested_at,
            is_first=not self._memory.has_renewed,
            is_replacement=self._memory.is_replacing,
            random=random.random,
        )

    def _replace_memory(self, memory: Memory) -> None:
        """Replace the snapshot; `_guard` must be held."""
        if self._is_closed:
            raise ProviderClosedError
        self._memory = memory

    def _tell_success(self, state: _Loop, renewal: _Renewal, token: AccessToken) -> None:
        now = self._now()
        self._tell(
            *renewal.cache.failures,
            TokenReceived(
                cause=renewal.cause,
                source=renewal.source,
                is_unchanged=renewal.is_unchanged,
                duration_seconds=now - renewal.began_at,
                life_seconds=token.expires_at - self._clock.time(),
                waiter_count=state.flight.waiter_count,
            ),
        )
        if renewal.outage_began_at is not None:
            self._tell(OutageEnded(duration_seconds=now - renewal.outage_began_at))

    def _remember_failure(self, state: _Loop, renewal: _Renewal, failure: TokenError | ConfigurationError) -> None:
        now = self._now()
        with self._guard:
            before = self._memory
            after = before.after_failure(failure, now, self._policy)
            self._replace_memory(after)
        is_alive = before.state(now) is not State.NONE
        self._tell(
            *renewal.cache.failures,
            RenewalFailed(
                cause=renewal.cause,
                error=failure,
                is_token_alive=is_alive,
                duration_seconds=now - renewal.began_at,
                retry_in_seconds=after.not_before - now,
                waiter_count=state.flight.waiter_count,
            ),
        )
        if before.outage_began_at is None:
            life = before.lease.expires_at - now if before.lease is not None and is_alive else 0.0
            self._tell(OutageBegan(error=failure, life_seconds=life))

    def _tell(self, *events: Event) -> None:
        for event in events:
            emit(event, self._on_event)


def _as_failure(error: Exception) -> TokenError | ConfigurationError:
    if isinstance(error, TokenError | ConfigurationError):
        return error
    # Not chained: its values are unknown. Where it happened is enough to find it.
    where = extract_tb(error.__traceback__)[-1]
    return TokenError(
        f"No token: unexpected {type(error).__name__} in {where.name}, line {where.lineno}; please report it",
        retryable=True,
    )


def _is_plausible(stored: AccessToken, now: float) -> bool:
    return (
        stored.issued_at <= now + _LARGEST_CLOCK_SKEW
        and stored.expires_at - stored.issued_at <= LONGEST_LIFETIME_SECONDS
    )
