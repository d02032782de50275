"""One provider on several event loops: one after the other, and in several threads at once."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import pytest

from simplestore_async import AccessToken, MemoryTokenCache, TokenEndpoint, TokenProvider
from simplestore_async.errors import ProviderClosedError, TokenEndpointError
from simplestore_async.events import Event, RenewalStarted, TokenReceived
from tests.support.loops import hold_back, other_loop, request_arrives
from tests.support.platforms import uvloop_factories
from tests.support.providers import LIFE, get_at_once

if TYPE_CHECKING:
    from tests.support.clocks import FakeClock
    from tests.support.servers import TokenServer


T = TypeVar("T")


LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]


Start: TypeAlias = Callable[[Coroutine[Any, Any, Any]], "asyncio.Future[Any]"]


LOOPS = {"asyncio": asyncio.new_event_loop} | uvloop_factories()


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


class TestOneAfterTheOther:
    @pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)
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

    @pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)
    @pytest.mark.parametrize("replies", [[], [400]], ids=["token", "failure"])
    async def test_loop_is_not_kept_alive(
        self, *, token_server: TokenServer, caplog: pytest.LogCaptureFixture, new_loop: LoopFactory, replies: list[Any]
    ) -> None:
        """A loop that is gone is not kept alive by the token or failure that the provider remembers."""
        caplog.set_level(logging.CRITICAL, "simplestore_async")  # what the log captured would live on
        token_server.replies = replies
        provider = token_server.provider()

        async def scenario() -> weakref.ref[asyncio.AbstractEventLoop]:
            await asyncio.gather(*(provider.get_token() for _ in range(50)), return_exceptions=True)
            return weakref.ref(asyncio.get_running_loop())

        loop = await in_thread(scenario, new_loop)
        gc.collect()

        assert loop() is None

    @pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)
    async def test_close_after_a_loop_was_closed(self, token_server: TokenServer, new_loop: LoopFactory) -> None:
        """aclose() is not harmed by a loop that was closed before, and is still referred to."""
        provider = token_server.provider()
        loop = new_loop()

        await in_thread(provider.get_token, lambda: loop)
        await provider.aclose()

        assert loop.is_closed()
        with pytest.raises(ProviderClosedError):
            await provider.get_token()


class TestSlot:
    async def test_lock_that_never_locks(self, token_server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is the asyncio.Lock of the slot that makes it one request: without it each caller makes its own."""

        class NeverLocks(asyncio.Lock):
            def locked(self) -> bool:
                return False

            async def acquire(self) -> Literal[True]:
                return True

            def release(self) -> None: ...

        posts = []
        for lock in (asyncio.Lock, NeverLocks):
            monkeypatch.setattr(asyncio, "Lock", lock)
            token_server.requests.clear()
            provider = token_server.provider()
            await asyncio.gather(*(provider.get_token() for _ in range(10)))
            posts.append(len(token_server.requests))

        assert [1, 10] == posts


class TestClosedLoop:
    # Python 3.11 complains of each coroutine whose clean-up would wait.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    async def test_in_mid_renewal(self, token_server: TokenServer, events: list[Event]) -> None:
        """A loop closed in mid-renewal is no failure: nothing is reported, and the next loop gets a token at once."""
        server_loop = asyncio.get_running_loop()
        token_server.gate.clear()
        provider = token_server.provider(on_event=events.append)

        def close_in_mid_renewal() -> None:
            loop = asyncio.new_event_loop()
            loop.set_exception_handler(lambda *_: None)  # "Task was destroyed but it is pending!"
            caller = loop.create_task(provider.get_token())
            arrival = asyncio.run_coroutine_threadsafe(token_server.arrived.wait(), server_loop)
            loop.run_until_complete(asyncio.wait_for(asyncio.wrap_future(arrival, loop=loop), 30))
            assert not caller.done()
            loop.close()

        async def get_token() -> str:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)  # aiohttp's, for what the closed loop left behind
                token = await provider.get_token()
                gc.collect()
            return token.value

        await asyncio.to_thread(close_in_mid_renewal)
        token_server.gate.set()

        assert (await in_thread(get_token)).startswith("canary-token-")
        assert [RenewalStarted, RenewalStarted, TokenReceived] == [type(event) for event in events]
        assert len(provider._flights) <= 1  # the closed loop is not kept alive


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_fork_while_a_thread_changes_the_state() -> None:
    """A child that is forked while another thread is inside `invalidate()` does not hang."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _FORK], capture_output=True, text=True, timeout=60, check=False
    )

    assert ("0\n", "") == (done.stdout, done.stderr)


_FORK = """
import os, threading
from simplestore_async import AccessToken, ClientCredentials, TokenProvider
from simplestore_async._core.state import ProviderState

is_inside, may_go_on = threading.Event(), threading.Event()
rejects = ProviderState.rejects

def reject_slowly(*args):
    is_inside.set()
    may_go_on.wait()
    return rejects(*args)

provider = TokenProvider(ClientCredentials(client_id="app", client_secret="secret"))
token = AccessToken("token", issued_at=0, expires_at=1)
ProviderState.rejects = reject_slowly
thread = threading.Thread(target=provider.invalidate, args=[token])
thread.start()
is_inside.wait()
ProviderState.rejects = rejects
child = os.fork()
if not child:
    import signal
    signal.alarm(20)
    os._exit(not provider.invalidate(token))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
may_go_on.set()
thread.join()
"""


class TestAtOnce:
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

    async def test_four_threads_and_rejections(self, token_server: TokenServer) -> None:
        """Four loops that reject their tokens repeatedly get no error, and make one request per loop and token."""
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
        """Events are reported on the thread of the renewing loop."""
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


class TestClose:
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
        """An outcome after another loop's aclose() is neither held nor remembered: it is a ProviderClosedError."""
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
            async def fetch(self, *, deadline: float, may_retry: Callable[[], bool]) -> tuple[AccessToken, float]:
                close_elsewhere()
                if moment == "failed":
                    raise ZeroDivisionError
                return token, clock.monotonic()

        events: list[Event] = []
        endpoint = Endpoint(token_server.credentials(), clock=clock)
        provider = TokenProvider(endpoint=endpoint, cache=Cache(), on_event=events.append)

        with pytest.raises(ProviderClosedError):
            await provider.get_token()

        assert [RenewalStarted(cause="first")] == events
        with pytest.raises(ProviderClosedError):
            await provider.get_token()
