"""Token errors for the exceptions of aiohttp."""

from __future__ import annotations

import os
import socket
import ssl
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY

import aiohttp
import pytest
from yarl import URL

from simplestore_async._core.transport_errors import build_transport_error
from simplestore_async.errors import TokenTimeoutError, TokenTransportError
from tests.support.servers import SECRET
from tests.support.tracebacks import everything_shown
from tests.support.wire_faults import shows_secret

TOKEN_URL = "https://auth.simplestore.io/connect/token"
INFO = aiohttp.RequestInfo(URL(TOKEN_URL), "POST", ANY, URL(TOKEN_URL))
KEY: Any = SimpleNamespace(host="token.example", port=443, ssl=True)  # the parts of a ConnectionKey that errors show
CLOSED = "the connection was closed before the response was complete"
EXPIRED = ssl.SSLCertVerificationError(1, "certificate verify failed")
EXPIRED.verify_message = "certificate has expired"


def broken_off(error: OSError) -> aiohttp.ClientOSError:
    """Return aiohttp's error for an incomplete request, whose text contains the URL."""
    broken = aiohttp.ClientOSError(error.errno, f"Can not write request body for https://{SECRET}")
    broken.__cause__ = error
    return broken


def build(error: Exception) -> TokenTransportError:
    return build_transport_error(error, url=TOKEN_URL, seconds=9.87654)


@pytest.mark.parametrize(
    ("raised", "problem"),
    [
        (aiohttp.ServerDisconnectedError(SECRET), CLOSED),
        (aiohttp.ClientPayloadError(SECRET), CLOSED),
        (aiohttp.ClientResponseError(INFO, (), status=400, message=SECRET), "the response is not HTTP"),
        (aiohttp.ClientHttpProxyError(INFO, (), status=407, message=SECRET), "the proxy returned status 407"),
        (aiohttp.ClientOSError(104, "Connection reset by peer"), "Connection reset by peer"),
        (broken_off(ConnectionResetError(104, "Connection reset by peer")), "Connection reset by peer"),
        (broken_off(ConnectionResetError("Cannot write to closing transport")), CLOSED),
        *(
            (kind(KEY, error), f"cannot connect to {where}token.example:443 ({reason})")
            for kind, error, where, reason in (
                (aiohttp.ClientConnectorError, OSError(111, "Connection refused"), "", os.strerror(111)),
                (aiohttp.ClientConnectorError, OSError(1, "Call failed ('203.0.113.1', 443)"), "", os.strerror(1)),
                (aiohttp.ClientConnectorDNSError, OSError(-2, "Name not known"), "", "Name not known"),
                # the number on macOS, where it is also ENOEXEC
                (aiohttp.ClientConnectorDNSError, socket.gaierror(8, "no nodename"), "", "no nodename"),
                (aiohttp.ClientProxyConnectionError, OSError(111, "Refused"), "the proxy ", os.strerror(111)),
                (aiohttp.ClientConnectorSSLError, ssl.SSLError(), "", "ClientConnectorSSLError"),
                (aiohttp.ClientConnectorSSLError, ssl.SSLError(1, "wrong version number"), "", "wrong version number"),
            )
        ),
        (OSError(28, "No space left on device"), "No space left on device"),
        (aiohttp.ClientConnectionError(SECRET), "unexpected ClientConnectionError"),
        (aiohttp.InvalidURL(f"https://{SECRET}"), "unexpected InvalidURL"),
        (ValueError(SECRET), "unexpected ValueError"),
        (RuntimeError(SECRET), "unexpected RuntimeError"),
    ],
)
def test_retryable(raised: Exception, problem: str) -> None:
    """An exception of aiohttp becomes a retryable TokenTransportError without text from the server."""
    error = build(raised)

    assert (TokenTransportError, True, "token-transport") == (type(error), error.retryable, error.code)
    assert f"token request to {TOKEN_URL} failed: {problem}" == str(error)
    assert not shows_secret(everything_shown(error))


@pytest.mark.parametrize("kind", [TimeoutError, aiohttp.ServerTimeoutError, aiohttp.ConnectionTimeoutError])
def test_timeout(kind: type[Exception]) -> None:
    """A timeout becomes a retryable TokenTimeoutError, which is also a TimeoutError."""
    error = build(kind(SECRET))

    assert (TokenTimeoutError, True, "token-timeout") == (type(error), error.retryable, error.code)
    assert isinstance(error, TimeoutError)
    assert f"token request to {TOKEN_URL} failed: no complete response within 9.88 s" == str(error)


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (EXPIRED, "certificate has expired"),
        (aiohttp.ClientConnectorCertificateError(KEY, EXPIRED), "certificate has expired"),
        (ssl.SSLCertVerificationError(SECRET), "SSLCertVerificationError"),
        (aiohttp.ClientConnectorCertificateError(KEY, ssl.CertificateError(SECRET)), "SSLCertVerificationError"),
        (aiohttp.ServerFingerprintMismatch(b"a", b"b", "host", 443), "ServerFingerprintMismatch"),
    ],
)
def test_certificate(raised: Exception, reason: str) -> None:
    """An untrusted certificate is a terminal error, and the hint names the setting."""
    error = build(raised)

    assert (TokenTransportError, False, "certificate") == (type(error), error.retryable, error.code)
    assert error.problem.endswith(f" failed: the certificate is not trusted ({reason})")
    assert "create_default_context" in error.hint
