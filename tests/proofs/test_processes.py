"""Many processes over one directory or one Redis: real ones, which are forked, spawned, stopped and killed."""
# ruff: noqa: ASYNC240 - the loop of these tests runs nothing else

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from cryptography.fernet import Fernet

from simplestore_async import ClientCredentials, FileTokenCache, RenewalPolicy, TokenProvider
from simplestore_async.caches.redis import RedisTokenCache
from simplestore_async.events import CacheFailed, Event
from tests.support import swarm
from tests.support.platforms import needs_fork

if TYPE_CHECKING:
    from pathlib import Path

    from simplestore_async import AccessToken, SharedTokenCache
    from tests.support.redis_server import RedisServer
    from tests.support.servers import ApiServer, TokenServer

pytestmark = needs_fork

# No test waits so long: where this is the bound, no test has waited for it.
PATIENT: dict[str, Any] = {"cache_seconds": 600, "lock_seconds": 600, "budget_seconds": 900}
PATIENT_ATTEMPTS = {"attempt_seconds": 600, "budget_seconds": 900}
LEASE_SECONDS = 3
on_each_store = pytest.mark.parametrize("cache", ["directory", "redis"], indirect=True)
# Other tests of the default run prove that its lock holds between processes.
redis_in_slow_runs = pytest.mark.parametrize(
    "cache", ["directory", pytest.param("redis", marks=pytest.mark.slow)], indirect=True
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(request: pytest.FixtureRequest, directory: Path, monkeypatch: pytest.MonkeyPatch) -> SharedTokenCache:
    """The cache that all processes of a test share; a directory by default."""
    if getattr(request, "param", "directory") == "directory":
        return FileTokenCache(directory)
    server: RedisServer = request.getfixturevalue("redis_server")
    monkeypatch.setenv("SIMPLESTORE_REDIS_URL", server.patient_url)
    return RedisTokenCache.from_env()


@pytest.fixture
def job(cache: SharedTokenCache, directory: Path, token_server: TokenServer) -> dict[str, Any]:
    """Arguments common to all processes of a test."""
    return {
        "directory": directory,
        "token_url": token_server.token_url,
        "policy": PATIENT,
        "retry": PATIENT_ATTEMPTS,
    }


def found(results: list[Any]) -> list[tuple[str, list[str]]]:
    return [(result["token"], result["failures"]) for result in results]


@on_each_store
@pytest.mark.parametrize("processes", [10, pytest.param(50, marks=pytest.mark.slow)])
async def test_all_at_once(token_server: TokenServer, job: dict[str, Any], processes: int) -> None:
    """Processes that start at once on an empty cache make one token request, and share the token."""
    groups = await asyncio.gather(*(swarm.run("get_token", **job, processes=processes // 2) for _ in range(2)))
    results = [result for group in groups for result in group]

    assert [("canary-token-1", [])] * processes == found(results)
    sources = Counter(source for result in results for source in result["sources"])
    assert {"cache": processes - 1, "endpoint": 1} == sources
    assert 1 == len(token_server.requests)


@redis_in_slow_runs  # there its lease has to pass first
async def test_holder_is_killed(token_server: TokenServer, job: dict[str, Any], directory: Path) -> None:
    """When the process that renews is killed, the next one renews for all: at once, or within the lease in Redis."""
    token_server.gate.clear()
    holder = await swarm.start("get_token", **job, lease_seconds=LEASE_SECONDS)
    await token_server.arrived.wait()
    token_server.arrived.clear()
    others = await swarm.start("get_token", **job, lease_seconds=LEASE_SECONDS, processes=5)
    holder.process.kill()
    await holder.process.communicate()
    await token_server.arrived.wait()
    token_server.gate.set()
    results = await others.results()

    # The first one was granted to a process that was gone.
    assert [("canary-token-2", [])] * 5 == found(results)
    assert 2 == len(token_server.requests)
    assert {path.suffix for path in directory.glob("*")} <= {".json", ".lock"}


@redis_in_slow_runs
async def test_holder_is_stopped(token_server: TokenServer, job: dict[str, Any]) -> None:
    """While the renewing process is stopped, others wait as long as the policy allows, then renew and report why."""
    token_server.gate.clear()
    holder = await swarm.start("get_token", **job)
    await token_server.arrived.wait()
    holder.process.send_signal(signal.SIGSTOP)
    token_server.gate.set()
    (other,) = await swarm.run("get_token", **job | {"policy": PATIENT | {"lock_seconds": 0.2}})
    holder.process.send_signal(signal.SIGCONT)
    (late,) = await holder.results()

    assert "canary-token-2" == other["token"]
    (failure,) = other["failures"]
    assert failure.startswith("lock: another process held it for longer than"), failure
    assert "canary-token-1" == late["token"]
    assert 2 == len(token_server.requests)


@redis_in_slow_runs
async def test_holder_is_slow(token_server: TokenServer, job: dict[str, Any], cache: SharedTokenCache) -> None:
    """While the endpoint is slow, another process waits for the one that renews."""
    token_server.gate.clear()
    holder = await swarm.start("get_token", **job)
    await token_server.arrived.wait()
    events: list[Event] = []
    watched = WatchedCache(cache)
    credentials = ClientCredentials(client_id="app", client_secret="s", token_url=token_server.token_url)
    policy = RenewalPolicy(**PATIENT)
    async with TokenProvider(credentials, cache=watched, policy=policy, on_event=events.append) as provider:
        caller = asyncio.create_task(provider.get_token())
        await watched.is_locked.wait()
        token_server.gate.set()
        token = await caller
    (result,) = await holder.results()

    assert "canary-token-1" == token.value == result["token"]
    assert [] == [event for event in events if isinstance(event, CacheFailed)]
    assert 1 == len(token_server.requests)


class WatchedCache:
    """A cache that signals when it is about to wait for its lock."""

    def __init__(self, cache: SharedTokenCache) -> None:
        self._cache = cache
        self.is_locked = asyncio.Event()

    async def get(self, key: str, /) -> AccessToken | None:
        return await self._cache.get(key)

    async def set(self, key: str, token: AccessToken, /) -> None:
        await self._cache.set(key, token)

    def renewal_lock(self, key: str, /) -> Any:
        self.is_locked.set()
        return self._cache.renewal_lock(key)


async def test_rejected_token(token_server: TokenServer, job: dict[str, Any]) -> None:
    """Processes that have the same token rejected replace it by one request, and take each other's replacement."""
    await swarm.run("get_token", **job)
    results = await swarm.run("replace_rejected", **job, processes=4)

    # One that comes late finds the replacement already, has that one rejected, and keeps it: see below.
    assert {"canary-token-2"} == {result["token"] for result in results}
    assert [result["rejected"] == "canary-token-1" for result in results] == [
        result["is_replaced"] for result in results
    ]
    assert 2 == len(token_server.requests)


async def test_api_that_rejects_every_token(
    token_server: TokenServer, api_server: ApiServer, job: dict[str, Any]
) -> None:
    """Four processes that send ten requests each to an API that rejects all make three token requests at most."""
    api_server.handler = reject
    # As if all of it took less than 5 s, on whichever machine.
    policy = PATIENT | {"rejection_seconds": 600}
    results = await swarm.run("send_requests", **job | {"policy": policy}, api_url=api_server.url, processes=4)

    assert [[401] * 10] * 4 == [result["statuses"] for result in results]
    assert len(token_server.requests) <= 3
    sent: dict[str, list[str]] = {}
    for request in api_server.requests:
        sent.setdefault(request.headers["X-Request"], []).append(request.headers["Authorization"])
    assert 40 == len(sent)
    assert all(len(tokens) == len(set(tokens)) <= 2 for tokens in sent.values())


async def reject(_request: web.Request) -> web.Response:
    return web.Response(status=401)


class TestFork:
    async def test_provider_that_was_used_before(self, token_server: TokenServer, job: dict[str, Any]) -> None:
        """A provider that is used, forked, and used again by parent and children serves all of them.

        As in a server that loads the application before it forks its workers. The children replace the token that they
        inherited by one request, and so does the parent after them, which takes theirs.
        """
        results = await swarm.run("use_again", **job, processes=2)

        assert [{"before": "canary-token-1", "after": ["canary-token-2"]}] * 3 == results
        assert 2 == len(token_server.requests)

    @pytest.mark.parametrize(
        ("context", "is_encrypted"),
        [
            ("forkserver", True),
            pytest.param("fork", False, marks=pytest.mark.slow),
            pytest.param("spawn", False, marks=pytest.mark.slow),
        ],
    )
    async def test_process_pool(
        self, token_server: TokenServer, job: dict[str, Any], directory: Path, context: str, is_encrypted: bool
    ) -> None:
        """Credentials and cache may be sent to a pool's processes, which read their values in the environment."""
        environment = {"SIMPLESTORE_CLIENT_SECRET": "secret"}
        if is_encrypted:
            environment["SIMPLESTORE_CACHE_KEY"] = Fernet.generate_key().decode()
        results = await swarm.run("pool", **job, processes=2, context=context, environment=environment)

        assert [{"token": "canary-token-1"}] * 3 == results
        assert 1 == len(token_server.requests)
        (path,) = directory.glob("token-*.json")
        assert is_encrypted != (b"canary" in path.read_bytes())
