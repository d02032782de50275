"""The README is true: the tests that it names exist, and its examples run."""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from pages_from_code.badges import draw_badges

from simplestore_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import aiohttp

    from simplestore_async.sandbox import MovableClock

ROOT = Path(__file__).parents[2]
BADGES = ROOT / "docs" / "_static" / "badges"
README = (ROOT / "README.md").read_text("utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
GUARANTEES = re.findall(r"\[`(test_\w+\.py)(?:::(\w+))?`\]\((tests/[\w/]+\.py)\)", README)


def example(start: str) -> str:
    [code] = [str(code) for code in EXAMPLES if start in code]
    return code


def test_guarantees_are_listed() -> None:
    """The table of guarantees is there to be checked."""
    assert len(GUARANTEES) >= 15


@pytest.mark.parametrize(("file", "name", "link"), GUARANTEES)
def test_guarantee_has_its_test(file: str, name: str, link: str) -> None:
    """A guarantee links to the file that proves it, and names a test in it."""
    assert link.endswith(f"/{file}")
    source = (ROOT / link).read_text("utf-8")
    assert not name or re.search(rf"^\s*(async def|def|class) {name}\b", source, re.MULTILINE)


def test_badges_are_true() -> None:
    """Each badge is what the build's own settings draw, and is told to those who cannot see it."""
    shown = dict(re.findall(r"!\[([^\]]+)\]\(docs/_static/badges/(\w+)\.svg\)", README))
    drawn = draw_badges()
    assert set(drawn) == set(shown.values())
    for text, name in shown.items():
        assert drawn[name] == (BADGES / f"{name}.svg").read_text("utf-8")
        assert f"<title>{text}</title>" in drawn[name]


@pytest.mark.skipif(sys.platform == "win32", reason="it has no pseudo-terminals")
def test_picture_of_a_command() -> None:
    """A command is drawn as a terminal showed it in the end: what was erased is gone, and no other host is asked."""
    from pages_from_code.terminal import draw_screen, run_in_terminal

    program = r"print('gone'); print('\x1b[1A\x1b[2K\x1b[32mstays\x1b[0m')"
    command = [sys.executable, "-c", program]
    exit_code, printed = run_in_terminal(command)
    picture = draw_screen(["show"], printed)

    assert 0 == exit_code
    assert ["show", "$&#160;show", "stays"] == re.findall(r">([^<>\n]+)</text>", picture)
    assert ["http://www.w3.org/2000/svg"] == re.findall(r"https?://[^\"]*", picture)


@pytest.mark.parametrize("code", EXAMPLES, ids=range(len(EXAMPLES)))
def test_example_is_python(code: str) -> None:
    """Every example compiles; `await` may stand outside a function, as in a notebook."""
    compile(code, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest_asyncio.fixture
async def sandbox(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sandbox]:
    """A sandbox that the environment leads to."""
    async with Sandbox() as sandbox:
        for name, value in sandbox.environment.items():
            monkeypatch.setenv(name, value)
        yield sandbox


def main_of(code: str) -> Callable[..., Any]:
    """Return the `main` of an example, which is left to run on the loop of the test."""
    names: dict[str, Any] = {}
    exec(code.partition("asyncio.run(")[0], names)  # noqa: S102 - our own README
    main: Callable[..., Any] = names["main"]
    return main


async def test_first_example(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """The first program prints what the API says."""
    await main_of(example("async def main(path)"))("orders/42")

    assert capsys.readouterr().out.startswith('200 {"method": "GET", "path": "/api/orders/42"')
    assert (1, 1) == (sandbox.counters.token_requests, sandbox.counters.api_requests)


async def test_batch_example(sandbox: Sandbox) -> None:
    """The batch job makes one token request for all of its tasks."""
    replies = await main_of(example("asyncio.gather"))([f"orders/{number}" for number in range(100)])

    assert 100 == len(replies)
    assert (1, 100) == (sandbox.counters.token_requests, sandbox.counters.api_requests)


async def test_sandbox_example() -> None:
    """The example of a test is one."""
    body = textwrap.indent(example("sandbox.revoke_all()"), "    ")
    names: dict[str, Any] = {}
    source = f"from simplestore_async import open_session\nasync def scenario():\n{body}"
    exec(source, names)  # noqa: S102 - our own README
    await names["scenario"]()


async def test_pytest_example(
    simplestore_sandbox: Sandbox, simplestore_session: aiohttp.ClientSession, simplestore_clock: MovableClock
) -> None:
    """The example of the fixtures is a test, too."""
    names: dict[str, Any] = {}
    exec(example("simplestore_clock.advance"), names)  # noqa: S102 - our own README
    await names["test_orders"](simplestore_sandbox, simplestore_session, simplestore_clock)
    assert 1 == simplestore_sandbox.counters.api_requests
