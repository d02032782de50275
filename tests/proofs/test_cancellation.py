"""One renewal for all callers, cancelled or not: on asyncio's event loop, with eager tasks, and on uvloop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from simplestore_async import AccessToken, MemoryTokenCache, RetryPolicy, TokenEndpoint, TokenProvider
from simplestore_async.errors import ProviderClosedError, TokenEndpointError
from tests.support.providers import begin_held, renewal_ends

if TYPE_CHECKING:
    from simplestore_async.sandbox import Sandbox

pytestmark = pytest.mark.every_loop


async def test_cold_callers_make_one_request(sandbox: Sandbox) -> None:
    """1 000 callers without a token share one request and its token, and wake together."""
    async with TokenProvider(sandbox.credentials) as provider:
        held, *callers = await begin_held(sandbox, provider, callers=1_000)
        held.release()
        done, pending = await asyncio.wait(callers, return_when=asyncio.FIRST_COMPLETED)

    assert (1_000, 0) == (len(done), len(pending))
    assert 1 == len({id(caller.result()) for caller in callers})
    assert 1 == sandbox.counters.token_requests


async def test_first_caller_is_cancelled(sandbox: Sandbox) -> None:
    """The first caller's cancellation ends its own wait, and the others get the token of the same request."""
    async with TokenProvider(sandbox.credentials) as provider:
        held, first, *others = await begin_held(sandbox, provider, callers=10)
        first.cancel()
        await asyncio.wait([first])
        held.release()
        assert [AccessToken] * 9 == [type(token) for token in await asyncio.gather(*others)]

    assert first.cancelled()
    assert 1 == sandbox.counters.token_requests


async def test_every_caller_is_cancelled(sandbox: Sandbox) -> None:
    """If every caller is cancelled, the renewal completes and stores its token in the cache."""
    cache = MemoryTokenCache()
    async with TokenProvider(sandbox.credentials, cache=cache) as provider:
        held, *callers = await begin_held(sandbox, provider, callers=10)
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
        held.release()
        await renewal_ends()

        cached = await cache.get(sandbox.credentials.cache_key)
        assert cached is not None
        assert cached is await provider.get_token()
    assert all(caller.cancelled() for caller in callers)
    assert 1 == sandbox.counters.token_requests


async def test_callers_share_a_failure(sandbox: Sandbox) -> None:
    """1 000 callers of a failing endpoint share one set of attempts, and each gets its own exception."""
    sandbox.fail_next(3)
    endpoint = TokenEndpoint(sandbox.credentials, policy=RetryPolicy(retry_seconds=0.01))
    async with TokenProvider(endpoint=endpoint) as provider:
        failures = await asyncio.gather(*(provider.get_token() for _ in range(1_000)), return_exceptions=True)

    assert {(TokenEndpointError, 503, "temporarily_unavailable")} == {
        (type(failure), getattr(failure, "status", None), getattr(failure, "error", None)) for failure in failures
    }
    assert 1_000 == len({id(failure) for failure in failures})
    assert 3 == sandbox.counters.token_requests


async def test_closed_provider(sandbox: Sandbox) -> None:
    """A closed provider cannot be entered again."""
    async with TokenProvider(sandbox.credentials) as provider:
        pass
    with pytest.raises(ProviderClosedError, match="the TokenProvider is closed"):
        await provider.__aenter__()
