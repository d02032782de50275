"""The provider. Rule: is the token fresh? Then here it is; else renew once, for everybody.

There is one renewal per event loop, owned by that loop's `SingleFlight`. Callers queue on no lock: each waits for the
one outcome, and whatever becomes of a caller, the renewal goes on.
"""

from __future__ import annotations

import asyncio
import copy
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, Self
from weakref import ref

from simplestore_async.errors import ConfigurationError, ProviderClosedError, SimpleStoreError, TokenTransportError

from .cache import MemoryTokenCache, TokenCache
from .credentials import ClientCredentials
from .endpoint import TokenEndpoint
from .holdings import Commit, Holdings
from .single_flight import Outcome, SingleFlight
from .state import Action
from .token import AccessToken

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from simplestore_async.events import Cause, Listener

    from .clock import Clock
    from .state import Lease, Memory, RenewalPolicy

__all__ = ["TokenProvider"]


class _Loop:
    """What a provider keeps for one event loop; it does not refer to the loop while no renewal runs."""

    is_overdue_told: bool  # set whenever a renewal starts
    waiting_since: float | None  # likewise; when the first caller came that has no token without the running renewal

    def __init__(self, flight: SingleFlight[Commit]) -> None:
        self.flight = flight
        self.lock = asyncio.Lock()
        self.awaited: Memory | None = None  # the snapshot by which callers wait for the running renewal


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
            if credentials is None:
                credentials = ClientCredentials.from_env()
            endpoint = TokenEndpoint(credentials, policy=policy, clock=clock)
        elif not isinstance(endpoint, TokenEndpoint):
            raise ConfigurationError(f"endpoint must be a TokenEndpoint, which {type(endpoint).__name__} is not")
        elif credentials is not None or policy is not None or clock is not None:
            raise ConfigurationError(
                "endpoint has its own credentials, policy and clock: give them to TokenEndpoint only"
            )
        if cache is not None and not isinstance(cache, TokenCache):
            raise ConfigurationError(
                f"cache must have the coroutines get and set, which {type(cache).__name__} has not"
            )
        if on_event is not None and not callable(on_event):
            raise ConfigurationError(f"on_event must be callable, which {type(on_event).__name__} is not")
        self._endpoint = endpoint
        self._policy = endpoint.policy
        self._now = endpoint.clock.monotonic
        self._holdings = Holdings(endpoint.policy, endpoint.clock)
        self._cache = MemoryTokenCache(clock=endpoint.clock) if cache is None else cache
        self._key = endpoint.credentials.cache_key
        self._on_event = on_event
        self._loops_lock = threading.Lock()
        # Not a WeakKeyDictionary, whose methods are Python: thousands of callers look here at once.
        self._loops: dict[ref[asyncio.AbstractEventLoop], _Loop] = {}

    async def get_token(self) -> AccessToken:
        """Return a token that lives, renewing it first if there is none.

        A token that is due for renewal is returned at once, while one renewal runs in the background. In the last
        seconds of its life callers wait briefly for the renewal, and get the old token if it does not come.

        Raises:
            TokenError: no token can be had; each caller gets an instance of its own.
            ConfigurationError: a borrowed connector is closed or belongs to another loop, or a proxy setting is wrong.
            ProviderClosedError: the provider was closed, before or meanwhile.
        """
        lease = self._holdings.memory.lease
        if lease is not None and self._now() < lease.due_at:
            return lease.token
        while True:
            step = self._next_step()
            if isinstance(step, AccessToken):
                return step
            # Thousands may wait here, each in this one coroutine, with as little in its frame as can be.
            token = self._open(await step)
            if token is not None:
                return token

    def invalidate(self, token: AccessToken) -> bool:
        """Note that the API rejected *token* (RFC 6750 3.1); return whether `get_token()` may now give another one.

        Does no I/O. False means: use the rejection as the answer. That is so while the endpoint is left alone after a
        failure, for a replacement that is rejected in turn while it is young, and once the provider is closed.
        """
        rejected, is_replaced = self._holdings.reject(token)
        if rejected is not None:
            from simplestore_async.events import TokenRejected, emit

            age = self._now() - rejected.requested_at
            emit(TokenRejected(age_seconds=age, is_replaced=is_replaced), self._on_event)
        return is_replaced

    def accept(self, token: AccessToken) -> None:
        """Note that the API accepted *token*: if it is a replacement, its next rejection renews at once.

        Does no I/O. Needed only for tokens with `is_replacement`, and only once for each.
        """
        held = self._holdings.memory.lease
        if held is not None and held.is_replacement:
            self._holdings.accept(token)

    async def aclose(self) -> None:
        """Cancel a running renewal and wait for its end; its waiters, and all later callers, get ProviderClosedError.

        Renewals on other event loops are asked to end. Calling it again does nothing.
        """
        with self._loops_lock:
            self._holdings.close()
            # A list of them first: a loop that ends meanwhile leaves the dictionary.
            loops = {loop: state for get_loop, state in [*self._loops.items()] if (loop := get_loop()) is not None}
        own = loops.pop(asyncio.get_running_loop(), None)
        for loop, state in loops.items():
            with suppress(RuntimeError):  # that loop is closed, and its tasks with it
                loop.call_soon_threadsafe(state.flight.cancel, ProviderClosedError())
        task = own.flight.cancel(ProviderClosedError()) if own else None
        if task is not None:
            await asyncio.wait([task])

    async def __aenter__(self) -> Self:
        if self._holdings.is_closed:
            raise ProviderClosedError
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a TokenProvider cannot be pickled: make one in each process, and let them share a FileTokenCache"
        )

    def _next_step(self) -> AccessToken | asyncio.Future[Outcome[Commit]] | Coroutine[Any, Any, AccessToken | None]:
        """Return the token for a caller that found no fresh one, or what it waits for; start the renewal it needs."""
        state, memory = self._state_of_running_loop(), self._holdings.memory
        if state.flight.is_running and state.awaited is memory:
            return state.flight.join()  # as the callers before: with the same snapshot no token comes to life
        now = self._now()
        action = memory.action(now, is_renewing=state.flight.is_running)
        if action is Action.RAISE and memory.error is not None:
            raise copy.copy(memory.error)
        if action is not Action.SERVE and not state.flight.is_running:
            self._start_renewal(state, memory, now)
        if memory.lease is None or action is Action.WAIT:
            state.awaited = memory
            if state.waiting_since is None:
                state.waiting_since = now
            return state.flight.join()
        return self._wait_briefly(state, memory.lease, now) if action is Action.WAIT_BRIEFLY else memory.lease.token

    def _open(self, waited: Outcome[Commit] | AccessToken | None) -> AccessToken | None:
        """Return the token that a caller waited for, if it can still be used."""
        if not isinstance(waited, Outcome):
            return waited
        commit = waited.result()
        return commit.token if self._holdings.can_serve(commit) else None

    async def _wait_briefly(self, state: _Loop, lease: Lease, now: float) -> AccessToken | None:
        """Return the new token if it comes soon, else the old one; None if it expired or was rejected meanwhile."""
        seconds = self._policy.hard_wait(lease, now)
        try:
            async with asyncio.timeout(seconds):
                commit = await state.flight.wait()
            return commit.token if self._holdings.can_serve(commit) else None
        except ProviderClosedError:
            raise
        except SimpleStoreError:
            is_overdue = False  # it failed, and has told so
        except TimeoutError:
            is_overdue = True
        life_seconds = lease.expires_at - self._now()
        if self._holdings.memory.lease is not lease or life_seconds <= 0:
            return None
        if is_overdue and not state.is_overdue_told:
            from simplestore_async.events import RenewalOverdue, emit

            state.is_overdue_told = True
            emit(RenewalOverdue(waited_seconds=seconds, life_seconds=life_seconds), self._on_event)
        return lease.token

    def _state_of_running_loop(self) -> _Loop:
        loop = asyncio.get_running_loop()
        state = self._loops.get(ref(loop))
        if state is None or self._holdings.is_closed:
            with self._loops_lock:
                if self._holdings.is_closed:
                    raise ProviderClosedError
                cancelled = TokenTransportError("No token: the program cancelled its renewal; the next call asks again")
                state = self._loops[ref(loop, self._loops.pop)] = _Loop(SingleFlight(cancelled=cancelled))
        return state

    def _start_renewal(self, state: _Loop, memory: Memory, now: float) -> None:
        # Imported here: most of the package's import time is its events and what else only a renewal needs.
        from .guarded_cache import GuardedCache
        from .renewal import Renewal

        if memory.is_replacing:
            cause: Cause = "rejected"
        elif memory.lease is None:
            cause = "first"
        else:
            cause = "due" if now < memory.lease.expires_at else "expired"
        deadline = asyncio.get_running_loop().time() + self._policy.budget_seconds
        renewal = Renewal(
            cause=cause,
            deadline=deadline,
            seen=memory.lease,
            holdings=self._holdings,
            endpoint=self._endpoint,
            cache=GuardedCache(self._cache, self._key, deadline, self._policy.cache_seconds, self._policy.lock_seconds),
            count_waiters=lambda: state.flight.waiter_count,
            waiting_since=lambda: state.waiting_since,
            on_event=self._on_event,
        )
        state.is_overdue_told = False
        state.waiting_since = None
        state.flight.start(lambda: renewal.run(state.lock))
