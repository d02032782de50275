"""Many processes that share a directory or a Redis: forked and killed."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from simplestore_async import FileTokenCache, RenewalPolicy, TokenProvider
from simplestore_async.caches.redis import RedisTokenCache
from simplestore_async.events import CacheFailed, Event
from tests.support import swarm
from tests.support.platforms import needs_fork

if TYPE_CHECKING:
    from pathlib import Path

    from simplestore_async import SharedTokenCache
    from simplestore_async.sandbox import Sandbox
    from tests.support.redis_server import RedisServer

pytestmark = needs_fork

# Longer than any test takes.
PATIENT: dict[str, Any] = {"cache_seconds": 600, "lock_seconds": 600, "budget_seconds": 900}
PATIENT_ATTEMPTS = {"attempt_seconds": 600, "budget_seconds": 900}
LEASE_SECONDS = 3
# Locks in Redis are the same in one process: the server grants them to connections.
redis_in_slow_runs = pytest.mark.parametrize(
    "cache", ["directory", pytest.param("redis", marks=pytest.mark.slow)], indirect=True
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(request: pytest.FixtureRequest, directory: Path, monkeypatch: pytest.MonkeyPatch) -> SharedTokenCache:
    """The cache shared by all processes of a test; by default a directory."""
    if getattr(request, "param", "directory") == "directory":
        return FileTokenCache(directory)
    server: RedisServer = request.getfixturevalue("redis_server")
    monkeypatch.setenv("SIMPLESTORE_REDIS_URL", server.patient_url)
    return RedisTokenCache.from_env()


@pytest.fixture
def job(cache: SharedTokenCache, directory: Path, sandbox: Sandbox) -> dict[str, Any]:
    """Arguments common to all processes of a test."""
    return {"directory": directory, "environment": sandbox.environment, "policy": PATIENT, "retry": PATIENT_ATTEMPTS}


def the_token(results: list[Any]) -> str:
    """Return the token of all processes, none of which had a failure of the cache."""
    ((token,),) = {(result["token"], *result["failures"]) for result in results}
    return str(token)


def build_provider(sandbox: Sandbox, cache: SharedTokenCache, failures: list[CacheFailed]) -> TokenProvider:
    """Return a provider of this process, whose failures of the cache are recorded."""

    def listen(event: Event) -> None:
        if isinstance(event, CacheFailed):
            failures.append(event)

    return TokenProvider(sandbox.credentials, cache=cache, policy=RenewalPolicy(**PATIENT), on_event=listen)


@redis_in_slow_runs
@pytest.mark.parametrize("processes", [10, pytest.param(50, marks=pytest.mark.slow)])
async def test_all_at_once(sandbox: Sandbox, job: dict[str, Any], processes: int) -> None:
    """Processes that start together on an empty cache make one token request and share the token."""
    results = await swarm.run("get_token", **job, processes=processes)

    assert processes == len(results)
    assert the_token(results)
    sources = Counter(source for result in results for source in result["sources"])
    assert {"cache": processes - 1, "endpoint": 1} == sources
    assert 1 == sandbox.counters.token_requests


class WatchedCache:
    """A cache that signals when it is about to wait for its lock."""

    def __init__(self, cache: SharedTokenCache) -> None:
        self.get, self.set = cache.get, cache.set
        self._cache = cache
        self.is_locked = asyncio.Event()

    def renewal_lock(self, key: str, /) -> Any:
        self.is_locked.set()
        return self._cache.renewal_lock(key)


@redis_in_slow_runs  # its lease has to end first
async def test_holder_is_killed(sandbox: Sandbox, job: dict[str, Any], cache: SharedTokenCache) -> None:
    """If the renewing process is killed, a waiting one renews: at once, or in Redis within the lease."""
    watched, failures = WatchedCache(cache), list[CacheFailed]()
    async with build_provider(sandbox, watched, failures) as provider:
        with sandbox.token_endpoint.hold() as held:
            holder = await swarm.start("get_token", **job, lease_seconds=LEASE_SECONDS)
            await held.wait_for_requests()
            caller = asyncio.create_task(provider.get_token())
            await watched.is_locked.wait()
            holder.kill()
            await holder.communicate()
            await held.wait_for_requests(2)
        await caller
    assert [] == failures
    assert 2 == sandbox.counters.token_requests


async def test_rejected_token(sandbox: Sandbox, job: dict[str, Any], cache: SharedTokenCache) -> None:
    """Processes whose common token is rejected replace it by one request and share the replacement."""
    async with build_provider(sandbox, cache, []) as provider:
        first = (await provider.get_token()).value
    results = await swarm.run("replace_rejected", **job, processes=4)

    assert first != the_token(results)
    # A late process finds the replacement, rejects it, and keeps it.
    assert [result["rejected"] == first for result in results] == [result["is_replaced"] for result in results]
    assert 2 == sandbox.counters.token_requests


class TestFork:
    async def test_provider_that_was_used_before(self, sandbox: Sandbox, job: dict[str, Any]) -> None:
        """A provider that is used, forked, and used again by parent and children serves all of them.

        This is the order in a server that loads the application before it forks its workers. The children replace the
        token that they inherited by one request, and the parent takes their replacement.
        """
        results = await swarm.run("use_again", **job, processes=2)

        assert [results[0]] * 3 == results
        assert [results[0]["before"]] != results[0]["after"]
        assert 2 == sandbox.counters.token_requests
