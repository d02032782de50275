"""A resolver that maps every host to loopback."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from aiohttp.abc import AbstractResolver, ResolveResult

if TYPE_CHECKING:
    from collections.abc import Mapping


class LocalResolver(AbstractResolver):
    """Resolves every host to 127.0.0.1 and records the hosts; *ports* maps ports of URLs to real ones."""

    def __init__(self, ports: Mapping[int, int] | None = None) -> None:
        self.hosts: list[str] = []
        self._ports = ports or {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.hosts.append(host)
        return [
            ResolveResult(
                hostname=host,
                host="127.0.0.1",
                port=self._ports.get(port, port),
                family=socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        pass
