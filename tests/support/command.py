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
        pipes: Mapping[str, tuple[asyncio.StreamReader, asyncio.BaseTransport]],
    ) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout, self.stderr = (pipes[name][0] if name in pipes else None for name in ("stdout", "stderr"))
        self._pipes = pipes
        self._call = call

    async def wait(self) -> int:
        if self.returncode is None:
            reader, writer = self._call
            self.returncode = int(await reader.readline())
            writer.close()
            await writer.wait_closed()
        return self.returncode

    async def communicate(self) -> tuple[bytes, bytes]:
        texts = {name: await reader.read() for name, (reader, _) in self._pipes.items()}
        for _, transport in self._pipes.values():
            transport.close()  # uvloop leaves it open at the end
        await self.wait()
        return texts.get("stdout", b""), texts.get("stderr", b"")

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Process = Fork | asyncio.subprocess.Process


async def start(
    *command: str,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    stdin: int = asyncio.subprocess.DEVNULL,
    stdout: int = asyncio.subprocess.PIPE,
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        cwd=directory,
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
        streams: dict[str, Any] = {name: stream for name, stream in given if stream is not None}
        return await start(*COMMAND, *arguments, environment=environment, **streams)
    ours, theirs = socket.socketpair()
    ours.sendall(json.dumps([arguments, surroundings(environment), str(Path.cwd())]).encode() + b"\n")
    pipes = {}
    with theirs, contextlib.ExitStack() as stack:
        if stdin is None:
            stdin = os.open(os.devnull, os.O_RDONLY)
            stack.callback(os.close, stdin)
        descriptors = [theirs.fileno(), stdin]
        for name, descriptor in ("stdout", stdout), ("stderr", stderr):
            if descriptor is None:
                reader, descriptor = os.pipe()  # noqa: PLW2901 - the end for the command
                stack.callback(os.close, descriptor)
                pipes[name] = await _read(reader)
            descriptors.append(descriptor)
        socket.send_fds(command_server()[0], [b"x"], descriptors)
    call = await asyncio.open_connection(sock=ours)
    return Fork(int(await call[0].readline()), call, pipes)


async def _read(pipe: int) -> tuple[asyncio.StreamReader, asyncio.BaseTransport]:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(pipe, "rb", 0))
    return reader, transport


async def finish(process: Process, *, stdin: bytes | None = None) -> Outcome:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        if isinstance(process, Fork):
            stdout, stderr = await process.communicate()
        else:
            stdout, stderr = await process.communicate(stdin)
    assert process.returncode is not None
    texts = (output.decode(errors="surrogateescape").replace(os.linesep, "\n") for output in (stdout or b"", stderr))
    return Outcome(process.returncode, *texts)


async def read_line(stream: asyncio.StreamReader | None) -> str:
    """Read a line of a process whose output is a pipe."""
    assert stream is not None
    async with asyncio.timeout(TIMEOUT_SECONDS):
        return (await stream.readline()).decode()


async def simplestore(*arguments: str, environment: Mapping[str, str] | None = None) -> Outcome:
    return await finish(await start_simplestore(*arguments, environment=environment))


async def patched(patch: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Outcome:
    """Run the command in a new process after a *patch* in Python."""
    return await finish(await start(*patch_program(patch), *arguments, environment=environment))


def patch_program(patch: str) -> tuple[str, ...]:
    return sys.executable, "-c", f"import sys\n{patch}\nfrom simplestore_async.cli import main\nsys.exit(main())"


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
