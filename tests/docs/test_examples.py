"""The examples, each run as a program against a real sandbox."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
from sqlite_cache import SQLiteTokenCache

from simplestore_async.sandbox import Sandbox, Status
from simplestore_async.testing import TokenCacheContract
from tests.support.command import finish, start
from tests.support.platforms import needs_posix_files, needs_unix_sockets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from simplestore_async import TokenCache

EXAMPLES = Path(__file__).parents[2] / "examples"


async def launch(*command: str, sandbox: Sandbox, home: Path) -> asyncio.subprocess.Process:
    """Start a program in the directory of examples, with a cache directory below *home*."""
    environment = sandbox.environment | {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    return await start(
        sys.executable, *command, environment=environment, directory=EXAMPLES, stdin=asyncio.subprocess.PIPE
    )


async def run(*command: str, sandbox: Sandbox, home: Path, stdin: str = "") -> str:
    """Return the output of a program that ends with success."""
    outcome = await finish(await launch(*command, sandbox=sandbox, home=home), stdin=stdin.encode())
    assert (0, "") == (outcome.code, outcome.stderr)
    return outcome.stdout


async def is_listening(socket: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(socket)
    except OSError:  # not there, or bound only
        return False
    writer.close()
    await writer.wait_closed()
    return True


@asynccontextmanager
async def serve(*command: str, socket: Path, sandbox: Sandbox, home: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """Run a service; yield a session to its socket."""
    process = await launch("-m", *command, sandbox=sandbox, home=home)
    try:
        async with aiohttp.ClientSession("http://service/", connector=aiohttp.UnixConnector(str(socket))) as session:
            while not await is_listening(socket):
                assert process.returncode is None
                await asyncio.sleep(0.02)  # another process sets no event
            yield session
    finally:
        if process.returncode is None:
            process.terminate()
        sys.stderr.write((await finish(process)).stderr)  # shown by pytest if the test fails


@pytest.fixture
def socket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A path that is short enough for a socket."""
    return tmp_path_factory.mktemp("s") / "s"


SERVICES = {
    "service_aiohttp": ["aiohttp.web", "service_aiohttp:create_app", "-U"],
    "service_fastapi": ["uvicorn", "service_fastapi:app", "--log-level=warning", "--uds"],
}


@needs_unix_sockets
@pytest.mark.parametrize("command", [pytest.param(command, id=name) for name, command in SERVICES.items()])
async def test_service(command: list[str], sandbox: Sandbox, socket: Path, tmp_path: Path) -> None:
    """A service passes on the API's response, and responds 503 with Retry-After while no token can be obtained."""
    async with serve(*command, str(socket), socket=socket, sandbox=sandbox, home=tmp_path) as session:
        async with session.get("stock/7") as response:
            assert "/api/stock/7" == (await response.json())["path"]
        if "service_fastapi:app" in command:
            async with session.get("health") as response:
                assert {"token": "ok"} == await response.json()
        sandbox.revoke_all()
        sandbox.fail_next(1, Status(400))
        async with session.get("stock/7") as response:
            assert (503, "1") == (response.status, response.headers["Retry-After"])
            assert "Control Panel" not in await response.text()
    assert 2 == sandbox.counters.token_requests


ORDERS = "".join(f'{{"id": "{number}/x"}}\n' for number in range(100))


@pytest.mark.parametrize(
    "row",
    [
        (["worker.py", "a", "b", "c"], "", "200 a\n200 b\n200 c\n", 3),
        (["order_management.py", "orders/{id}"], ORDERS, "100 orders sent\n", 100),
        (["product_supplier.py", "prices", __file__], "", "200\n", 1),
        (["client_httpx.py", "stock"], "", "200\n", 1),
    ],
    ids=lambda row: row[0][0],
)
async def test_program(sandbox: Sandbox, tmp_path: Path, row: tuple[list[str], str, str, int]) -> None:
    """A program sends everything with one token: jobs with their own event loops, orders, a file, a client of httpx."""
    command, stdin, printed, requests = row
    assert printed == await run(*command, sandbox=sandbox, home=tmp_path, stdin=stdin)
    assert (1, requests) == (sandbox.counters.token_requests, sandbox.counters.api_requests)


async def test_batch_job(sandbox: Sandbox, tmp_path: Path) -> None:
    """Several processes make one token request, send everything, and show progress."""
    command = ["batch_job.py", "stock", "--requests=100", "--processes=2"]
    said = await run(*command, sandbox=sandbox, home=tmp_path)
    assert said.endswith("200: 100\n")
    assert "Sending" in said
    assert (1, 100) == (sandbox.counters.token_requests, sandbox.counters.api_requests)


@needs_unix_sockets
@pytest.mark.slow
async def test_gunicorn_preload(sandbox: Sandbox, socket: Path, tmp_path: Path) -> None:
    """The workers use the token that the master obtained."""
    command = ["gunicorn", "--preload", "--workers=2", "--worker-class=aiohttp.GunicornWebWorker"]
    arguments = [f"--bind=unix:{socket}", "gunicorn_preload:app"]
    async with serve(*command, *arguments, socket=socket, sandbox=sandbox, home=tmp_path) as session:
        for _ in range(10):
            async with session.get("stock") as response:
                assert 200 == (await response.json())["status"]
    assert (1, 10) == (sandbox.counters.token_requests, sandbox.counters.api_requests)


@pytest.mark.parametrize("has_file", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["file", "vault"])
async def test_rotating_secret(sandbox: Sandbox, tmp_path: Path, *, has_file: bool) -> None:
    """A secret is read again for each renewal."""
    path = tmp_path / "secret"
    path.write_text(f"{sandbox.environment['SIMPLESTORE_CLIENT_SECRET']}\n")
    command = ["rotating_secret.py", *([str(path)] if has_file else [])]
    said = await run(*command, sandbox=sandbox, home=tmp_path, stdin="\n")
    assert "first token\nsecond token\n" == said
    assert (2, 0) == (sandbox.counters.tokens_issued, sandbox.counters.refusals)


class TestSQLiteTokenCache(TokenCacheContract):
    @pytest.fixture
    def cache(self, tmp_path: Path) -> TokenCache:
        return SQLiteTokenCache(tmp_path / "tokens.db")

    @pytest.mark.slow  # each of its hundred tokens reaches the disk
    async def test_many_tasks_with_keys_of_their_own(self, cache: TokenCache) -> None:
        await super().test_many_tasks_with_keys_of_their_own(cache)


@needs_posix_files
async def test_sqlite_cache_is_private(tmp_path: Path) -> None:
    """Other users cannot read the database."""
    path = tmp_path / "tokens.db"
    assert None is await SQLiteTokenCache(path).get("key")
    assert 0o600 == path.stat().st_mode & 0o777
