"""One provider on several event loops: in sequence, at once, closed during a renewal, and late results."""

from __future__ import annotations

import asyncio
import gc
import logging
import warnings
import weakref
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pytest

from simplestore_async import AccessToken, MemoryTokenCache, TokenEndpoint, TokenProvider
from simplestore_async.errors import ProviderClosedError
from simplestore_async.events import Event, OutageBegan, RenewalFailed, RenewalStarted, TokenReceived
from tests.support.loops import LOOPS, LoopFactory, other_loop
from tests.support.providers import DUE, LIFE, TICK, begin, begin_held, get_at_once, of_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from simplestore_async.sandbox import Sandbox
    from tests.support.clocks import FakeClock
    from tests.support.providers import Provide

T = TypeVar("T")


async def in_thread(
    scenario: Callable[[], Coroutine[Any, Any, T]], new_loop: LoopFactory = asyncio.new_event_loop
) -> T:
    """Run *scenario* on a new event loop in a new thread, and fail if that loop reports an error."""
    complaints: list[dict[str, Any]] = []

    def run() -> T:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: complaints.append(context))
            return runner.run(scenario())

    result = await asyncio.to_thread(run)
    assert [] == complaints
    return result


class TestInSequence:
    @pytest.mark.parametrize("new_loop", LOOPS)
    async def test_token(
        self, sandbox: Sandbox, clock: FakeClock, provider: TokenProvider, new_loop: LoopFactory
    ) -> None:
        """A second loop gets the token of the first without a request, and a third renews it once for 50 callers."""

        async def scenario() -> list[AccessToken]:
            return await asyncio.gather(*(provider.get_token() for _ in range(50)))

        first, second = await in_thread(scenario, new_loop), await in_thread(scenario, new_loop)
        clock.advance(LIFE)
        third = await in_thread(scenario, new_loop)

        assert {id(first[0])} == {id(token) for token in first + second}
        assert {third[0].value} == {token.value for token in third} - {first[0].value}
        assert 2 == sandbox.counters.token_requests

    async def test_loop_ends_during_a_renewal(self, sandbox: Sandbox, provider: TokenProvider) -> None:
        """If a loop ends during its renewal, the next loop gets a token."""
        held = sandbox.token_endpoint.hold()

        async def scenario() -> None:
            (await begin(provider)).cancel()

        await in_thread(scenario)
        held.release()

        assert isinstance(await in_thread(provider.get_token), AccessToken)

    @pytest.mark.parametrize("new_loop", LOOPS)
    @pytest.mark.parametrize("failures", [0, 1], ids=["token", "failure"])
    async def test_loop_is_not_kept_alive(
        self,
        *,
        sandbox: Sandbox,
        caplog: pytest.LogCaptureFixture,
        provide: Provide,
        new_loop: LoopFactory,
        failures: int,
    ) -> None:
        """The provider's held token or last failure does not keep a closed loop alive."""
        caplog.set_level(logging.CRITICAL, "simplestore_async")  # captured log records would keep objects alive
        if failures:
            sandbox.fail_next(failures)
        provider = provide(on_event=None)

        async def scenario() -> weakref.ref[asyncio.AbstractEventLoop]:
            await asyncio.gather(*(provider.get_token() for _ in range(50)), return_exceptions=True)
            return weakref.ref(asyncio.get_running_loop())

        loop = await in_thread(scenario, new_loop)
        gc.collect()

        assert loop() is None


@pytest.mark.parametrize("locks", [True, False], ids=["asyncio.Lock", "no lock"])
async def test_slot_is_a_lock(sandbox: Sandbox, provide: Provide, monkeypatch: pytest.MonkeyPatch, locks: bool) -> None:
    """The asyncio.Lock of the slot makes concurrent callers share one request; without it each makes its own."""

    class NeverLocks(asyncio.Lock):
        def locked(self) -> bool:
            return False

        async def acquire(self) -> Literal[True]:
            return True

        def release(self) -> None: ...

    if not locks:
        monkeypatch.setattr(asyncio, "Lock", NeverLocks)
    provider = provide()
    await asyncio.gather(*(provider.get_token() for _ in range(10)))

    assert (1 if locks else 10) == sandbox.counters.token_requests


