"""One renewal for everybody, whatever becomes of the callers: on asyncio's own loop, with eager tasks, on uvloop."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import pytest

from simplestore_async import AccessToken, MemoryTokenCache, RetryPolicy, TokenProvider
from simplestore_async.errors import ProviderClosedError, TokenEndpointError, TokenTransportError
from simplestore_async.events import Event, RenewalStarted
from tests.support.clocks import FakeClock
from tests.support.providers import find_renewal
from tests.support.servers import SECRET, TokenServer

LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]
Scenario: TypeAlias = Callable[[TokenServer], Coroutine[Any, Any, None]]

LOOPS = [pytest.param(asyncio.new_event_loop, id="asyncio")]

if sys.platform != "win32":
    import uvloop

    LOOPS.append(pytest.param(uvloop.new_event_loop, id="uvloop"))

if sys.version_info >= (3, 12):

    def new_eager_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    LOOPS.append(pytest.param(new_eager_loop, id="eager"))


def on_every_loop(scenario: Scenario) -> Callable[[LoopFactory], None]:
    """Turn *scenario*, which gets a token server, into a test on each kind of event loop."""

    @pytest.mark.parametrize("loop_factory", LOOPS)
    def test(loop_factory: LoopFactory) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(watch(scenario))

    test.__doc__ = scenario.__doc__
    return test


async def watch(scenario: Scenario) -> None:
    """Run *scenario*; fail if it leaves a task pending or an exception unretrieved."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with TokenServer() as server:
        await scenario(server)
        server.gate.set()  # for requests whose clients have gone away
    await asyncio.sleep(0)
    gc.collect()
    assert {asyncio.current_task()} == asyncio.all_tasks()
    assert [] == complaints


async def begin(provider: TokenProvider, *, callers: int) -> list[asyncio.Task[AccessToken]]:
    """Return that many callers, each of which has run until it waits."""
    tasks = [asyncio.create_task(provider.get_token()) for _ in range(callers)]
    await asyncio.sleep(0)
    return tasks


async def get_token_before(deadline: asyncio.Timeout, provider: TokenProvider) -> AccessToken:
    async with deadline:
        return await provider.get_token()


async def outcomes(tasks: list[asyncio.Task[AccessToken]]) -> list[AccessToken | BaseException]:
    async with asyncio.timeout(60):
        return await asyncio.gather(*tasks, return_exceptions=True)


@on_every_loop
async def test_cold_callers_make_one_request(server: TokenServer) -> None:
    """1 000 cold callers make one POST, get one token, and wake together: none queues behind another."""
    server.gate.clear()
    async with server.provider() as provider:
        callers = await begin(provider, callers=1_000)
        await server.arrived.wait()
        server.gate.set()

        done, pending = await asyncio.wait(callers, return_when=asyncio.FIRST_COMPLETED)

    assert (1_000, 0) == (len(done), len(pending))
    assert 1 == len({id(caller.result()) for caller in callers})
    assert "canary-token-1" == callers[0].result().value
    assert 1 == len(server.requests)


@on_every_loop
async def test_first_caller_is_cancelled(server: TokenServer) -> None:
    """The first caller's cancellation ends its own wait; the others get the token of the same POST."""
    server.gate.clear()
    async with server.provider() as provider:
        first, *others = await begin(provider, callers=10)
        await server.arrived.wait()

        first.cancel()
        await asyncio.wait([first])
        server.gate.set()

        assert ["canary-token-1"] * 9 == [(await caller).value for caller in others]

    assert first.cancelled()
    assert 1 == len(server.requests)


@on_every_loop
async def test_every_caller_times_out(server: TokenServer) -> None:
    """60 callers whose deadlines pass during the fetch make one POST, and later callers get its token."""
    server.gate.clear()
    deadlines = [asyncio.timeout(None) for _ in range(60)]
    async with server.provider() as provider:
        callers = [asyncio.create_task(get_token_before(deadline, provider)) for deadline in deadlines]
        await server.arrived.wait()
        for deadline in deadlines:
            deadline.reschedule(0)
        failures = await outcomes(callers)
        later = await begin(provider, callers=60)
        server.gate.set()

        assert ["canary-token-1"] * 60 == [(await caller).value for caller in later]

    assert [TimeoutError] * 60 == [type(failure) for failure in failures]
    assert 1 == len(server.requests)


