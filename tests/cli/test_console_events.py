"""Ctrl-C and Ctrl-Break in a console of Windows."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import tests.support
from simplestore_async.sandbox import Late, Sandbox
from tests.support.batches import Directory
from tests.support.command import COMMAND, Outcome, finish, read_line, start
from tests.support.platforms import needs_break, needs_console

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Launch = Callable[..., Awaitable[asyncio.subprocess.Process]]

pytestmark = needs_console

CTRL_C, CTRL_BREAK = b"0\n", b"1\n"
CONSOLE: Final = Path(tests.support.__file__).with_name("console.py")
RAISE_BREAK: Final = """\
import signal, sys, threading
from simplestore_async.cli import main

def raise_at_end_of_input():
    sys.stdin.read()
    signal.raise_signal(signal.SIGBREAK)

threading.Thread(target=raise_at_end_of_input, daemon=True).start()
sys.exit(main())
"""


async def start_in_console(*arguments: str, environment: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
    """Start the command in a console of its own; its standard input takes the events."""
    command = sys.executable, str(CONSOLE), *COMMAND, *arguments
    return await start(*command, environment=environment, stdin=asyncio.subprocess.PIPE)


async def start_with_break(*arguments: str, environment: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
    """Start the command with a thread that raises SIGBREAK at the end of standard input, as an event does."""
    command = sys.executable, "-c", RAISE_BREAK, *arguments
    return await start(*command, environment=environment, stdin=asyncio.subprocess.PIPE)


async def read_until(process: asyncio.subprocess.Process, text: str) -> None:
    while text not in (line := await read_line(process.stdout)):
        assert line, await finish(process)


async def send(process: asyncio.subprocess.Process, event: bytes) -> Outcome:
    return await finish(process, stdin=event)


events = pytest.mark.parametrize(
    ("launch", "event"),
    [
        (start_in_console, CTRL_C),
        pytest.param(start_in_console, CTRL_BREAK, marks=needs_break),
        (start_with_break, b""),
    ],
)


@events
async def test_batch(tmp_path: Path, launch: Launch, event: bytes) -> None:
    """After an event, requests in flight finish; the same command sends the remaining ones."""
    async with Sandbox() as sandbox:
        directory = Directory(tmp_path, sandbox)
        directory.write(*["POST", "GET"] * 10)
        sandbox.api.fail_next(20, Late(1))
        process = await launch(*directory.command, "--concurrency", "2", environment=sandbox.environment)
        await directory.requests_arrive(2)
        outcome = await send(process, event)

        assert (130 if event == CTRL_C else 75) == outcome.code
        assert "stopping; in-flight requests have 10 s to finish" in outcome.stderr
        assert " 0 unknown, " in outcome.stdout
        assert "continue with: simplestore batch " in outcome.stdout
        assert len(directory.lines) < 20
        assert 0 == (await directory.run()).code
        assert list(range(1, 21)) == directory.lines
        assert 20 == sandbox.counters.api_requests


@events
async def test_sandbox(launch: Launch, event: bytes) -> None:
    """An event ends it with 0, as a signal does."""
    process = await launch("sandbox")
    await read_until(process, "SIMPLESTORE_CLIENT_SECRET_FILE")
    outcome = await send(process, event)

    assert (0, "") == (outcome.code, outcome.stdout)
    assert outcome.stderr.startswith("Serving http://127.0.0.1:")
    assert 1 == outcome.stderr.count("\n")


async def test_demo() -> None:
    """Ctrl-C ends it with 130 and without an error."""
    process = await start_in_console("demo", "--plain", "--duration", "600")
    await read_until(process, "token")
    outcome = await send(process, CTRL_C)

    assert (130, "") == (outcome.code, outcome.stderr.strip())
