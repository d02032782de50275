"""Connectors and TLS. Rule: the certificate is verified on every connection that carries a credential."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

import aiohttp

from simplestore_async.errors import ConfigurationError

from .validation import check_type

__all__ = ["check_connector", "check_loop", "check_ssl", "tls_setting"]

_HINT: Final = "for a private CA pass ssl=ssl.create_default_context(cafile=…)"


def check_ssl(field: str, setting: object) -> None:
    """Check that *setting* verifies certificates.

    Raises:
        ConfigurationError: if it is not a TLS setting, or does not verify certificates or host names.
    """
    if setting is True:
        return
    if setting is False:
        raise _not_checked(field, "must not be False: certificates are always checked")
    check_type(field, setting, ssl.SSLContext | aiohttp.Fingerprint, hint=_HINT)
    if isinstance(setting, ssl.SSLContext):
        if setting.verify_mode is ssl.CERT_NONE:
            raise _not_checked(field, "must check certificates, got a context with verify_mode=CERT_NONE")
        if not setting.check_hostname:
            raise _not_checked(field, "must check host names, got a context with check_hostname=False")


def check_connector(connector: object) -> None:
    """Check the TLS setting of an aiohttp connector.

    Raises:
        ConfigurationError: as `check_ssl()`.
    """
    check_ssl("connector's ssl", tls_setting(connector))


def check_loop(connector: aiohttp.BaseConnector) -> None:
    """Check that an aiohttp connector can be used in the running event loop.

    Raises:
        ConfigurationError: if it is closed, or belongs to another one.
    """
    if connector.closed:
        raise ConfigurationError("connector", "is closed", "close it after the last request")
    # aiohttp would fail only in the middle of a request.
    if connector._loop is not asyncio.get_running_loop():  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - no public name
        raise ConfigurationError(
            "connector", "belongs to another event loop", "make both in the same one, or pass none"
        )


def tls_setting(connector: object) -> object:
    """Return the `ssl` argument of an aiohttp connector; True if it has none."""
    return getattr(connector, "_ssl", True)  # aiohttp has no public name for it


def _not_checked(field: str, problem: str) -> ConfigurationError:
    return ConfigurationError(field, problem, _HINT, code="certificates-not-checked")