# Python 3.11 warns of each coroutine that awaits in its clean-up.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_loop_is_closed_during_a_renewal(sandbox: Sandbox, provider: TokenProvider, events: list[Event]) -> None:
    """Closing a loop during its renewal reports no failure, and the next loop gets a token at once."""
    held = sandbox.token_endpoint.hold()

    def close_during_a_renewal() -> None:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)  # "Task was destroyed but it is pending!"
        caller = loop.create_task(provider.get_token())
        loop.run_until_complete(asyncio.wait_for(held.wait_for_requests(), 30))
        assert not caller.done()
        loop.close()

    async def get_token() -> AccessToken:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # from aiohttp, for the connection of the closed loop
            token = await provider.get_token()
            gc.collect()
        return token

    await asyncio.to_thread(close_during_a_renewal)
    held.release()

    assert isinstance(await in_thread(get_token), AccessToken)
    assert [RenewalStarted, RenewalStarted, TokenReceived] == [type(event) for event in events]
    assert len(provider._flights) <= 1  # the closed loop is not kept alive


class TestAtOnce:
    async def test_four_threads(self, sandbox: Sandbox, provider: TokenProvider) -> None:
        """Of four loops with 50 callers each, each makes one request and shares its token; any thread may reject it."""
        held = sandbox.token_endpoint.hold()

        async def scenario() -> list[AccessToken]:
            return await asyncio.gather(*(provider.get_token() for _ in range(50)))

        runs = [asyncio.create_task(in_thread(scenario)) for _ in range(4)]
        await held.wait_for_requests(4)
        held.release()
        tokens = await asyncio.gather(*runs)

        assert [(50, 1)] * 4 == [(len(some), len({id(token) for token in some})) for some in tokens]
        assert get_at_once(provider) in [some[0] for some in tokens]
        assert 4 == sandbox.counters.token_requests
        assert await asyncio.to_thread(provider.invalidate, get_at_once(provider))


class TestClose:
    @pytest.mark.parametrize("callers_here", [5, 0], ids=["used by this loop", "not used by this loop"])
    async def test_renewals_of_every_loop(self, sandbox: Sandbox, provider: TokenProvider, callers_here: int) -> None:
        """aclose() cancels the renewals of every loop, and all waiters get ProviderClosedError."""
        held = sandbox.token_endpoint.hold()
        async with other_loop() as start:
            callers = [start(provider.get_token()) for _ in range(5)]
            callers += [asyncio.create_task(provider.get_token()) for _ in range(callers_here)]
            await held.wait_for_requests(2 if callers_here else 1)

            await provider.aclose()

            errors = await asyncio.wait_for(asyncio.gather(*callers, return_exceptions=True), 10)
        assert {ProviderClosedError} == {type(error) for error in errors}

    @pytest.mark.parametrize("moment", ["cached", "received", "failed"])
    async def test_before_the_outcome(
        self, *, sandbox: Sandbox, clock: FakeClock, provide: Provide, events: list[Event], moment: str
    ) -> None:
        """A token or failure that arrives after another loop called aclose() is discarded."""
        token = AccessToken("canary-late", issued_at=clock.time(), expires_at=clock.time() + LIFE)

        async def close_elsewhere() -> None:
            await in_thread(provider.aclose)

        class Cache(MemoryTokenCache):
            async def get(self, key: str, /) -> AccessToken | None:
                if moment != "cached":
                    return None
                await close_elsewhere()
                return token

        class Endpoint(TokenEndpoint):
            async def fetch(self, *, deadline: float, may_retry: Callable[[], bool]) -> tuple[AccessToken, float]:
                await close_elsewhere()
                if moment == "failed":
                    raise ZeroDivisionError
                return token, clock.monotonic()

        provider = provide(endpoint=Endpoint(sandbox.credentials, clock=clock), cache=Cache())

        with pytest.raises(ProviderClosedError):
            await provider.get_token()

        assert [RenewalStarted(cause="first")] == events
        with pytest.raises(ProviderClosedError):
            await provider.get_token()


