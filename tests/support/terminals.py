"""Commands in a terminal of their own, with somebody who types."""

from __future__ import annotations

import asyncio
import os
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tests.support.command import COMMAND, TIMEOUT_SECONDS, surroundings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping


class Terminal:
    """A pseudo-terminal that a command runs in."""

    def __init__(self, descriptor: int, process: asyncio.subprocess.Process) -> None:
        self._descriptor = descriptor
        self._process = process
        self._shown = b""

    @property
    def shown(self) -> str:
        """Everything that was written to it so far, control sequences included."""
        return self._shown.decode(errors="replace")

    def type(self, keys: bytes) -> None:
        """Type keys, as bytes; the one of Ctrl-C is 3, which the terminal turns into SIGINT."""
        os.write(self._descriptor, keys)

    async def wait_for(self, is_there: Callable[[str], object]) -> None:
        """Return when what is shown is as expected."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not is_there(self.shown):
                assert await self._read(), self.shown

    async def wait(self) -> int:
        """Return the exit code, when all is shown."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while await self._read():
                pass
            return await self._process.wait()

    async def _read(self) -> bool:
        # Not in a thread: one that still reads would keep the event loop from closing.
        loop = asyncio.get_running_loop()
        is_readable = asyncio.Event()
        loop.add_reader(self._descriptor, is_readable.set)
        try:
            await is_readable.wait()
        finally:
            loop.remove_reader(self._descriptor)
        try:
            part = os.read(self._descriptor, 65_536)
        except OSError:  # on Linux, when nobody has the other end any more
            part = b""
        self._shown += part
        return bool(part)


@asynccontextmanager
async def in_terminal(*command: str, environment: Mapping[str, str], columns: int = 80) -> AsyncIterator[Terminal]:
    """Run a command in a terminal that knows colours, as its session's leader, so that Ctrl-C reaches it."""
    import fcntl  # not on Windows
    import termios

    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    # Handed down, so that it is open all the time; and opened: the first that a session's leader opens is its own.
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(theirs), *command),
        env=surroundings({"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **environment}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(ours)


async def on_terminal(*arguments: str, environment: Mapping[str, str], command: tuple[str, ...] = COMMAND) -> str:
    """Return what the command writes to such a terminal until it ends."""
    async with in_terminal(*command, *arguments, environment=environment) as terminal:
        await terminal.wait()
        return terminal.shown
