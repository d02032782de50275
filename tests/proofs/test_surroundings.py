"""Where programs run the package: on other loops, in notebooks, in threads, behind servers that fork."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from simplestore_async import FileTokenCache, SecretFile
from tests.support.programs import run_script
from tests.support.servers import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from simplestore_async import AccessToken, TokenProvider
    from tests.support.servers import TokenServer

LOOPS: list[Any] = [pytest.param(asyncio.new_event_loop, id="asyncio")]

if sys.platform != "win32":
    import uvloop

    LOOPS.append(pytest.param(uvloop.new_event_loop, id="uvloop"))

if sys.version_info >= (3, 12):

    def new_eager_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    LOOPS.append(pytest.param(new_eager_loop, id="eager"))


@pytest.fixture
def cache(tmp_path: Path) -> FileTokenCache:
    return FileTokenCache(tmp_path / "cache")


@pytest.fixture
def secret_file(tmp_path: Path) -> SecretFile:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    return SecretFile(path)


async def in_thread(work: Callable[[], Any]) -> Any:
    """Run *work* in a thread outside the default executor, while this loop keeps running."""
    with ThreadPoolExecutor(1) as threads:
        return await asyncio.get_running_loop().run_in_executor(threads, work)


def run(
    coroutine: Coroutine[Any, Any, Any], new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
) -> Any:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(coroutine)


@pytest.mark.parametrize("new_loop", LOOPS)
async def test_one_run_after_the_other(
    token_server: TokenServer, cache: FileTokenCache, secret_file: SecretFile, new_loop: Any
) -> None:
    """A program that calls `asyncio.run()` again and again keeps one provider, one token, one thread for files."""
    provider = token_server.provider(cache=cache, credentials=token_server.credentials(client_secret=secret_file))

    async def call() -> AccessToken:
        tokens = await asyncio.gather(*(provider.get_token() for _ in range(20)))
        assert 1 == len(set(map(id, tokens)))
        return tokens[0]

    def work() -> set[str]:
        return {run(call(), new_loop).value for _ in range(30)} | {run(replace(provider), new_loop).value}

    assert {"canary-token-1", "canary-token-2"} == await in_thread(work)
    assert 2 == len(token_server.requests)


async def replace(provider: TokenProvider) -> AccessToken:
    provider.invalidate(await provider.get_token())
    return await provider.get_token()


@pytest.mark.parametrize("new_loop", LOOPS)
async def test_four_threads_at_once(token_server: TokenServer, cache: FileTokenCache, new_loop: Any) -> None:
    """Four cold threads over one provider and one directory make one request: its lock also excludes threads."""
    provider = token_server.provider(cache=cache)
    barrier = threading.Barrier(4)

    def work(_number: int) -> str:
        barrier.wait(10)
        return str(run(provider.get_token(), new_loop).value)

    with ThreadPoolExecutor(4) as threads:
        loop = asyncio.get_running_loop()
        tokens = await asyncio.gather(*(loop.run_in_executor(threads, work, number) for number in range(4)))

    assert ["canary-token-1"] * 4 == tokens
    assert 1 == len(token_server.requests)


async def test_threads_that_wait_for_a_token(
    token_server: TokenServer, cache: FileTokenCache, secret_file: SecretFile
) -> None:
    """All threads of the default executor may wait for one token, while it is asked for with files and a callable."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(3))
    credentials = token_server.credentials(client_secret=secret_file)
    async with token_server.provider(cache=cache, credentials=credentials) as provider:

        def work() -> str:
            return str(asyncio.run_coroutine_threadsafe(provider.get_token(), loop).result(30).value)

        tokens = await asyncio.gather(*(asyncio.to_thread(work) for _ in range(6)))

    assert ["canary-token-1"] * 6 == tokens


