"""`simplestore` as a user runs it: in a new process with credentials from its environment."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
    changed = dict(environment or {})
    if os.name == "nt" and "HOME" in changed:  # by the names that Windows and platformdirs have for it
        changed |= {"USERPROFILE": changed["HOME"], "WIN_PD_OVERRIDE_LOCAL_APPDATA": changed["HOME"]}
    return inherited | changed


class Fork:
    """The command in a fork of `command_server`, with as much of asyncio's `Process` as the tests use."""

    def __init__(
        self,
        pid: int,
        call: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        outputs: Iterable[asyncio.StreamReader | None],
    ) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout, self.stderr = outputs
        self._call = call

    async def wait(self) -> int:
        if self.returncode is None:
            reader, writer = self._call
            self.returncode = int(await reader.readline())
            writer.close()
            await writer.wait_closed()
        return self.returncode

    async def communicate(self) -> tuple[bytes, bytes]:
        texts = [await output.read() if output else b"" for output in (self.stdout, self.stderr)]
        await self.wait()
        return texts[0], texts[1]

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Process = Fork | asyncio.subprocess.Process


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


async def start_simplestore(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
) -> Process:
    """Start the command in a fork of `command_server`, or in a new process where there are no forks.

    Its standard input is empty by default, and its outputs are pipes.
    """
    if not hasattr(os, "fork"):
        given = {"stdin": stdin, "stdout": stdout}.items()
        streams = {name: stream for name, stream in given if stream is not None}
        return await start(*COMMAND, *arguments, environment=environment, **streams)
    ours, theirs = socket.socketpair()
    ours.sendall(json.dumps([arguments, surroundings(environment), str(Path.cwd())]).encode() + b"\n")
    with theirs, contextlib.ExitStack() as stack:
        if stdin is None:
            stdin = os.open(os.devnull, os.O_RDONLY)
            stack.callback(os.close, stdin)
        outputs = [(None, each) if each is not None else await _open_pipe(stack) for each in (stdout, stderr)]
        descriptors = [theirs.fileno(), stdin, *(writer for _, writer in outputs)]
        socket.send_fds(command_server()[0], [b"x"], descriptors)
    call = await asyncio.open_connection(sock=ours)
    return Fork(int(await call[0].readline()), call, [reader for reader, _ in outputs])


async def _open_pipe(stack: contextlib.ExitStack) -> tuple[asyncio.StreamReader, int]:
    """Return both ends of a pipe; the writing one is closed with *stack*."""
    ours, theirs = os.pipe()
    stack.callback(os.close, theirs)
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(ours, "rb", 0))
    return reader, theirs


async def finish(process: Process, *, stdin: bytes | None = None) -> Outcome:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        if isinstance(process, Fork):
            stdout, stderr = await process.communicate()
        else:
            stdout, stderr = await process.communicate(stdin)
    assert process.returncode is not None
    texts = (output.decode(errors="surrogateescape").replace(os.linesep, "\n") for output in (stdout or b"", stderr))
    return Outcome(process.returncode, *texts)


async def simplestore(*arguments: str, environment: Mapping[str, str] | None = None) -> Outcome:
    return await finish(await start_simplestore(*arguments, environment=environment))


@functools.cache
def command_server() -> tuple[socket.socket, object]:
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
