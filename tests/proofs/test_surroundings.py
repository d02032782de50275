"""Programs that wait for tokens in threads, and that run one event loop inside another."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from simplestore_async import FileTokenCache, SecretFile
from tests.support.programs import run_script
from tests.support.servers import SECRET

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.servers import TokenServer


async def test_threads_that_wait_for_a_token(token_server: TokenServer, tmp_path: Path) -> None:
    """All threads of the default executor can wait for one token whose secret and cache are files."""
    secret_file = tmp_path / "secret"
    secret_file.write_text(SECRET)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(3))
    credentials = token_server.credentials(client_secret=SecretFile(secret_file))
    async with token_server.provider(cache=FileTokenCache(tmp_path / "cache"), credentials=credentials) as provider:

        def work() -> str:
            return str(asyncio.run_coroutine_threadsafe(provider.get_token(), loop).result(30).value)

        tokens = await asyncio.gather(*(asyncio.to_thread(work) for _ in range(6)))

    assert ["canary-token-1"] * 6 == tokens


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


async def test_nested_loops(token_server: TokenServer) -> None:
    """With nest_asyncio2, which lets one loop run inside itself, both levels share the token."""
    environment = {"SIMPLESTORE_CLIENT_ID": "app", "SIMPLESTORE_CLIENT_SECRET": "secret"}
    words = await run_script(_NESTED_LOOPS, environment | {"SIMPLESTORE_TOKEN_URL": token_server.token_url})

    assert "canary-token-1 canary-token-1 canary-token-1" == words
    assert 1 == len(token_server.requests)
