"""One provider on several event loops: one after the other, and in several threads at once."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import pytest

from simplestore_async import AccessToken, MemoryTokenCache, RenewalPolicy, TokenEndpoint, TokenProvider
from simplestore_async._core.endpoint import Receipt
from simplestore_async.errors import ProviderClosedError, TokenEndpointError
from simplestore_async.events import Event, OutageBegan, OutageEnded, RenewalFailed, RenewalStarted, TokenReceived
from tests.support.providers import DUE, LIFE, TICK, get_at_once

if TYPE_CHECKING:
    from tests.support.clocks import FakeClock
    from tests.support.servers import TokenServer

T = TypeVar("T")
LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]
Start: TypeAlias = Callable[[Coroutine[Any, Any, Any]], "asyncio.Future[Any]"]

LOOPS = [pytest.param(asyncio.new_event_loop, id="asyncio")]

if sys.platform != "win32":
    import uvloop

    LOOPS.append(pytest.param(uvloop.new_event_loop, id="uvloop"))


async def in_thread(
    scenario: Callable[[], Coroutine[Any, Any, T]], new_loop: LoopFactory = asyncio.new_event_loop
) -> T:
    """Run *scenario* on a new event loop, in a thread of its own; fail if asyncio complains there."""
    complaints: list[dict[str, Any]] = []

    def run() -> T:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: complaints.append(context))
            return runner.run(scenario())

    result = await asyncio.to_thread(run)
    assert [] == complaints
    return result


@asynccontextmanager
async def other_loop() -> AsyncIterator[Start]:
    """Run an event loop in another thread; give what starts a coroutine there, and returns a future for here."""
    loop = asyncio.new_event_loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda coroutine: asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop))
    finally:
        # Twice round the loop, for what the last coroutine left behind.
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop))
        left_over = asyncio.all_tasks(loop)
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join)
        loop.close()
    assert set() == left_over
    assert [] == complaints


async def request_arrives(server: TokenServer, count: int) -> None:
    """Wait until the server has got so many requests."""
    while len(server.requests) < count:
        server.arrived.clear()
        await server.arrived.wait()


def hold_back(server: TokenServer) -> asyncio.Event:
    """Return a gate of their own, shut, for the requests from now on."""
    server.gate = asyncio.Event()
    return server.gate


class TestOneAfterTheOther:
    # case 9
    @pytest.mark.parametrize("new_loop", LOOPS)
    async def test_each_renews(self, token_server: TokenServer, clock: FakeClock, new_loop: LoopFactory) -> None:
        """Two loops after each other, 50 callers each, make one request each when each finds an expired token."""
        provider = token_server.provider(clock=clock)

        async def scenario() -> set[str]:
            return {token.value for token in await asyncio.gather(*(provider.get_token() for _ in range(50)))}

        first = await in_thread(scenario, new_loop)
        clock.advance(LIFE)
        second = await in_thread(scenario, new_loop)

        assert ({"canary-token-1"}, {"canary-token-2"}) == (first, second)
        assert 2 == len(token_server.requests)

    # case 9
    async def test_token_outlives_the_loop(self, token_server: TokenServer, clock: FakeClock) -> None:
        """The second loop gets the first one's token, without a request."""
        provider = token_server.provider(clock=clock)

        assert await in_thread(provider.get_token) is await in_thread(provider.get_token)
        assert 1 == len(token_server.requests)

    async def test_failure_outlives_the_loop(self, token_server: TokenServer, clock: FakeClock) -> None:
        """The second loop gets the first one's failure, as an error of its own, without a request."""
        token_server.replies = [400]
        provider = token_server.provider(clock=clock)

        with pytest.raises(TokenEndpointError) as first:
            await in_thread(provider.get_token)
        with pytest.raises(TokenEndpointError) as second:
            await in_thread(provider.get_token)

        assert first.value is not second.value
        assert (str(first.value), 400) == (str(second.value), second.value.status)
        assert 1 == len(token_server.requests)

    async def test_loop_ends_during_a_renewal(self, token_server: TokenServer, clock: FakeClock) -> None:
        """A renewal that ends with its loop leaves nothing behind; the next loop starts another."""
        provider = token_server.provider(clock=clock)
        hold_back(token_server)

        async def scenario() -> None:
            caller = asyncio.create_task(provider.get_token())
            await asyncio.sleep(0)
            caller.cancel()

        await in_thread(scenario)
        token_server.gate.set()

        assert isinstance(await in_thread(provider.get_token), AccessToken)

    # case 9
    @pytest.mark.parametrize("new_loop", LOOPS)
    @pytest.mark.parametrize("replies", [[], [400]], ids=["token", "failure"])
    async def test_loop_is_not_kept_alive(
        self, *, token_server: TokenServer, caplog: pytest.LogCaptureFixture, new_loop: LoopFactory, replies: list[Any]
    ) -> None:
        """A loop that is gone is kept alive by nothing that the provider remembers, be it token or failure."""
        caplog.set_level(logging.CRITICAL, "simplestore_async")  # what the log captured would live on
        token_server.replies = replies
        provider = token_server.provider()

        async def scenario() -> weakref.ref[asyncio.AbstractEventLoop]:
            await asyncio.gather(*(provider.get_token() for _ in range(50)), return_exceptions=True)
            return weakref.ref(asyncio.get_running_loop())

        loop = await in_thread(scenario, new_loop)
        gc.collect()

        assert loop() is None

    @pytest.mark.parametrize("new_loop", LOOPS)
    async def test_close_after_a_loop_was_closed(self, token_server: TokenServer, new_loop: LoopFactory) -> None:
        """aclose() is not harmed by a loop that was closed before, and is still referred to."""
        provider = token_server.provider()
        loop = new_loop()

        await in_thread(provider.get_token, lambda: loop)
        await provider.aclose()

        assert loop.is_closed()
        with pytest.raises(ProviderClosedError):
            await provider.get_token()


