"""README: its programs run as pasted, its links lead somewhere, its pictures are real."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp.test_utils import TestClient, TestServer

from tests.support.command import finish, start
from tests.support.platforms import needs_posix

if TYPE_CHECKING:
    from simplestore_async.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PROGRAMS = ROOT / "examples" / "readme"


def test_snippets_are_the_programs() -> None:
    """Each snippet is a file among the examples, word for word, and each of these files is a snippet."""
    snippets = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert {path.read_text("utf-8") for path in PROGRAMS.glob("*.py")} == set(snippets)


def test_links_lead_somewhere() -> None:
    """A link leads to a file of the repository."""
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", README) if not link.startswith("https://")]
    assert [] == [link for link in links if not (ROOT / link.partition("#")[0]).exists()]


async def run(*command: str, directory: Path) -> str:
    """Run a program in an empty directory, with warnings as errors, and return its output."""
    environment = os.environ | {"XDG_CACHE_HOME": str(directory / "cache"), "HOME": str(directory)}
    command = sys.executable, "-W", "error", *command
    outcome = await finish(await start(*command, environment=environment, directory=directory))
    assert (0, "") == (outcome.code, outcome.stderr), outcome.stdout
    return outcome.stdout


async def test_first_request(simplestore_sandbox: Sandbox, tmp_path: Path) -> None:
    """The first program prints the API's response."""
    printed = await run(str(PROGRAMS / "first_request.py"), directory=tmp_path)
    assert printed.startswith('200 {"method": "GET", "path": "/api/orders/42"')
    assert (1, 1) == (simplestore_sandbox.counters.token_requests, simplestore_sandbox.counters.api_requests)


@pytest.mark.usefixtures("simplestore_sandbox")
async def test_service() -> None:
    """The service passes on the API's response."""
    app = runpy.run_path(str(PROGRAMS / "service.py"))["create_app"]()
    async with TestClient(TestServer(app)) as client, client.get("/") as response:
        assert "/api/orders/42" == (await response.json())["path"]


@pytest.mark.parametrize("count", [100, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_concurrent_requests(simplestore_sandbox: Sandbox, tmp_path: Path, count: int) -> None:
    """As many tasks as there are requests make one token request."""
    program = tmp_path / "program.py"
    program.write_text(
        (PROGRAMS / "concurrent_requests.py").read_text("utf-8").replace("range(10_000)", f"range({count})")
    )
    assert f"{count} requests sent\n" == await run(str(program), directory=tmp_path)
    assert (1, count) == (simplestore_sandbox.counters.token_requests, simplestore_sandbox.counters.api_requests)


async def test_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test passes next to the service, with nothing but the package's own plugin."""
    for name in ("service.py", "test_service.py"):
        shutil.copy(PROGRAMS / name, tmp_path)
    (tmp_path / "pytest.ini").touch()  # no settings of a directory above
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    plugins = "-p", "simplestore_async._pytest_plugin"
    assert "1 passed" in await run("-m", "pytest", "-q", *plugins, directory=tmp_path)


@needs_posix
def test_picture_of_a_command() -> None:
    """A picture of a command shows the terminal's final state: erased text is gone, and no other host is contacted."""
    from pages_from_code.terminal import draw_screen, run_in_terminal

    program = r"print('gone'); print('\x1b[1A\x1b[2K\x1b[32mstays\x1b[0m')"
    command = [sys.executable, "-c", program]
    exit_code, printed = run_in_terminal(command)
    picture = draw_screen(["show"], printed)

    assert 0 == exit_code
    assert ["show", "$&#160;show", "stays"] == re.findall(r">([^<>\n]+)</text>", picture)
    assert ["http://www.w3.org/2000/svg"] == re.findall(r"https?://[^\"]*", picture)
