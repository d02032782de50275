"""The README is true: the tests that it names exist, and its examples run."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from simplestore_async.sandbox import Sandbox

TESTS = Path(__file__).parent
README = (TESTS.parent / "README.md").read_text("utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
GUARANTEES = re.findall(r"\[`(test_\w+\.py)(?:::(\w+))?`\]\((tests/\w+\.py)\)", README)


def example(start: str) -> str:
    [code] = [str(code) for code in EXAMPLES if start in code]
    return code


def test_guarantees_are_listed() -> None:
    """The table of guarantees is there to be checked."""
    assert len(GUARANTEES) >= 15


@pytest.mark.parametrize(("file", "name", "link"), GUARANTEES)
def test_guarantee_has_its_test(file: str, name: str, link: str) -> None:
    """A guarantee links to the file that proves it, and names a test in it."""
    assert f"tests/{file}" == link
    source = (TESTS / file).read_text("utf-8")
    assert not name or re.search(rf"^\s*(async def|def|class) {name}\b", source, re.MULTILINE)


@pytest.mark.parametrize("code", EXAMPLES, ids=range(len(EXAMPLES)))
def test_example_is_python(code: str) -> None:
    """Every example compiles; `await` may stand outside a function, as in a notebook."""
    compile(code, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


async def test_batch_example(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch job makes one token request for all of its tasks."""
    code, _, _ = example("asyncio.gather").partition("asyncio.run(")
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - our own README
    async with Sandbox() as sandbox:
        for name, value in sandbox.environment.items():
            monkeypatch.setenv(name, value)
        replies = await names["main"]([f"orders/{number}" for number in range(100)])

        assert 100 == len(replies)
        assert (1, 100) == (sandbox.counters.token_requests, sandbox.counters.api_requests)


async def test_sandbox_example() -> None:
    """The example of a test is one."""
    body = textwrap.indent(example("sandbox.revoke_all()"), "    ")
    names: dict[str, Any] = {}
    source = f"from simplestore_async import open_session\nasync def scenario():\n{body}"
    exec(source, names)  # noqa: S102 - our own README
    await names["scenario"]()
