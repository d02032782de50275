"""Programs that run one event loop inside another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.programs import run_script

if TYPE_CHECKING:
    from simplestore_async.sandbox import Sandbox


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