@on_every_loop
async def test_every_caller_is_cancelled(server: TokenServer) -> None:
    """When every caller is gone, the fetch completes into the cache."""
    server.gate.clear()
    cache = MemoryTokenCache()
    async with server.provider(cache=cache) as provider:
        callers = await begin(provider, callers=10)
        await server.arrived.wait()
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
        server.gate.set()
        await asyncio.wait([find_renewal()])

        cached = await cache.get(server.credentials().cache_key)

        assert cached is not None
        assert cached is await provider.get_token()
    assert [True] * 10 == [caller.cancelled() for caller in callers]
    assert 1 == len(server.requests)


@on_every_loop
async def test_every_caller_is_cancelled_and_the_fetch_fails(server: TokenServer) -> None:
    """When every caller is gone, a failed attempt is the last, and its error is remembered, not "never retrieved"."""
    server.gate.clear()
    server.replies = [503]
    async with server.provider(clock=FakeClock()) as provider:
        callers = await begin(provider, callers=10)
        await server.arrived.wait()
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
        server.gate.set()
        await asyncio.wait([find_renewal()])

        with pytest.raises(TokenEndpointError):
            await provider.get_token()

    assert 1 == len(server.requests)


@on_every_loop
async def test_callers_share_a_failure(server: TokenServer) -> None:
    """1 000 callers of a failing endpoint make one set of attempts, and each gets an exception of its own."""
    server.replies = [503, 503, 503]
    async with server.provider(retry=RetryPolicy(retry_seconds=0.01)) as provider:
        failures = await outcomes(await begin(provider, callers=1_000))

    assert {(TokenEndpointError, 503, "temporarily_unavailable")} == {
        (type(failure), getattr(failure, "status", None), getattr(failure, "error", None)) for failure in failures
    }
    assert 1_000 == len({id(failure) for failure in failures})
    assert 3 == len(server.requests)


@on_every_loop
async def test_next_call_after_a_failed_first_fetch(server: TokenServer) -> None:
    """After a failed first fetch the next call succeeds once the failure's memory has lapsed, and not before."""
    clock = FakeClock()
    server.replies = [400]
    async with server.provider(clock=clock) as provider:
        for seconds in (0, 4.999):
            clock.advance(seconds)
            with pytest.raises(TokenEndpointError):
                await provider.get_token()
        assert 1 == len(server.requests)

        clock.advance(0.001)

        assert "canary-token-1" == (await provider.get_token()).value
    assert 2 == len(server.requests)


@on_every_loop
async def test_task_group_is_cancelled_by_a_sibling(server: TokenServer) -> None:
    """A TaskGroup that ends for another reason ends its callers' waits, and no others."""
    server.gate.clear()

    members: list[asyncio.Task[AccessToken]] = []

    async def fail() -> None:
        await server.arrived.wait()
        raise ZeroDivisionError

    async def run_group(provider: TokenProvider) -> None:
        async with asyncio.TaskGroup() as group:
            members.extend(group.create_task(provider.get_token()) for _ in range(10))
            group.create_task(fail())

    async with server.provider() as provider:
        [outsider] = await begin(provider, callers=1)
        with pytest.raises(ExceptionGroup) as caught:
            await run_group(provider)
        server.gate.set()

        assert "canary-token-1" == (await outsider).value
    assert [ZeroDivisionError] == [type(error) for error in caught.value.exceptions]
    assert [True] * 10 == [member.cancelled() for member in members]
    assert 1 == len(server.requests)


@on_every_loop
async def test_task_group_learns_of_a_cancelled_renewal(server: TokenServer) -> None:
    """A renewal that a third party cancels is an error in a TaskGroup, which else would end with no result at all."""
    server.gate.clear()

    async def cancel_renewal() -> None:
        await server.arrived.wait()
        find_renewal().cancel()

    async def run_group(provider: TokenProvider) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(provider.get_token())
            group.create_task(cancel_renewal())

    async with server.provider() as provider:
        with pytest.raises(ExceptionGroup) as caught:
            await run_group(provider)

    assert [TokenTransportError] == [type(error) for error in caught.value.exceptions]


@on_every_loop
async def test_renewal_is_cancelled_by_a_third_party(server: TokenServer) -> None:
    """A renewal cancelled by anything but aclose() is a TokenTransportError, each waiter's own, and not remembered."""
    server.gate.clear()
    async with server.provider(clock=FakeClock()) as provider:
        callers = await begin(provider, callers=10)
        await server.arrived.wait()

        find_renewal().cancel()
        failures = await outcomes(callers)
        server.gate.set()

        assert isinstance(await provider.get_token(), AccessToken)
    assert [TokenTransportError] * 10 == [type(failure) for failure in failures]
    assert 10 == len({id(failure) for failure in failures})
    assert 2 == len(server.requests)


