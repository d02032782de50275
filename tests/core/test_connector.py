"""Checks of TLS settings and connectors."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import aiohttp
import pytest

from simplestore_async._core.connector import check_connector, check_loop, check_ssl
from simplestore_async.errors import ConfigurationError
from tests.support.tls import client_context


def lax_context(*, verify_mode: ssl.VerifyMode = ssl.CERT_REQUIRED) -> ssl.SSLContext:
    context = client_context()
    context.check_hostname = False
    context.verify_mode = verify_mode
    return context


@pytest.mark.parametrize(
    "setting", [True, client_context(), aiohttp.Fingerprint(bytes(32))], ids=["default", "context", "fingerprint"]
)
async def test_verifying(setting: Any) -> None:
    """The default, a verifying context and a fingerprint are accepted."""
    check_ssl("ssl", setting)
    async with aiohttp.TCPConnector(ssl=setting) as connector:
        check_connector(connector)
        check_loop(connector)


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        (False, "must not be False"),
        (lax_context(verify_mode=ssl.CERT_NONE), "verify_mode=CERT_NONE"),
        (lax_context(), "check_hostname=False"),
    ],
    ids=["off", "certificate", "host name"],
)
async def test_not_verifying(setting: Any, problem: str) -> None:
    """A setting that does not verify certificates or host names is refused, directly and in a connector."""
    with pytest.raises(ConfigurationError, match=f"^ssl .*{problem}") as caught:
        check_ssl("ssl", setting)
    async with aiohttp.TCPConnector(ssl=setting) as connector:
        with pytest.raises(ConfigurationError, match=r"^connector's ssl "):
            check_connector(connector)

    assert "certificates-not-checked" == caught.value.code
    assert "create_default_context" in caught.value.hint


@pytest.mark.parametrize("setting", ["ca.pem", ssl.SSLContext])
def test_wrong_type(setting: Any) -> None:
    """Anything else is refused."""
    with pytest.raises(ConfigurationError, match=r"^ssl must be a"):
        check_ssl("ssl", setting)


async def test_unusable_connector() -> None:
    """A connector that belongs to another event loop or is closed is refused."""

    async def make() -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector()

    foreign, closed = await asyncio.to_thread(asyncio.run, make()), await make()
    await closed.close()
    for connector, problem in (foreign, "belongs to another event loop"), (closed, "is closed"):
        with pytest.raises(ConfigurationError, match=f"^connector {problem}"):
            check_loop(connector)
