"""Many processes that share a directory or a Redis: forked, spawned, stopped and killed."""
# ruff: noqa: ASYNC240 - the loop of these tests runs nothing else

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet

from simplestore_async import FileTokenCache, RenewalPolicy, TokenProvider
from simplestore_async.caches.redis import RedisTokenCache
from simplestore_async.events import CacheFailed, Event
from simplestore_async.sandbox import RejectedToken
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


def build_provider(
    sandbox: Sandbox, cache: SharedTokenCache, failures: list[CacheFailed], **policy: Any
) -> TokenProvider:
    """Return a provider of this process, whose failures of the cache are recorded."""

    def listen(event: Event) -> None:
        if isinstance(event, CacheFailed):
            failures.append(event)

    return TokenProvider(sandbox.credentials, cache=cache, policy=RenewalPolicy(**PATIENT | policy), on_event=listen)


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
            holder.process.kill()
            await holder.process.communicate()
            await held.wait_for_requests(2)
        await caller
    assert [] == failures
    assert 2 == sandbox.counters.token_requests


@redis_in_slow_runs
async def test_holder_is_stopped(sandbox: Sandbox, job: dict[str, Any], cache: SharedTokenCache) -> None:
    """While the renewing process is stopped, others wait as long as the policy allows, then renew and report why."""
    failures: list[CacheFailed] = []
    with sandbox.token_endpoint.hold() as held:
        holder = await swarm.start("get_token", **job)
        await held.wait_for_requests()
        holder.process.send_signal(signal.SIGSTOP)
    async with build_provider(sandbox, cache, failures, lock_seconds=0.2) as provider:
        token = await provider.get_token()
    holder.process.send_signal(signal.SIGCONT)

    (failure,) = failures
    assert "lock" == failure.operation
    assert failure.problem.startswith("another process held it for longer than")
    assert token.value != the_token(await holder.results())
    assert 2 == sandbox.counters.token_requests


async def test_rejected_token(sandbox: Sandbox, job: dict[str, Any], cache: SharedTokenCache) -> None:
    """Processes whose common token is rejected replace it by one request and share the replacement."""
    async with build_provider(sandbox, cache, []) as provider:
        first = (await provider.get_token()).value
    results = await swarm.run("replace_rejected", **job, processes=4)

    assert first != the_token(results)
    # A late process finds the replacement, rejects it, and keeps it: see the next test.
    assert [result["rejected"] == first for result in results] == [result["is_replaced"] for result in results]
    assert 2 == sandbox.counters.token_requests


async def test_api_that_rejects_every_token(sandbox: Sandbox, job: dict[str, Any]) -> None:
    """Four processes that send ten requests each to an API that rejects all make at most three token requests."""
    sandbox.api.fail_for(600, RejectedToken())
    # As if all of it took less than 5 s, on any machine.
    policy = PATIENT | {"rejection_seconds": 600}
    results = await swarm.run("send_requests", **job | {"policy": policy}, api_url=sandbox.base_url, processes=4)

    assert [[401] * 10] * 4 == [result["statuses"] for result in results]
    assert sandbox.counters.token_requests <= 3
    sent: dict[str, list[int | None]] = {}
    for request in sandbox.api.requests:
        sent.setdefault(request.headers["X-Request"], []).append(request.token_number)
    assert 40 == len(sent)
    assert all(len(tokens) == len(set(tokens)) <= 2 for tokens in sent.values())


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

    @pytest.mark.parametrize(
        ("context", "is_encrypted"),
        [
            ("forkserver", True),
            pytest.param("fork", False, marks=pytest.mark.slow),
            pytest.param("spawn", False, marks=pytest.mark.slow),
        ],
    )
    async def test_process_pool(
        self, sandbox: Sandbox, job: dict[str, Any], directory: Path, context: str, is_encrypted: bool
    ) -> None:
        """Credentials and cache can be sent to the processes of a pool, which read the secrets in their environment."""
        if is_encrypted:
            job["environment"] |= {"SIMPLESTORE_CACHE_KEY": Fernet.generate_key().decode()}
        results = await swarm.run("pool", **job, processes=2, context=context)

        assert [results[0]] * 3 == results
        assert 1 == sandbox.counters.token_requests
        (path,) = directory.glob("token-*.json")
        assert is_encrypted != (results[0]["token"].encode() in path.read_bytes())