class TestNotebook:
    async def test_cells(self, token_server: TokenServer) -> None:
        """Cells are tasks of one loop that runs for hours: one opens the provider, others use it, one closes it."""
        kept: dict[str, Any] = {}

        async def first_cell() -> None:
            kept["provider"] = await token_server.provider().__aenter__()

        async def second_cell() -> None:
            kept["token"] = await kept["provider"].get_token()

        async def third_cell() -> None:
            assert kept["token"] is await kept["provider"].get_token()

        async def last_cell() -> None:
            await kept["provider"].aclose()

        for cell in (first_cell, second_cell, third_cell, last_cell):
            await asyncio.create_task(cell())
        assert 1 == len(token_server.requests)

    async def test_interrupted_cell(self, token_server: TokenServer) -> None:
        """A cell that is interrupted while it waits for a token spoils nothing for the next one."""
        token_server.gate.clear()
        async with token_server.provider() as provider:
            cell = asyncio.create_task(provider.get_token())
            await token_server.arrived.wait()
            cell.cancel()
            await asyncio.wait([cell])
            token_server.gate.set()

            assert "canary-token-1" == (await provider.get_token()).value
        assert 1 == len(token_server.requests)

    async def test_plain_function_that_runs_a_loop_of_its_own(self, token_server: TokenServer) -> None:
        """A cell's plain function may stop the cell's loop in mid-renewal, run another one, and get a token there."""
        provider = token_server.provider()
        server_loop = asyncio.get_running_loop()
        token_server.gate.clear()

        async def cell() -> list[str]:
            renewal = asyncio.create_task(provider.get_token())
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(token_server.arrived.wait(), server_loop))
            server_loop.call_soon_threadsafe(token_server.gate.set)
            with ThreadPoolExecutor(1) as threads:
                inner = threads.submit(run, provider.get_token()).result(30)  # the cell's loop stands still meanwhile
            return [(await renewal).value, inner.value]

        tokens = await in_thread(lambda: run(cell()))

        # The one that was asked for later is newer, whichever comes first.
        assert {"canary-token-1", "canary-token-2"} >= set(tokens)
        assert 2 == len(token_server.requests)

    async def test_nested_loops(self, token_server: TokenServer) -> None:
        """With nest_asyncio2, which lets one loop run inside itself, both levels share the token."""
        environment = {"SIMPLESTORE_CLIENT_ID": "app", "SIMPLESTORE_CLIENT_SECRET": "secret"}
        words = await run_script(_NESTED_LOOPS, environment | {"SIMPLESTORE_TOKEN_URL": token_server.token_url})

        assert "canary-token-1 canary-token-1 canary-token-1" == words
        assert 1 == len(token_server.requests)


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


@pytest.mark.skipif(sys.platform == "win32", reason="gunicorn needs fork")
async def test_gunicorn_that_loads_before_it_forks(token_server: TokenServer, tmp_path: Path) -> None:
    """Behind `gunicorn --preload` the workers inherit a provider that was used, and replace its token by one request.

    Each says who it is and which token it has then, until all three have spoken.
    """
    socket = tmp_path / "socket"
    environment = {
        "SIMPLESTORE_CLIENT_ID": "app",
        "SIMPLESTORE_CLIENT_SECRET": "secret",
        "SIMPLESTORE_TOKEN_URL": token_server.token_url,
        "CACHE_FOLDER": str(tmp_path / "cache"),
        "PYTHONWARNINGS": "ignore::DeprecationWarning",
    }
    command = ["gunicorn", "--preload", "--workers=3", "--worker-class=aiohttp.GunicornWebWorker"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *command, f"--bind=unix:{socket}", "tests.support.preloaded_app:app"),
        env=os.environ | environment,
        cwd=Path(__file__).parents[2],
        stderr=asyncio.subprocess.PIPE,
    )
    tokens: dict[int, str] = {}
    try:
        async with asyncio.timeout(60):
            assert process.stderr is not None
            lines: list[bytes] = []
            while not lines or b"Listening" not in lines[-1]:
                lines.append(await process.stderr.readline())
                assert lines[-1], b"".join(lines).decode()  # it has ended
            while len(tokens) < 3:
                # A connection for each request: any of the workers takes it.
                async with (
                    aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as session,
                    session.get("http://gunicorn/") as response,
                ):
                    words = await response.json()
                tokens[words["worker"]] = words["token"]
    finally:
        process.terminate()
        await process.communicate()

    assert ["canary-token-2"] * 3 == list(tokens.values())
    assert 2 == len(token_server.requests)
