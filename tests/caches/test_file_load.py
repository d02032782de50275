"""`FileTokenCache` under load."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from simplestore_async import FileTokenCache, RenewalPolicy, TokenProvider
from simplestore_async.events import CacheFailed
from tests.support.tokens import make_token

if TYPE_CHECKING:
    from pathlib import Path

    from simplestore_async.sandbox import Sandbox


# Time for a busy machine: only the limit of a single operation is kept, and the queue outlasts it.
PATIENT = RenewalPolicy(budget_seconds=600, lock_seconds=600, cache_seconds=5)


@pytest.mark.parametrize(("clients", "delay_seconds"), [(60, 0.01), pytest.param(200, 0.03, marks=pytest.mark.slow)])
async def test_many_clients(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clients: int, delay_seconds: float
) -> None:
    """Many clients that share a slow directory each store their token, and none requests another."""
    cache, failures = FileTokenCache(tmp_path), list[CacheFailed]()
    open_file = os.open

    def open_slowly(*arguments: Any, **options: Any) -> int:
        time.sleep(delay_seconds if "token" in str(arguments[0]) else 0)
        return open_file(*arguments, **options)

    monkeypatch.setattr(os, "open", open_slowly)
    for number in range(clients):
        sandbox.add_client(f"client-{number}", client_secret="secret")

    def record_failure(event: object) -> None:
        if isinstance(event, CacheFailed):
            failures.append(event)

    async def use(number: int) -> None:
        credentials = sandbox.credentials_of(f"client-{number}")
        async with TokenProvider(credentials, cache=cache, policy=PATIENT, on_event=record_failure) as provider:
            await provider.get_token()

    await asyncio.gather(*map(use, range(clients)))
    await cache.get("after the stores")
    assert clients == len([name for name in os.listdir(tmp_path) if name.endswith(".json")])  # noqa: PTH208
    before = sandbox.counters.token_requests

    await asyncio.gather(*map(use, range(clients)))
    assert before == sandbox.counters.token_requests
    assert [] == [failure for failure in failures if failure.operation == "get"]


_DEAD_MOUNT = """
import asyncio, sys, threading
from simplestore_async import FileTokenCache, RenewalPolicy

class Codec:
    def encode(self, data, /):
        threading.Event().wait()

    decode = encode

async def main():
    async with asyncio.timeout(0.1):
        await FileTokenCache(sys.argv[1], codec=Codec()).get("key")

try:
    asyncio.run(main())
except TimeoutError:
    print("ended")
"""


async def test_codec_that_hangs(tmp_path: Path) -> None:
    """A process can exit while a codec hangs."""
    await FileTokenCache(tmp_path).set("key", make_token())
    command = [sys.executable, "-c", _DEAD_MOUNT, str(tmp_path)]
    process = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)  # noqa: ASYNC221
    assert "ended\n" == process.stdout
