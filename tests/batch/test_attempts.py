"""What follows an attempt: `simplestore_async.batch._attempts`."""

from __future__ import annotations

import ssl
from itertools import product
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from simplestore_async.batch._attempts import TABLE, Action, Cause, action_after, cause_of_error, cause_of_status
from simplestore_async.errors import ConfigurationError, InvalidClientError, TokenEndpointError, TokenTimeoutError

KEY: Any = SimpleNamespace(host="api.example", port=443, ssl=True, is_ssl=True)


def test_table_is_whole() -> None:
    """There is an action for every cause, be the method safe or not."""
    assert set(product(Cause, [True, False])) == set(TABLE)


@pytest.mark.parametrize("cause", Cause)
def test_unsafe_is_sent_once(cause: Cause) -> None:
    """What may have changed something goes again only if it was not sent, or the API put it off."""
    may_go_again = action_after(cause, is_safe=False) in {Action.WAIT, Action.RETRY}
    assert may_go_again == (cause in {Cause.NOT_SENT, Cause.PUT_OFF})


@pytest.mark.parametrize("cause", [Cause.PUT_OFF, Cause.BUSY, Cause.NOT_SENT, Cause.CUT])
def test_safe_goes_again(cause: Cause) -> None:
    """What only reads goes again after everything that may pass."""
    assert action_after(cause, is_safe=True) in {Action.WAIT, Action.RETRY}


@pytest.mark.parametrize(
    ("cause", "statuses"),
    [
        (Cause.ANSWERED, [200, 204, 302, 400, 401, 404, 409, 499]),
        (Cause.PUT_OFF, [429]),
        (Cause.BUSY, [408, 500, 503, 599]),
    ],
)
def test_status(cause: Cause, statuses: list[int]) -> None:
    """408 and 5xx pass, 429 puts off, all others are an answer."""
    assert {cause} == {cause_of_status(status) for status in statuses}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TokenTimeoutError("x"), Cause.NOT_SENT),
        (TokenEndpointError("x", status=503), Cause.NOT_SENT),
        (InvalidClientError("x"), Cause.NEVER_SENT),
        (ConfigurationError("x"), Cause.NEVER_SENT),
        (aiohttp.ClientConnectorError(KEY, OSError("x")), Cause.NOT_SENT),
        (aiohttp.ClientConnectorDNSError(KEY, OSError("x")), Cause.NOT_SENT),
        (aiohttp.ClientConnectorCertificateError(KEY, ssl.CertificateError("x")), Cause.NEVER_SENT),
        (aiohttp.ConnectionTimeoutError(), Cause.NOT_SENT),
        (aiohttp.ServerDisconnectedError(), Cause.CUT),
        (aiohttp.ClientOSError(104, "x"), Cause.CUT),
        (aiohttp.ClientPayloadError(), Cause.CUT),
        (aiohttp.ServerTimeoutError(), Cause.CUT),
        (TimeoutError(), Cause.CUT),
    ],
    ids=repr,
)
def test_error(error: Exception, expected: Cause) -> None:
    """Only without a token, or without a connection, a request was certainly not sent."""
    assert expected == cause_of_error(error)