@on_every_loop
async def test_renewal_is_cancelled_before_its_first_step(server: TokenServer) -> None:
    """A renewal that is cancelled before its first step leaves no waiter, and the next call starts another."""
    async with server.provider(clock=FakeClock()) as provider:
        callers = await begin(provider, callers=10)

        find_renewal().cancel()
        failures = await outcomes(callers)

        assert [TokenTransportError] * 10 == [type(failure) for failure in failures]
        assert "canary-token-1" == (await provider.get_token()).value


@on_every_loop
async def test_close_during_a_fetch(server: TokenServer) -> None:
    """aclose() ends the fetch, gives each waiter a ProviderClosedError of its own, and leaves nothing pending."""
    server.gate.clear()
    provider = server.provider()
    callers = await begin(provider, callers=10)
    await server.arrived.wait()
    renewal = find_renewal()

    await provider.aclose()

    assert renewal.cancelled()
    failures = await outcomes(callers)
    assert [ProviderClosedError] * 10 == [type(failure) for failure in failures]
    assert 10 == len({id(failure) for failure in failures})
    assert 1 == len(server.requests)


@on_every_loop
async def test_close_before_the_first_step_of_a_renewal(server: TokenServer) -> None:
    """aclose() before the renewal ran a line gives its waiters ProviderClosedError too."""
    provider = server.provider()
    callers = await begin(provider, callers=10)

    await provider.aclose()

    assert [ProviderClosedError] * 10 == [type(failure) for failure in await outcomes(callers)]


@on_every_loop
async def test_close_waits_for_the_end_of_the_renewal(server: TokenServer) -> None:
    """aclose() returns once the renewal has put away what it held."""
    has_begun, has_ended = asyncio.Event(), asyncio.Event()

    async def read_secret() -> str:
        has_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(3):
                await asyncio.sleep(0)
            has_ended.set()
        return SECRET

    provider = server.provider(credentials=server.credentials(client_secret=read_secret))
    callers = await begin(provider, callers=1)
    await has_begun.wait()

    await provider.aclose()

    assert has_ended.is_set()
    assert [ProviderClosedError] == [type(failure) for failure in await outcomes(callers)]


@on_every_loop
async def test_close_twice(server: TokenServer) -> None:
    """aclose() may be called again, one after the other or at once; each call returns."""
    server.gate.clear()
    provider = server.provider()
    callers = await begin(provider, callers=1)
    await server.arrived.wait()

    await asyncio.gather(provider.aclose(), provider.aclose())
    await provider.aclose()

    assert [ProviderClosedError] == [type(failure) for failure in await outcomes(callers)]


@on_every_loop
async def test_use_after_close(server: TokenServer) -> None:
    """After aclose() neither get_token() nor `async with` works, although a token was held and the cache has it."""
    cache = MemoryTokenCache()
    provider = server.provider(cache=cache)
    async with provider as entered:
        assert provider is entered
        await provider.get_token()

    for use in (provider.get_token, provider.__aenter__):
        with pytest.raises(ProviderClosedError, match="the TokenProvider is closed"):
            await use()
    assert 1 == len(server.requests)


@on_every_loop
async def test_close_from_the_listener(server: TokenServer) -> None:
    """A listener that closes the provider as a renewal starts ends that renewal: nothing is left pending."""
    closings: list[asyncio.Task[None]] = []

    def listen(event: Event) -> None:
        if isinstance(event, RenewalStarted):
            closings.append(asyncio.get_running_loop().create_task(provider.aclose()))

    server.gate.clear()
    provider = server.provider(on_event=listen)

    failures = await outcomes(await begin(provider, callers=1))

    await asyncio.wait(closings)
    assert [ProviderClosedError] == [type(failure) for failure in failures]


@on_every_loop
async def test_renewal_of_a_provider_that_nobody_closes(server: TokenServer) -> None:
    """A provider that is used, and never closed, leaves no task behind."""
    provider = server.provider()
    await provider.get_token()

    assert [] == [task for task in asyncio.all_tasks() if "TokenProvider" in repr(task)]
