"""The provider. Rule: a fresh token is returned at once; else one renewal runs, and every caller gets its outcome.

There is one renewal per event loop, owned by that loop's `SingleFlight`. Callers do not queue on a lock: each awaits
the same outcome, and the renewal continues if callers are cancelled.
"""

from __future__ import annotations

import asyncio
import copy
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn, Self
from weakref import ref

from simplestore_async.errors import ConfigurationError, ProviderClosedError, SimpleStoreError

from .cache import MemoryTokenCache, TokenCache, check_cache
from .clock import Clock
from .credentials import ClientCredentials
from .endpoint import TokenEndpoint
from .policy import DEFAULT_RENEWAL_POLICY, RenewalPolicy
from .single_flight import SingleFlight
from .state import START_AND_WAIT, WAIT, Fail, ProviderState, RenewalResult, Serve, StateStore, Wait
from .token import AccessToken
from .validation import check_callable, check_type

if TYPE_CHECKING:
    from simplestore_async.events import Cause, Listener

    from .renewal import Renewal
    from .state import Decision

__all__ = ["TokenProvider"]


class TokenProvider:
    """Share one access token among all tasks, and renew it before it expires.

    A fresh token is returned without I/O, lock or task switch. Otherwise one renewal runs per event loop, however many
    callers there are; a caller's cancellation or deadline ends its own wait and nothing else. Nothing runs between
    calls: only a call starts a renewal. Safe to share among tasks, event loops and threads.

    Args:
        credentials: client credentials; by default `ClientCredentials.from_env()`.
        cache: storage of tokens beyond this provider; by default in memory.
        policy: when to renew, how long to wait, how long to back off.
        endpoint: a `TokenEndpoint` in place of *credentials*, for a proxy, a private CA, a connector or other retries.
        on_event: called with each of `simplestore_async.events`, synchronously, on the renewing loop's thread.
        clock: the clock for the lifetime of tokens, for tests; that of *endpoint* if there is one.

    Raises:
        ConfigurationError: an argument is wrong, or the environment has no credentials.
    """

    def __init__(  # noqa: PLR0913 - one argument for each replaceable component
        self,
        credentials: ClientCredentials | None = None,
        *,
        cache: TokenCache | None = None,
        policy: RenewalPolicy | None = None,
        endpoint: TokenEndpoint | None = None,
        on_event: Listener | None = None,
        clock: Clock | None = None,
    ) -> None:
        check_type("credentials", credentials, ClientCredentials | None)
        check_cache(cache)
        check_type("policy", policy, RenewalPolicy | None)
        check_type("endpoint", endpoint, TokenEndpoint | None)
        check_type("clock", clock, Clock | None)
        if on_event is not None:
            check_callable("on_event", on_event, arguments=1, is_plain=True)
        if endpoint is None:
            endpoint = TokenEndpoint(credentials or ClientCredentials.from_env(), clock=clock)
        elif credentials is not None or clock is not None:
            field = "clock" if credentials is None else "credentials"
            raise ConfigurationError(field, "must not be passed together with endpoint", "pass it to TokenEndpoint")
        self._endpoint = endpoint
        self._policy = policy or DEFAULT_RENEWAL_POLICY
        self._now = endpoint.clock.monotonic
        self._store = StateStore(ProviderState(policy=self._policy))
        self._cache = MemoryTokenCache(clock=endpoint.clock) if cache is None else cache
        self._on_event = on_event
        # Keys are weak references, each added by its loop's own thread. Not a WeakKeyDictionary, whose methods are slow
        # Python code: thousands of callers look up their loop at once.
        self._flights: dict[ref[asyncio.AbstractEventLoop], SingleFlight[Renewal]] = {}

    async def get_token(self) -> AccessToken:
        """Return a token that can be used now, renewing it first if there is none.

        A token that is due for renewal is returned at once, while one renewal runs in the background. In the last
        seconds of its life callers wait briefly for the renewal, and get the held token if it takes longer.

        Raises:
            TokenError: no token could be obtained; each caller gets its own instance.
            ConfigurationError: a borrowed connector is closed or belongs to another loop, or a proxy setting is wrong.
            ProviderClosedError: the provider was closed before or during the call.
        """
        held = self._store.state.held
        if held is not None and self._now() < held.due_at:
            return held.token
        while True:
            flights = self._flights.get(ref(asyncio.get_running_loop())) or self._add_running_loop()
            decision = self._decide(flights)
            if decision.starts_renewal:
                await self._start_renewal(flights, decision)
            match decision:
                case Serve():
                    return decision.token
                case Wait():
                    # Thousands of callers may be suspended here: keep this frame small.
                    if decision.fallback is None:
                        token = self._open(await flights.join())
                    else:
                        token = await self._wait_briefly(flights, decision)
                    if token is not None:
                        return token
                case Fail():
                    raise copy.copy(decision.error)

    def invalidate(self, token: AccessToken) -> bool:
        """Record that the API rejected *token* (RFC 6750 §3.1); return whether `get_token()` may now return another.

        Does no I/O. False means that the caller should get the rejection: during a backoff, for a young replacement
        that is rejected in turn, and once the provider is closed.

        Raises:
            ConfigurationError: *token* is not an AccessToken.
        """
        check_type("token", token, AccessToken)
        now = self._now()
        verdict, rejected = self._store.step(lambda state: state.rejects(token, now))
        if rejected is not None:
            from simplestore_async.events import TokenRejected, emit

            age = now - rejected.requested_at
            emit(TokenRejected(age_seconds=age, is_replaced=verdict.allows_resend), self._on_event)
        return verdict.allows_resend

    def accept(self, token: AccessToken) -> None:
        """Record that the API accepted *token*: if it is a replacement, its next rejection renews at once.

        Does no I/O. Needed only for tokens with `is_replacement`, and only once for each.

        Raises:
            ConfigurationError: *token* is not an AccessToken.
        """
        check_type("token", token, AccessToken)
        held = self._store.state.held
        if held is not None and held.is_unproven:
            self._store.step(lambda state: (state.accepts(token), None))

    async def aclose(self) -> None:
        """Cancel a running renewal and wait for its end; its waiters, and all later callers, get ProviderClosedError.

        Renewals on other event loops end soon after. Calling it again does nothing.
        """
        self._store.step(lambda state: (state.closed(), None))
        # A loop registered after this line finds the provider closed.
        flights = {loop: flights for get_loop, flights in self._flights.copy().items() if (loop := get_loop())}
        own = flights.pop(asyncio.get_running_loop(), None)
        for loop, others in flights.items():
            with suppress(RuntimeError):  # that loop and its tasks are closed
                loop.call_soon_threadsafe(_cancel, others)
        task = _cancel(own) if own is not None else None
        if task is not None:
            await asyncio.wait([task])

    async def __aenter__(self) -> Self:
        if self._store.state.is_closed:
            raise ProviderClosedError
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        if not (hasattr(self, "_endpoint") and hasattr(self, "_cache")):
            return "TokenProvider()"  # in a traceback of its constructor
        credentials, cache = self._endpoint.credentials, self._cache
        # The repr of a third-party cache may contain anything.
        shown = repr(cache) if type(cache).__module__.startswith("simplestore_async") else type(cache).__name__
        origin = str(credentials.token_url.origin())
        return f"TokenProvider(client_id={credentials.client_id!r}, token_url={origin!r}, cache={shown})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a TokenProvider cannot be pickled; make one in each process, and let them share a FileTokenCache"
        )

    def _add_running_loop(self) -> SingleFlight[Renewal]:
        for get_known in self._flights.copy():
            known = get_known()
            if known is not None and known.is_closed():  # during a renewal, which would keep it alive
                self._flights.pop(get_known, None)
        flights = self._flights[ref(asyncio.get_running_loop(), self._flights.pop)] = SingleFlight()
        return flights

    def _decide(self, flights: SingleFlight[Renewal]) -> Decision:
        """Return the token for a caller that found no fresh one."""
        renewal, state = flights.current if flights.is_taken() else None, self._store.state
        if renewal is not None and renewal.awaited_state is state:
            return WAIT  # the same decision as for earlier callers with this snapshot
        now = self._now()
        decision = state.decide(now, is_renewing=renewal is not None)
        if renewal is not None and decision is WAIT:
            renewal.note_wait(state, now)
        return decision

    def _open(self, outcome: RenewalResult | BaseException) -> AccessToken | None:
        """Return the token that a caller waited for, if it can still be used, or raise the caller's own error."""
        if isinstance(outcome, BaseException):
            raise copy.copy(outcome)
        return outcome.token if self._store.state.can_serve(outcome, self._now()) else None

    async def _wait_briefly(self, flights: SingleFlight[Renewal], wait: Wait) -> AccessToken | None:
        """Return the new token if it arrives soon, else the held one; None if that has expired or was rejected."""
        renewal = flights.current
        try:
            async with asyncio.timeout(wait.seconds):
                return self._open(await flights.join())
        except ProviderClosedError:
            raise
        except SimpleStoreError:
            renewal = None  # the renewal failed and reported it
        except TimeoutError:
            pass
        now = self._now()
        held = self._store.state.live_token(now)
        if held is None or held is not wait.fallback:
            return None
        if renewal is not None:
            renewal.report_overdue(waited_seconds=wait.seconds, life_seconds=held.expires_at - now)
        return held.token

    async def _start_renewal(self, flights: SingleFlight[Renewal], decision: Decision) -> None:
        # Imported here: most of the package's import time is modules that only a renewal needs.
        from .guarded_cache import GuardedCache
        from .renewal import Renewal

        state, now = self._store.state, self._now()
        if state.is_replacing:
            cause: Cause = "rejected"
        elif state.held is None:
            cause = "first"
        else:
            cause = "due" if now < state.held.expires_at else "expired"
        policy, deadline = self._policy, asyncio.get_running_loop().time() + self._policy.budget_seconds
        key = self._endpoint.credentials.cache_key
        renewal = Renewal(
            cause=cause,
            deadline=deadline,
            seen=state.held,
            store=self._store,
            clock=self._endpoint.clock,
            endpoint=self._endpoint,
            cache=GuardedCache(self._cache, key, deadline, policy.cache_seconds, policy.lock_seconds),
            on_event=self._on_event,
            waiting_since=now if decision is START_AND_WAIT else None,
        )
        await flights.start(renewal)


def _cancel(flights: SingleFlight[Renewal]) -> asyncio.Task[RenewalResult] | None:
    renewal = flights.current
    return None if renewal is None else renewal.cancel(ProviderClosedError())
