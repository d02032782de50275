"""Commands in a pseudo-terminal, with keyboard input."""

from __future__ import annotations

import asyncio
import os
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tests.support.command import TIMEOUT_SECONDS, Process, start, start_simplestore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping


class Terminal:
    """A pseudo-terminal in which a command runs."""

    def __init__(self, descriptor: int, process: Process) -> None:
        self._descriptor = descriptor
        self._process = process
        self._shown = b""

    @property
    def shown(self) -> str:
        """Everything written to the terminal so far, including control sequences."""
        return self._shown.decode(errors="replace")

    def type(self, keys: bytes) -> None:
        """Type keys, given as bytes; the terminal turns Ctrl-C, byte 3, into SIGINT."""
        os.write(self._descriptor, keys)

    async def wait_for(self, is_there: Callable[[str], object]) -> None:
        """Wait until the output satisfies *is_there*."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not is_there(self.shown):
                assert await self._read(), self.shown

    async def wait(self) -> int:
        """Wait for the end of the command and return its exit code."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while await self._read():
                pass
            return await self._process.wait()

    async def _read(self) -> bool:
        # Not in a thread, which would prevent the event loop from closing while it reads.
        loop = asyncio.get_running_loop()
        is_readable = asyncio.Event()
        loop.add_reader(self._descriptor, is_readable.set)
        try:
            await is_readable.wait()
        finally:
            loop.remove_reader(self._descriptor)
        try:
            part = os.read(self._descriptor, 65_536)
        except OSError:  # on Linux, when the other end is closed
            part = b""
        self._shown += part
        return bool(part)


@asynccontextmanager
async def in_terminal(
    *arguments: str, environment: Mapping[str, str], columns: int = 80, program: tuple[str, ...] = ()
) -> AsyncIterator[Terminal]:
    """Run the command, or another *program*, in a terminal with colours, so that Ctrl-C reaches it."""
    import fcntl  # not on Windows
    import termios

    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **environment}
    process: Process
    if program:
        # Inherited, so that it stays open, and opened: the first terminal that a session leader opens controls it.
        opened = "/bin/sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(theirs)
        process = await start(*opened, *program, *arguments, environment=environment, stdin=theirs, stdout=theirs)
    else:
        streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        process = await start_simplestore(*arguments, environment=environment, **streams)
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(ours)


async def on_terminal(*arguments: str, environment: Mapping[str, str], program: tuple[str, ...] = ()) -> str:
    """Return the output of the command in a terminal."""
    async with in_terminal(*arguments, environment=environment, program=program) as terminal:
        await terminal.wait()
        return terminal.shown