class TestAtOnce:
    # case 9
    async def test_four_threads(self, token_server: TokenServer) -> None:
        """Four cold loops at once, 50 callers each, make one request each, and share one token within each loop."""
        hold_back(token_server)
        provider = token_server.provider()
        barrier = threading.Barrier(4)

        async def scenario() -> list[AccessToken]:
            barrier.wait()
            return await asyncio.gather(*(provider.get_token() for _ in range(50)))

        runs = [asyncio.create_task(in_thread(scenario)) for _ in range(4)]
        await request_arrives(token_server, 4)
        token_server.gate.set()
        tokens = await asyncio.gather(*runs)

        assert [(50, 1)] * 4 == [(len(some), len({id(token) for token in some})) for some in tokens]
        assert get_at_once(provider) in [some[0] for some in tokens]
        assert 4 == len(token_server.requests)

    # case 9
    async def test_four_threads_and_rejections(self, token_server: TokenServer) -> None:
        """Four loops that reject what they get, again and again, see no error, and make one request a loop for each."""
        provider = token_server.provider()
        barrier = threading.Barrier(4)

        async def scenario() -> int:
            barrier.wait()
            replaced = 0
            for _ in range(10):
                tokens = await asyncio.gather(*(provider.get_token() for _ in range(10)))
                provider.accept(tokens[0])
                replaced += provider.invalidate(tokens[0])
            return replaced

        replaced = await asyncio.gather(*(in_thread(scenario) for _ in range(4)))

        assert len(token_server.requests) <= 4 * (1 + sum(replaced))

    async def test_listener_runs_where_the_renewal_does(self, token_server: TokenServer) -> None:
        """Events are told on the thread of the loop that renews."""
        threads: list[int] = []

        async def scenario() -> int:
            await provider.get_token()
            return threading.get_ident()

        provider = token_server.provider(on_event=lambda _: threads.append(threading.get_ident()))
        here = await in_thread(scenario)

        assert [here] * 2 == threads
        assert threading.get_ident() != here

    async def test_rejection_from_another_thread(self, token_server: TokenServer) -> None:
        """invalidate() may be called from any thread, even one without a loop."""
        async with token_server.provider() as provider:
            token = await provider.get_token()

            assert await asyncio.to_thread(provider.invalidate, token)

            assert "canary-token-2" == (await provider.get_token()).value


