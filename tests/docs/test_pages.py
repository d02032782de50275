"""The documentation's code runs, page by page, with a sandbox and a Redis server."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sybil import Sybil
from sybil.parsers.myst import CodeBlockParser, SkipParser

from tests.support.command import command_server
from tests.support.pages import PAGES, ROOT
from tests.support.platforms import needs_posix

if TYPE_CHECKING:
    from sybil import Example

    from simplestore_async.sandbox import Sandbox


def run_python(example: Example) -> None:
    """Run a block as a notebook does: it may await at its top level."""
    source = "\n" * (example.line + example.parsed.line_offset) + example.parsed
    code = compile(source, example.path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    result = types.FunctionType(code, example.namespace)()
    if inspect.iscoroutine(result):
        example.namespace["runner"].run(result)


def run_shell(example: Example) -> None:
    """Run a block with a quicker `simplestore`; blocks in Python call the installed script."""
    server, _ = command_server()
    client = ROOT / "tests" / "support" / "command_client.py"
    function = f'simplestore() {{ "{sys.executable}" -SE "{client}" {server.fileno()} "$@"; }}\n'
    process = subprocess.run(
        ["/bin/sh", "-euc", function + str(example.parsed)],
        pass_fds=[server.fileno()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert 0 == process.returncode, process.stdout.decode()


SYBIL = Sybil(parsers=[CodeBlockParser("python", run_python), CodeBlockParser("sh", run_shell), SkipParser()])


@needs_posix
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_runs(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    simplestore_sandbox: Sandbox,
    request: pytest.FixtureRequest,
) -> None:
    """The blocks of a page run one after the other; the environment points at a sandbox and a Redis server."""
    document = SYBIL.parse(page)
    if "SIMPLESTORE_REDIS_URL" in document.text:
        monkeypatch.setenv("SIMPLESTORE_REDIS_URL", request.getfixturevalue("redis_server").url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    with asyncio.Runner() as runner:
        document.namespace |= {
            "__name__": "example",
            "runner": runner,
            "sandbox": simplestore_sandbox,
            "monkeypatch": monkeypatch,
            "tmp_path": tmp_path,
        }
        for example in document.examples():
            example.evaluate()


def test_code_is_found() -> None:
    """Blocks of both languages are found, including invisible ones."""
    [page] = [page for page in PAGES if page.stem == "quickstart"]
    found = [str(example.parsed) for example in SYBIL.parse(page).examples() if hasattr(example.parsed, "line_offset")]
    assert any("asyncio.run(main())" in code for code in found)
    assert any("simplestore token" in code for code in found)
    assert any(code.startswith("assert 2 == sandbox") for code in found)
