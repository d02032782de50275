"""`TokenEndpoint`: its arguments."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from simplestore_async import ClientCredentials, RetryPolicy, TokenEndpoint
from simplestore_async._core.clock import SYSTEM_CLOCK
from simplestore_async.errors import ConfigurationError
from tests.support.servers import SECRET
from tests.support.tls import client_context
from tests.support.wire_faults import everything_shown

CREDENTIALS = ClientCredentials(client_id="app", client_secret=SECRET)


def refusal(**arguments: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        TokenEndpoint(**{"credentials": CREDENTIALS} | arguments)
    return caught.value


def test_defaults() -> None:
    """The default policy and the system clock are used unless others are passed."""
    endpoint = TokenEndpoint(CREDENTIALS)

    assert (CREDENTIALS, RetryPolicy()) == (endpoint.credentials, endpoint.policy)
    assert SYSTEM_CLOCK is endpoint.clock


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("credentials", ClientCredentials),
        ("policy", RetryPolicy),
        ("connector", "http"),
        ("headers", [("X-Key", "1")]),
        ("ssl", False),
        ("proxy", "proxy.example:3128"),
        ("trust_env", None),
        ("clock", 5),
    ],
)
def test_wrong_type(field: str, value: Any) -> None:
    """An argument of the wrong type is refused by name."""
    assert field == refusal(**{field: value}).field


def test_credentials_are_not_shown() -> None:
    """A secret passed in place of the credentials is not shown."""
    secret = "canary"
    with pytest.raises(ConfigurationError) as caught:
        TokenEndpoint(secret)  # type: ignore[arg-type]  # the mistake under test

    assert caught.value.__traceback__ is not None
    inner = caught.value.__traceback__.tb_next
    assert inner is not None
    assert "canary" not in everything_shown(caught.value.with_traceback(inner.tb_next))


async def test_connector_without_verification() -> None:
    """A connector that does not verify certificates is refused."""
    async with aiohttp.TCPConnector(ssl=False) as connector:
        assert "connector's ssl" == refusal(connector=connector).field


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("ssl", {"ssl": aiohttp.Fingerprint(bytes(32))}),
        ("proxy", {"proxy": "http://proxy.example:3128"}),
        ("proxy", {"trust_env": True}),
    ],
)
async def test_conflict_with_connector(field: str, arguments: Any) -> None:
    """`ssl`, `proxy` and `trust_env` are refused with a connector that ignores them or has its own TLS context."""
    async with aiohttp.UnixConnector("/run/simplestore.sock") as connector:
        assert field == refusal(connector=connector, **arguments).field
    async with aiohttp.TCPConnector(ssl=client_context()) as connector:
        assert field == "proxy" or field == refusal(connector=connector, **arguments).field


async def test_no_conflict_with_connector() -> None:
    """`ssl` and `proxy` may accompany a plain TCPConnector, and a connector with its own TLS context works alone."""
    async with aiohttp.TCPConnector() as plain, aiohttp.TCPConnector(ssl=client_context()) as own:
        TokenEndpoint(CREDENTIALS, connector=plain, ssl=client_context(), proxy="http://proxy.example:3128")
        TokenEndpoint(CREDENTIALS, connector=own)
