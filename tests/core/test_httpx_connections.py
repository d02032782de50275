"""`Connections`: transports and TLS settings of proxies; `tests/clients/test_httpx.py` has requests through a proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import httpx2

from simplestore_async._core.httpx_connections import Connections
from simplestore_async._core.proxy import ProxySettings
from simplestore_async.httpx import open_client
from tests.support.api_requests import OneToken
from tests.support.api_servers import ConnectProxy
from tests.support.servers import ApiServer
from tests.support.tls import private_ca

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


def choose_each(connections: Connections, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yield the transport for each package and each proxy of the environment."""
    for package in (httpx, httpx2):
        for proxy in ("http://one.example", "http://two.example", "http://user:password@two.example"):
            monkeypatch.setenv("https_proxy", proxy)
            yield connections.choose(package.Request("GET", "https://api.example/"))


def test_transports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each package, proxy and password has its own transport, which is made once."""
    connections = Connections(ProxySettings(trust_env=True))
    first, second = ([*choose_each(connections, monkeypatch)] for _ in range(2))

    assert 6 == len({id(transport) for transport in first})
    assert first == second


async def test_https_proxy() -> None:
    """The `ssl` argument also governs the connection to an https proxy."""
    async with (
        ApiServer(ssl_context=private_ca().server) as api,
        ConnectProxy({"api.example:443": api.port}, ssl_context=private_ca().server) as proxy,
        open_client(
            OneToken(), base_url="https://api.example", ssl=private_ca().client, proxy=f"https://127.0.0.1:{proxy.port}"
        ) as client,
    ):
        await client.get("items")

    assert (["own-token"], {"api.example:443"}) == (api.tokens, proxy.targets)
