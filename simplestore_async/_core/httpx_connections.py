"""Connections of an httpx client. Rule: each proxy has its own transport, and certificates are always verified."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from yarl import URL

from .httpx_package import package_of
from .proxy import ProxySettings
from .redaction import RedactedBytes

if TYPE_CHECKING:
    import ssl as ssl_module
    from collections.abc import Iterator

    from .proxy import Proxy

__all__ = ["Connections", "find_pools", "hide_header_blocks"]

_DEEPEST_WRAPPER: Final = 8


class Connections:
    """An async transport that selects the proxy of each request in the same way as the token request.

    Args:
        proxies: the proxy settings.
        ssl: the TLS settings of API and proxies; by default the package's own.
        options: further arguments of `AsyncHTTPTransport`.
    """

    def __init__(
        self, proxies: ProxySettings | None = None, *, ssl: ssl_module.SSLContext | None = None, **options: Any
    ) -> None:
        if options.get("http2"):
            hide_header_blocks()
        self._proxies = proxies or ProxySettings()
        self._ssl = ssl
        self._options = options
        self._transports: dict[tuple[object, ...], Any] = {}

    def choose(self, request: Any) -> Any:
        """Return the transport for *request*, creating it at its first use.

        Raises:
            ConfigurationError: if the environment's proxy is not the URL of an HTTP proxy.
        """
        package = package_of(request)
        url = URL.build(scheme=request.url.scheme, host=request.url.raw_host.decode("ascii"), port=request.url.port)
        proxy = self._proxies.find(url)
        key = (package, *((proxy.url, *proxy.headers.values()) if proxy else ()))
        if key not in self._transports:
            verify = True if self._ssl is None else self._ssl
            self._transports[key] = package.AsyncHTTPTransport(
                verify=verify, proxy=proxy and self._build(package, proxy), **self._options
            )
        return self._transports[key]

    async def handle_async_request(self, request: Any) -> Any:
        """Send *request*."""
        return await self.choose(request).handle_async_request(request)

    async def aclose(self) -> None:
        """Close all connections."""
        transports = list(self._transports.values())
        self._transports.clear()
        for transport in transports:
            await transport.aclose()

    def _build(self, package: Any, proxy: Proxy) -> Any:
        # As bytes, which httpx keeps unchanged and therefore redacted.
        headers = [(name.encode(), RedactedBytes(value.encode())) for name, value in proxy.headers.items()]
        context = self._ssl if proxy.url.scheme == "https" else None
        return package.Proxy(str(proxy.url), headers=headers, ssl_context=context)


def find_pools(transport: object, depth: int = 0) -> Iterator[Any]:
    """Yield the connection pools of *transport*, and those of the transports that it wraps."""
    # httpx has no public names for them.
    if (pool := getattr(transport, "_pool", None)) is not None:
        yield pool
    elif depth < _DEEPEST_WRAPPER:
        for value in list(getattr(transport, "__dict__", {}).values()):
            if callable(getattr(value, "handle_async_request", None)):
                yield from find_pools(value, depth + 1)


def hide_header_blocks() -> None:
    """Keep hpack from logging header blocks of HTTP/2 at DEBUG: they contain the encoded token."""
    logger = logging.getLogger("hpack.hpack")
    if _is_no_header_block not in logger.filters:
        logger.addFilter(_is_no_header_block)


def _is_no_header_block(record: logging.LogRecord) -> bool:
    return "header block" not in str(record.msg)