class TestLateResult:
    @pytest.mark.parametrize("later", [0, TICK, 60], ids=["at once", "a little later", "later"])
    async def test_never_replaces_a_newer_token(
        self, token_server: TokenServer, clock: FakeClock, events: list[Event], later: float
    ) -> None:
        """A token that was asked for earlier, and comes later, is dropped; who waited for it gets the newer one."""
        gate = hold_back(token_server)
        async with other_loop() as start, token_server.provider(clock=clock, on_event=events.append) as provider:
            caller = asyncio.create_task(provider.get_token())
            await request_arrives(token_server, 1)
            clock.advance(later)
            hold_back(token_server).set()
            newer = await start(provider.get_token())
            assert newer is get_at_once(provider)

            gate.set()

            assert newer is await caller
            assert newer is get_at_once(provider)
        assert ["canary-token-1", "canary-token-2"] == token_server.issued
        assert "canary-token-1" == newer.value
        assert [("endpoint", False, 3_600.0), ("memory", False, 3_600.0)] == [
            (event.source, event.is_unchanged, event.life_seconds)
            for event in events
            if isinstance(event, TokenReceived)
        ]

    async def test_is_taken_if_it_is_newer(self, token_server: TokenServer, clock: FakeClock) -> None:
        """A token that was asked for later, and comes later, replaces the held one."""
        async with other_loop() as start, token_server.provider(clock=clock) as provider:
            first_gate = hold_back(token_server)
            first = asyncio.create_task(provider.get_token())
            await request_arrives(token_server, 1)
            clock.advance(TICK)
            second_gate = hold_back(token_server)
            second = start(provider.get_token())
            await request_arrives(token_server, 2)

            first_gate.set()
            assert "canary-token-1" == (await first).value
            second_gate.set()

            assert await second is get_at_once(provider)
        assert "canary-token-2" == (await second).value

    @pytest.mark.parametrize(("age", "posts"), [(60 - TICK, 2), (60, 3)], ids=["alive", "expired"])
    async def test_finds_a_newer_token_that_has_expired(
        self, token_server: TokenServer, clock: FakeClock, events: list[Event], age: float, posts: int
    ) -> None:
        """A token older than one that has expired meanwhile does not serve: the same renewal asks for another one."""
        gate = hold_back(token_server)
        async with other_loop() as start, token_server.provider(clock=clock, on_event=events.append) as provider:
            caller = asyncio.create_task(provider.get_token())
            await request_arrives(token_server, 1)
            hold_back(token_server).set()
            token_server.replies = [{"access_token": "canary-newer", "expires_in": 60}]
            await start(provider.get_token())
            clock.advance(age)
            gate.set()

            assert ("canary-newer" if posts == 2 else "canary-token-2") == (await caller).value
        assert posts == len(token_server.requests)
        assert ["endpoint", "memory" if posts == 2 else "endpoint"] == [
            event.source for event in events if isinstance(event, TokenReceived)
        ]

    async def test_is_not_stored(self, token_server: TokenServer, clock: FakeClock) -> None:
        """A token that is dropped does not replace the newer one in the cache either."""
        cache = MemoryTokenCache(clock=clock)
        gate = hold_back(token_server)
        async with other_loop() as start, token_server.provider(clock=clock, cache=cache) as provider:
            caller = asyncio.create_task(provider.get_token())
            await request_arrives(token_server, 1)
            hold_back(token_server).set()
            newer = await start(provider.get_token())
            gate.set()
            await caller

        assert newer is await cache.get(token_server.credentials().cache_key)

    async def test_failure_finds_a_newer_token(
        self, token_server: TokenServer, clock: FakeClock, events: list[Event]
    ) -> None:
        """A renewal that fails after another loop's succeeded gives its callers that token; it is no outage."""
        token_server.replies = [400]
        gate = hold_back(token_server)
        async with other_loop() as start, token_server.provider(clock=clock, on_event=events.append) as provider:
            caller = asyncio.create_task(provider.get_token())
            await request_arrives(token_server, 1)
            hold_back(token_server).set()
            newer = await start(provider.get_token())
            gate.set()

            assert newer is await caller
            # The endpoint is not left alone either.
            assert provider.invalidate(newer)
        assert [] == [event for event in events if isinstance(event, RenewalFailed | OutageBegan)]
        assert ["endpoint", "memory"] == [event.source for event in events if isinstance(event, TokenReceived)]

    # case 58
    async def test_failure_finds_a_token_that_is_due(
        self, token_server: TokenServer, clock: FakeClock, events: list[Event]
    ) -> None:
        """If that token came so late that it is due, it serves the callers too; and the failure is one."""
        async with other_loop() as start, token_server.provider(clock=clock, on_event=events.append) as provider:
            late_gate = hold_back(token_server)
            late = start(provider.get_token())
            await request_arrives(token_server, 1)
            clock.advance(DUE)
            token_server.replies = [400]
            gate = hold_back(token_server)
            caller = asyncio.create_task(provider.get_token())
            await request_arrives(token_server, 2)
            late_gate.set()
            token = await late
            gate.set()

            assert token is await caller
            assert not provider.invalidate(token)
        assert [True] == [event.is_token_alive for event in events if isinstance(event, RenewalFailed)]

    @pytest.mark.parametrize(
        ("age", "sources", "posts"),
        [
            pytest.param(1_800 - TICK, ["endpoint", "memory"], 1, id="fresh"),
            pytest.param(1_800, ["endpoint", "endpoint"], 2, id="due"),
        ],
    )
    async def test_token_came_while_the_cache_was_asked(
        self,
        *,
        token_server: TokenServer,
        clock: FakeClock,
        events: list[Event],
        age: float,
        sources: list[str],
        posts: int,
    ) -> None:
        """A renewal that was slow to read the cache takes what another loop has got meanwhile, if it is not due."""
        is_asked, answer = asyncio.Event(), asyncio.Event()
        here = asyncio.get_running_loop()

        class SlowHere(MemoryTokenCache):
            async def get(self, key: str, /) -> AccessToken | None:
                if asyncio.get_running_loop() is here:
                    is_asked.set()
                    await answer.wait()
                return None

        policy = RenewalPolicy(first_due_fractions=(0.5, 0.5))
        async with (
            other_loop() as start,
            token_server.provider(clock=clock, cache=SlowHere(), policy=policy, on_event=events.append) as provider,
        ):
            caller = asyncio.create_task(provider.get_token())
            await is_asked.wait()
            newer = await start(provider.get_token())
            clock.advance(age)
            answer.set()

            assert (posts == 1) is (newer is await caller)
        assert sources == [event.source for event in events if isinstance(event, TokenReceived)]
        assert posts == len(token_server.requests)

    # case 39
    async def test_replacements_of_two_loops(self, token_server: TokenServer, clock: FakeClock) -> None:
        """When two loops replace one rejected token, each new token is a replacement, and held while it is young."""
        async with other_loop() as start, token_server.provider(clock=clock) as provider:
            provider.invalidate(await provider.get_token())
            first_gate = hold_back(token_server)
            first = asyncio.create_task(provider.get_token())
            await request_arrives(token_server, 2)
            clock.advance(TICK)
            second_gate = hold_back(token_server)
            second = start(provider.get_token())
            await request_arrives(token_server, 3)
            first_gate.set()
            assert not provider.invalidate(await first)
            second_gate.set()

            assert not provider.invalidate(await second)
        assert 3 == len(token_server.requests)