class TestLateResult:
    async def test_late_token(self, sandbox: Sandbox, clock: FakeClock, provide: Provide, events: list[Event]) -> None:
        """A token that was requested earlier but arrives later is discarded, and its waiters get the newer one."""
        cache = MemoryTokenCache(clock=clock)
        provider = provide(cache=cache)
        async with other_loop() as start:
            late, caller = await begin_held(sandbox, provider)
            clock.advance(60)
            sandbox.token_endpoint.hold().release()
            newer = await start(provider.get_token())
            assert newer is get_at_once(provider)

            late.release()

            assert newer is await caller
            assert newer is get_at_once(provider)
            assert newer is await cache.get(sandbox.credentials.cache_key)
        assert [("endpoint", 3_600.0), ("memory", 3_600.0)] == [
            (event.source, event.life_seconds) for event in of_kind(TokenReceived, events)
        ]
        assert 2 == sandbox.counters.tokens_issued

    async def test_late_failure(self, sandbox: Sandbox, provider: TokenProvider, events: list[Event]) -> None:
        """A renewal that fails after another loop's succeeded serves the newer token and reports no failure."""
        async with other_loop() as start:
            sandbox.fail_next(1)
            late, caller = await begin_held(sandbox, provider)
            sandbox.token_endpoint.hold().release()
            newer = await start(provider.get_token())
            late.release()

            assert newer is await caller
            # The provider does not back off either.
            assert provider.invalidate(newer)
        assert [] == of_kind(RenewalFailed, events) + of_kind(OutageBegan, events)
        assert ["endpoint", "memory"] == [event.source for event in of_kind(TokenReceived, events)]

    async def test_failure_finds_a_due_token(
        self, sandbox: Sandbox, clock: FakeClock, provider: TokenProvider, events: list[Event]
    ) -> None:
        """If the other loop's token is already due, the callers get it but the failure is reported."""
        async with other_loop() as start:
            late = sandbox.token_endpoint.hold()
            token = start(provider.get_token())
            await late.wait_for_requests()
            clock.advance(DUE)
            sandbox.fail_next(1)
            failure, caller = await begin_held(sandbox, provider)
            late.release()
            await token
            failure.release()

            assert await token is await caller
            assert not provider.invalidate(await token)
        assert [True] == [event.is_token_alive for event in of_kind(RenewalFailed, events)]

    @pytest.mark.parametrize("is_due", [False, True], ids=["fresh", "due"])
    async def test_token_during_the_cache_read(
        self, *, sandbox: Sandbox, clock: FakeClock, provide: Provide, events: list[Event], is_due: bool
    ) -> None:
        """A token that another loop obtained during a slow cache read is used unless it is due."""
        is_read, may_go_on = asyncio.Event(), asyncio.Event()
        here = asyncio.get_running_loop()

        class SlowHere(MemoryTokenCache):
            async def get(self, key: str, /) -> AccessToken | None:
                if asyncio.get_running_loop() is here:
                    is_read.set()
                    await may_go_on.wait()
                return None

        provider = provide(cache=SlowHere())
        async with other_loop() as start:
            caller = await begin(provider)
            await is_read.wait()
            newer = await start(provider.get_token())
            clock.advance(DUE if is_due else 1_600)
            may_go_on.set()

            assert is_due is (newer is not await caller)
        assert ["endpoint", "endpoint" if is_due else "memory"] == [
            event.source for event in of_kind(TokenReceived, events)
        ]
        assert (2 if is_due else 1) == sandbox.counters.token_requests

    async def test_two_replacements(self, sandbox: Sandbox, clock: FakeClock, provider: TokenProvider) -> None:
        """If two loops replace one rejected token, the later token counts as a replacement and is kept while young."""
        provider.invalidate(await provider.get_token())
        async with other_loop() as start:
            earlier, first = await begin_held(sandbox, provider)
            clock.advance(TICK)
            later = sandbox.token_endpoint.hold()
            second = start(provider.get_token())
            await later.wait_for_requests()
            earlier.release()
            await first
            later.release()

            assert not provider.invalidate(await second)
            assert await second is get_at_once(provider)
