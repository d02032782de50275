"""Many processes of many hosts over one Redis: real processes, and a real Valkey."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import swarm
from tests.support.redis_server import Proxy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.redis_server import RedisServer
    from tests.support.servers import TokenServer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

# No test waits so long: where this is the bound, no test has waited for it.
PATIENT: dict[str, Any] = {"lock_seconds": 600, "budget_seconds": 900, "cache_seconds": 60}


@pytest.fixture
def job(
    redis_server: RedisServer, token_server: TokenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Arguments common to all processes of a test."""
    monkeypatch.setenv("SIMPLESTORE_REDIS_URL", redis_server.patient_url)
    return {"directory": tmp_path, "token_url": token_server.token_url, "policy": PATIENT}


def found(results: list[Any]) -> list[tuple[str, list[str]]]:
    return [(result["token"], result["failures"]) for result in results]


async def test_groups_at_once(token_server: TokenServer, job: dict[str, Any]) -> None:
    """Four groups of 25 processes that start at once make one token request, and share the token."""
    groups = await asyncio.gather(*(swarm.run("get_token", **job, processes=25) for _ in range(4)))
    results = [result for group in groups for result in group]

    assert [("canary-token-1", [])] * 100 == found(results)
    assert {"cache": 99, "endpoint": 1} == Counter(source for result in results for source in result["sources"])
    assert 1 == len(token_server.requests)


async def test_holder_is_slow(token_server: TokenServer, redis_server: RedisServer, job: dict[str, Any]) -> None:
    """While the endpoint takes its time, fifty processes wait for the one that asks it."""
    token_server.gate.clear()
    running = await swarm.start("get_token", **job, processes=50)
    await token_server.arrived.wait()
    while await count_waiters(redis_server) < 49:
        await asyncio.sleep(0.01)  # other processes set no event
    token_server.gate.set()

    assert [("canary-token-1", [])] * 50 == found(await running.results())
    assert 1 == len(token_server.requests)


async def count_waiters(server: RedisServer) -> int:
    channels = await server.command("PUBSUB", "CHANNELS")
    counts = await server.command("PUBSUB", "NUMSUB", *channels)
    return int(sum(counts[1::2]))


async def test_holder_is_killed(token_server: TokenServer, job: dict[str, Any]) -> None:
    """When the renewing process is killed, the others renew as soon as the policy allows, and report why."""
    token_server.gate.clear()
    holder = await swarm.start("get_token", **job)
    await token_server.arrived.wait()
    token_server.gate.set()
    holder.process.kill()
    await holder.process.communicate()
    (other,) = await swarm.run("get_token", **job | {"policy": PATIENT | {"lock_seconds": 0.2}})

    (failure,) = other["failures"]
    assert failure.startswith("lock: another process held it for longer than")
    assert "canary-token-2" == other["token"]


@pytest.mark.slow  # the whole lease passes
async def test_holder_is_cut_off(token_server: TokenServer, redis_server: RedisServer, job: dict[str, Any]) -> None:
    """When the holder's host is cut off in mid-renewal, the others have one token within the lease, by one request."""
    async with Proxy(redis_server.path) as network:
        token_server.gate.clear()
        with pytest.MonkeyPatch.context() as its_own:
            its_own.setenv("SIMPLESTORE_REDIS_URL", network.url.partition("?")[0])
            holder = await swarm.start("get_token", **job, lease_seconds=3)
        await token_server.arrived.wait()
        network.gate.clear()
        network.way_out.clear()
        others = await swarm.start("get_token", **job, processes=25, lease_seconds=3)
        token_server.arrived.clear()
        await token_server.arrived.wait()
        token_server.gate.set()
        results = await others.results()
        (cut_off,) = await holder.results()

    assert [results[0]["token"]] * 25 == [result["token"] for result in results]
    assert [[]] * 25 == [result["failures"] for result in results]
    assert {"canary-token-1", "canary-token-2"} == {results[0]["token"], cut_off["token"]}
    assert ["set"] == [failure.partition(":")[0] for failure in cut_off["failures"]]
    assert 2 == len(token_server.requests)