class TestOutage:
    async def test_ends_on_another_loop(self, token_server: TokenServer, clock: FakeClock, events: list[Event]) -> None:
        """An outage that began on one loop ends with the other's success, even if that renewal began before it."""
        async with (
            other_loop() as start,
            token_server.provider(clock=clock, on_event=events.append) as provider,
        ):
            gate = hold_back(token_server)
            success = start(provider.get_token())
            await request_arrives(token_server, 1)
            hold_back(token_server).set()
            token_server.replies = [400]
            with pytest.raises(TokenEndpointError):
                await provider.get_token()
            clock.advance(2)
            gate.set()

            assert await success is get_at_once(provider)
        assert [OutageBegan, OutageEnded] == [
            type(event) for event in events if isinstance(event, OutageBegan | OutageEnded)
        ]
        assert [OutageEnded(duration_seconds=2.0)] == [event for event in events if isinstance(event, OutageEnded)]

    async def test_ends_once(self, token_server: TokenServer, clock: FakeClock, events: list[Event]) -> None:
        """Its end is told once, although two loops succeed."""
        token_server.replies = [400]
        async with other_loop() as start, token_server.provider(clock=clock, on_event=events.append) as provider:
            with pytest.raises(TokenEndpointError):
                await provider.get_token()
            clock.advance(5)
            gate = hold_back(token_server)
            first = asyncio.create_task(provider.get_token())
            await request_arrives(token_server, 2)
            clock.advance(TICK)
            second = start(provider.get_token())
            await request_arrives(token_server, 3)
            gate.set()
            await first
            await second

        assert [OutageBegan, OutageEnded] == [
            type(event) for event in events if isinstance(event, OutageBegan | OutageEnded)
        ]


