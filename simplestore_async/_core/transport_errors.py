"""Messages for aiohttp's errors. Rule: no text from a server, no complete URL, no memory address."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import Final

import aiohttp
from aiohttp.http_exceptions import BadHttpMessage, PayloadEncodingError

from simplestore_async.errors import TokenTimeoutError, TokenTransportError

__all__ = ["build_transport_error", "describe_system_error", "describe_transport_error"]

_CERTIFICATE_ERRORS: Final = (
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ServerFingerprintMismatch,
    ssl.SSLCertVerificationError,
)


def build_transport_error(error: Exception, *, url: str, seconds: float) -> TokenTransportError:
    """Return the error for a request to *url* that failed with aiohttp's *error*, or timed out after *seconds*."""
    what = f"token request to {url} failed"
    if isinstance(error, TimeoutError):
        return TokenTimeoutError(f"{what}: no complete response within {max(seconds, 0.0):.3g} s")
    if isinstance(error, _CERTIFICATE_ERRORS):
        return TokenTransportError(
            f"{what}: {describe_transport_error(error)}",
            "for a private CA pass ssl=ssl.create_default_context(cafile=…)",
            code="certificate",
            retryable=False,
        )
    return TokenTransportError(f"{what}: {describe_transport_error(error)}")


def describe_transport_error(error: Exception) -> str:
    """Return why aiohttp got no response."""
    if isinstance(error, _CERTIFICATE_ERRORS):
        return f"the certificate is not trusted ({_describe_certificate_error(error)})"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy returned status {error.status}"
    if isinstance(error, aiohttp.ClientResponseError) or _has_bad_trailer(error):
        return "the response is not HTTP"
    if isinstance(error, aiohttp.ClientConnectorError):
        proxy = "the proxy " if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
        words = describe_system_error(error.os_error) or type(error).__name__
        return f"cannot connect to {proxy}{error.host}:{error.port} ({words})"
    cause = _find_innermost(error)
    # The system's own words, such as "Connection refused".
    text = cause.strerror if isinstance(cause, OSError) else f"unexpected {type(error).__name__}"
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError) or not text:
        return "the connection was closed before the response was complete"
    return text


def _has_bad_trailer(error: Exception) -> bool:
    """Return whether the trailer of a payload is not HTTP."""
    cause = error.__cause__
    return isinstance(cause, BadHttpMessage) and not isinstance(cause, PayloadEncodingError)


def _find_innermost(error: BaseException) -> BaseException:
    # aiohttp's text for an incomplete request contains the complete URL.
    while isinstance(error.__cause__, OSError):
        error = error.__cause__
    return error


def _describe_certificate_error(error: Exception) -> str:
    certificate_error = getattr(error, "certificate_error", error)
    return getattr(certificate_error, "verify_message", "") or type(certificate_error).__name__


def describe_system_error(error: OSError) -> str:
    """Return the system's words for an error, such as "Connection refused"; empty if it has none."""
    number = error.errno
    # Windows, the resolver and OpenSSL have their own numbers; Windows reports a refused connection as errno 22.
    has_own_number = getattr(error, "winerror", None) or isinstance(error, socket.gaierror | ssl.SSLError)
    if has_own_number or number is None or number not in errno.errorcode:
        return error.strerror or ""
    return os.strerror(number)  # asyncio replaces the system's text with its own
