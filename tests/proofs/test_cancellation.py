"""One renewal for all callers, cancelled or not: on asyncio's loop, with eager tasks, on uvloop."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import pytest

from simplestore_async import AccessToken, MemoryTokenCache, RetryPolicy, TokenProvider
from simplestore_async.errors import ProviderClosedError, TokenEndpointError, TokenTransportError
from tests.support.clocks import FakeClock
from tests.support.loops import LOOPS, LoopFactory
from tests.support.providers import find_renewal
from tests.support.servers import SECRET, TokenServer

Scenario: TypeAlias = Callable[[TokenServer], Coroutine[Any, Any, None]]


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
async def test_every_caller_is_cancelled(server: TokenServer) -> None:
    """If every caller is cancelled, the renewal completes and stores its token in the cache."""
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
async def test_close_during_a_fetch(server: TokenServer) -> None:
    """aclose(), however often, ends the fetch, and gives each waiter a ProviderClosedError of its own."""
    server.gate.clear()
    provider = server.provider()
    callers = await begin(provider, callers=10)
    await server.arrived.wait()
    renewal = find_renewal()

    await asyncio.gather(provider.aclose(), provider.aclose())
    await provider.aclose()

    assert renewal.cancelled()
    failures = await outcomes(callers)
    assert [ProviderClosedError] * 10 == [type(failure) for failure in failures]
    assert 10 == len({id(failure) for failure in failures})
    assert 1 == len(server.requests)


@on_every_loop
async def test_close_waits_for_the_end_of_the_renewal(server: TokenServer) -> None:
    """aclose() returns after the renewal has released its resources."""
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
