"""Token endpoint and API, as clients use them. Rule: they run in a process of their own, `_service.py`."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import attrs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from simplestore_async import ClientCredentials

__all__ = ["CLIENT_ID", "CLIENT_SECRET", "Server", "run_server"]

CLIENT_ID = "benchmark-client"
CLIENT_SECRET = "benchmark-secret"  # noqa: S105 - which no server checks


@attrs.frozen
class Server:
    """The running server; all fields are text, so that `attrs.asdict()` carries it to another process.

    Attributes:
        root: the http address, without a slash at its end.
        https_root: the same by https.
        ca_file: the certificate authority of the https address.
        service_account_file: a Google service account with this token endpoint, and a key for this run only.
    """

    root: str
    https_root: str
    ca_file: str
    service_account_file: str

    @property
    def base_url(self) -> str:
        """The root of the API: any request below it gets 200, or 401 without a token of this server."""
        return f"{self.root}/api/"

    @property
    def token_url(self) -> str:
        """The token endpoint; a POST to any other path gets a token as well."""
        return f"{self.root}/connect/token"

    @property
    def credentials(self) -> ClientCredentials:
        """Credentials for it."""
        from simplestore_async import ClientCredentials  # not in the processes of peers

        return ClientCredentials(client_id=CLIENT_ID, client_secret=CLIENT_SECRET, token_url=self.token_url)

    async def count_tokens(self) -> int:
        """Return the number of token requests so far."""
        return int(await self._get("count"))

    async def release(self) -> None:
        """Let one token request of a server with infinite latency proceed."""
        await self._get("release")

    async def _get(self, path: str) -> bytes:
        host, _, port = self.root.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(f"GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            _, _, body = (await reader.read()).partition(b"\r\n\r\n")
            return body
        finally:
            writer.close()
            await writer.wait_closed()


@asynccontextmanager
async def run_server(
    *, latency_seconds: float = 0.0, lifetime_seconds: int = 3600, api_latency_seconds: float = 0.0
) -> AsyncGenerator[Server]:
    """Run a server with these response times of token endpoint and API, and tokens of that lifetime."""
    numbers = latency_seconds, lifetime_seconds, api_latency_seconds
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks._service", *map(str, numbers)),
        cwd=Path(__file__).parent.parent,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    reader, writer = cast("tuple[asyncio.StreamReader, asyncio.StreamWriter]", (process.stdout, process.stdin))
    try:
        yield Server(**json.loads(await reader.readline()))
    finally:
        writer.close()
        await process.wait()