class TestClose:
    # case 10
    async def test_renewals_of_every_loop(self, token_server: TokenServer) -> None:
        """aclose() ends the renewals of its own loop and of the others: all waiters get ProviderClosedError."""
        gate = hold_back(token_server)
        provider = token_server.provider()
        async with other_loop() as start:
            there = [start(provider.get_token()) for _ in range(5)]
            here = [asyncio.create_task(provider.get_token()) for _ in range(5)]
            await request_arrives(token_server, 2)

            await provider.aclose()

            errors = await asyncio.wait_for(asyncio.gather(*there, *here, return_exceptions=True), 10)
        assert [ProviderClosedError] * 10 == [type(error) for error in errors]
        gate.set()

    async def test_from_a_loop_that_never_used_it(self, token_server: TokenServer) -> None:
        """A loop that never asked for a token may close the provider."""
        gate = hold_back(token_server)
        provider = token_server.provider()
        async with other_loop() as start:
            caller = start(provider.get_token())
            await request_arrives(token_server, 1)

            await provider.aclose()

            with pytest.raises(ProviderClosedError):
                await asyncio.wait_for(caller, 10)
        gate.set()

    @pytest.mark.parametrize("moment", ["cached", "fetched", "failed"])
    async def test_while_the_outcome_is_there(self, token_server: TokenServer, clock: FakeClock, moment: str) -> None:
        """An outcome that another loop's aclose() came before is not held, nor remembered: the caller is told so."""
        token = AccessToken("canary-late", issued_at=clock.time(), expires_at=clock.time() + LIFE)

        def close_elsewhere() -> None:
            thread = threading.Thread(target=lambda: asyncio.run(provider.aclose()))
            thread.start()
            thread.join()

        class Cache(MemoryTokenCache):
            async def get(self, key: str, /) -> AccessToken | None:
                if moment != "cached":
                    return None
                close_elsewhere()
                return token

        class Endpoint(TokenEndpoint):
            async def fetch(self, *, deadline: float, may_retry: Callable[[], bool]) -> Receipt:
                close_elsewhere()
                if moment == "failed":
                    raise ZeroDivisionError
                return Receipt(token, clock.monotonic())

        events: list[Event] = []
        endpoint = Endpoint(token_server.credentials(), clock=clock)
        provider = TokenProvider(endpoint=endpoint, cache=Cache(), on_event=events.append)

        with pytest.raises(ProviderClosedError):
            await provider.get_token()

        assert [RenewalStarted(cause="first")] == events
        with pytest.raises(ProviderClosedError):
            await provider.get_token()
