"""One renewal for all callers, cancelled or not: on asyncio's event loop, with eager tasks, and on uvloop."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import attrs
import pytest

from simplestore_async import AccessToken, MemoryTokenCache, RetryPolicy, TokenEndpoint, TokenProvider
from simplestore_async.errors import ProviderClosedError, TokenEndpointError, TokenTransportError
from simplestore_async.sandbox import Sandbox
from tests.support.clocks import FakeClock
from tests.support.loops import LOOPS, LoopFactory
from tests.support.providers import find_renewal

Scenario: TypeAlias = Callable[[Sandbox], Coroutine[Any, Any, None]]


def on_every_loop(scenario: Scenario) -> Callable[[LoopFactory], None]:
    """Turn *scenario*, which gets a sandbox, into a test on each kind of event loop."""

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
    async with Sandbox() as sandbox:
        await scenario(sandbox)
    await asyncio.sleep(0)
    gc.collect()
    assert {asyncio.current_task()} == asyncio.all_tasks()
    assert [] == complaints


async def begin(provider: TokenProvider, *, callers: int) -> list[asyncio.Task[AccessToken]]:
    """Return callers that have run until they wait."""
    tasks = [asyncio.create_task(provider.get_token()) for _ in range(callers)]
    await asyncio.sleep(0)
    return tasks


async def outcomes(tasks: list[asyncio.Task[AccessToken]]) -> list[AccessToken | BaseException]:
    async with asyncio.timeout(60):
        return await asyncio.gather(*tasks, return_exceptions=True)


@on_every_loop
async def test_cold_callers_make_one_request(sandbox: Sandbox) -> None:
    """1 000 callers without a token share one request and its token, and wake together."""
    async with TokenProvider(sandbox.credentials) as provider:
        with sandbox.token_endpoint.hold() as held:
            callers = await begin(provider, callers=1_000)
            await held.wait_for_requests()
        done, pending = await asyncio.wait(callers, return_when=asyncio.FIRST_COMPLETED)

    assert (1_000, 0) == (len(done), len(pending))
    assert 1 == len({id(caller.result()) for caller in callers})
    assert 1 == sandbox.counters.token_requests


@on_every_loop
async def test_first_caller_is_cancelled(sandbox: Sandbox) -> None:
    """The first caller's cancellation ends its own wait, and the others get the token of the same request."""
    async with TokenProvider(sandbox.credentials) as provider:
        with sandbox.token_endpoint.hold() as held:
            first, *others = await begin(provider, callers=10)
            await held.wait_for_requests()
            first.cancel()
            await asyncio.wait([first])
        assert [AccessToken] * 9 == [type(outcome) for outcome in await outcomes(others)]

    assert first.cancelled()
    assert 1 == sandbox.counters.token_requests


@on_every_loop
async def test_every_caller_is_cancelled(sandbox: Sandbox) -> None:
    """If every caller is cancelled, the renewal completes and stores its token in the cache."""
    cache = MemoryTokenCache()
    async with TokenProvider(sandbox.credentials, cache=cache) as provider:
        with sandbox.token_endpoint.hold() as held:
            callers = await begin(provider, callers=10)
            await held.wait_for_requests()
            for caller in callers:
                caller.cancel()
            await asyncio.wait(callers)
        await asyncio.wait([find_renewal()])

        cached = await cache.get(sandbox.credentials.cache_key)
        assert cached is not None
        assert cached is await provider.get_token()
    assert all(caller.cancelled() for caller in callers)
    assert 1 == sandbox.counters.token_requests


@on_every_loop
async def test_callers_share_a_failure(sandbox: Sandbox) -> None:
    """1 000 callers of a failing endpoint share one set of attempts, and each gets its own exception."""
    sandbox.fail_next(3)
    endpoint = TokenEndpoint(sandbox.credentials, policy=RetryPolicy(retry_seconds=0.01))
    async with TokenProvider(endpoint=endpoint) as provider:
        failures = await outcomes(await begin(provider, callers=1_000))

    assert {(TokenEndpointError, 503, "temporarily_unavailable")} == {
        (type(failure), getattr(failure, "status", None), getattr(failure, "error", None)) for failure in failures
    }
    assert 1_000 == len({id(failure) for failure in failures})
    assert 3 == sandbox.counters.token_requests


@on_every_loop
async def test_renewal_is_cancelled_by_a_third_party(sandbox: Sandbox) -> None:
    """A renewal cancelled by anything but aclose() fails each waiter with its own error and causes no backoff."""
    endpoint = TokenEndpoint(sandbox.credentials, clock=FakeClock())
    async with TokenProvider(endpoint=endpoint) as provider:
        with sandbox.token_endpoint.hold() as held:
            callers = await begin(provider, callers=10)
            await held.wait_for_requests()
            find_renewal().cancel()
            failures = await outcomes(callers)

        assert isinstance(await provider.get_token(), AccessToken)
    assert [TokenTransportError] * 10 == [type(failure) for failure in failures]
    assert 10 == len({id(failure) for failure in failures})
    assert 2 == sandbox.counters.token_requests


@on_every_loop
async def test_close(sandbox: Sandbox) -> None:
    """aclose() waits for the renewal's clean-up, each waiter gets its own error, and the provider stays closed."""
    has_begun, has_ended = asyncio.Event(), asyncio.Event()

    async def read_secret() -> str:
        has_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(3):
                await asyncio.sleep(0)
            has_ended.set()
        return ""

    provider = TokenProvider(attrs.evolve(sandbox.credentials, client_secret=read_secret))
    callers = await begin(provider, callers=10)
    await has_begun.wait()

    await asyncio.gather(provider.aclose(), provider.aclose())
    assert has_ended.is_set()
    await provider.aclose()

    failures = await outcomes(callers)
    assert [ProviderClosedError] * 10 == [type(failure) for failure in failures]
    assert 10 == len({id(failure) for failure in failures})
    for use in (provider.get_token, provider.__aenter__):
        with pytest.raises(ProviderClosedError, match="the TokenProvider is closed"):
            await use()
