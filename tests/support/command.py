"""`simplestore` as a user runs it: in a new process with credentials from its environment."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMAND: Final = sys.executable, "-m", "simplestore_async.cli"
TIMEOUT_SECONDS: Final = 60


@attrs.frozen
class Outcome:
    code: int
    stdout: str  # bytes other than UTF-8 are escaped as surrogates
    stderr: str

    @property
    def json(self) -> Any:
        assert 1 == self.stdout.count("\n")
        return json.loads(self.stdout)

    @property
    def error(self) -> Any:
        """Return the JSON of the last line of stderr."""
        return json.loads(self.stderr.splitlines()[-1])["error"]


def surroundings(environment: Mapping[str, str] | None) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SIMPLESTORE_")}
    return inherited | dict(environment or {})


async def start(
    *command: str,
    environment: Mapping[str, str] | None = None,
    stdin: int = asyncio.subprocess.DEVNULL,
    stdout: int = asyncio.subprocess.PIPE,
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        env=surroundings(environment),
        stdin=stdin,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )


async def finish(process: asyncio.subprocess.Process, *, stdin: bytes | None = None) -> Outcome:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        stdout, stderr = await process.communicate(stdin)
    assert process.returncode is not None
    return Outcome(process.returncode, (stdout or b"").decode(errors="surrogateescape"), stderr.decode())


async def simplestore(*arguments: str, environment: Mapping[str, str] | None = None) -> Outcome:
    """Run the command in a new process, which is forked from `command_server` where forks exist."""
    if not hasattr(os, "fork"):
        return await finish(await start(*COMMAND, *arguments, environment=environment))
    with TemporaryFile() as stdout, TemporaryFile() as stderr:
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(_command_server()[0], [b"x"], [theirs.fileno(), stdout.fileno(), stderr.fileno()])
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(json.dumps([arguments, surroundings(environment)]).encode())
        writer.write_eof()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            code = int(await reader.read())
        writer.close()
        await writer.wait_closed()
        stdout.seek(0)
        stderr.seek(0)
        return Outcome(code, stdout.read().decode(errors="surrogateescape"), stderr.read().decode())


@functools.cache
def _command_server() -> tuple[socket.socket, object]:
    """Start `command_server`; return the socket to it, which ends it when closed, and the process."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = sys.executable, "-P", str(Path(__file__).with_name("command_server.py"))
        return ours, subprocess.Popen(command, stdin=theirs.fileno(), start_new_session=True)


async def shell(script: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Outcome:
    """Run a script of `sh` in which `simplestore` is the command; *arguments* are its `$1`, `$2`, …"""
    function = f'simplestore() {{ "{sys.executable}" -m simplestore_async.cli "$@"; }}; '
    return await finish(await start("/bin/sh", "-c", function + script, "sh", *arguments, environment=environment))


def assert_one_line(outcome: Outcome, *, code: int, says: str) -> None:
    assert code == outcome.code
    assert outcome.stderr.startswith("simplestore: ")
    assert 1 == outcome.stderr.count("\n")
    assert says in outcome.stderr
    assert not outcome.stdout
