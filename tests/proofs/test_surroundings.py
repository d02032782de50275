"""Programs that wait for tokens in threads, and that run one event loop inside another."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import attrs

from simplestore_async import FileTokenCache, SecretFile, TokenProvider
from tests.support.programs import run_script

if TYPE_CHECKING:
    from pathlib import Path

    from simplestore_async.sandbox import Sandbox


async def test_threads_that_wait_for_a_token(sandbox: Sandbox, tmp_path: Path) -> None:
    """All threads of the default executor can wait for one token whose secret and cache are files."""
    (tmp_path / "secret").write_text(sandbox.environment["SIMPLESTORE_CLIENT_SECRET"])
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(3))
    credentials = attrs.evolve(sandbox.credentials, client_secret=SecretFile(tmp_path / "secret"))
    async with TokenProvider(credentials, cache=FileTokenCache(tmp_path / "cache")) as provider:

        def work() -> str:
            return str(asyncio.run_coroutine_threadsafe(provider.get_token(), loop).result(30).value)

        tokens = await asyncio.gather(*(asyncio.to_thread(work) for _ in range(6)))

    assert 1 == len(set(tokens)) == sandbox.counters.token_requests


_NESTED_LOOPS = """
import asyncio, nest_asyncio2
from simplestore_async import TokenProvider

async def cell():
    renewal = asyncio.create_task(provider.get_token())
    await asyncio.sleep(0)
    inner = asyncio.get_running_loop().run_until_complete(provider.get_token())
    again = asyncio.run(provider.get_token())
    print((await renewal).value, inner.value, again.value)

nest_asyncio2.apply()
provider = TokenProvider()
asyncio.run(cell())
"""


async def test_nested_loops(sandbox: Sandbox) -> None:
    """With nest_asyncio2, which lets a loop run inside itself, both levels share the token."""
    words = await run_script(_NESTED_LOOPS, sandbox.environment)

    assert 3 == len(words.split())
    assert 1 == len(set(words.split())) == sandbox.counters.token_requests
