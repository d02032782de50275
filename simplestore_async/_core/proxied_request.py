"""Requests of a session through a proxy. Rule: aiohttp receives the proxy's URL without its password."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from aiohttp import ClientRequest, hdrs
from multidict import CIMultiDict

from simplestore_async.errors import ConfigurationError

from .proxy import Proxy, ProxySettings
from .redaction import RedactedStr
from .validation import type_name

if TYPE_CHECKING:
    from aiohttp import BasicAuth
    from aiohttp.typedefs import LooseHeaders
    from yarl import URL

__all__ = ["fixed_proxy_class", "proxied_request_class"]


class _ProxiedRequest(ClientRequest):
    """Request that selects its own proxy.

    aiohttp itself would show the proxy's password in its errors and in the locals of its frames.
    """

    proxy_settings = ProxySettings()

    def update_proxy(self, proxy: URL | None, proxy_auth: BasicAuth | None, proxy_headers: LooseHeaders | None) -> None:
        """Set the proxy; *proxy* is that of a single request, which overrides the session's."""
        found = (self.proxy_settings if proxy is None else ProxySettings(proxy)).find(self.url)
        if found is None:
            super().update_proxy(None, None, None)
            return
        headers = CIMultiDict(proxy_headers or {})
        headers.update(found.headers)
        if proxy_auth is not None:
            headers[hdrs.PROXY_AUTHORIZATION] = RedactedStr(proxy_auth.encode())
        if not self.is_ssl() and hdrs.PROXY_AUTHORIZATION in headers:
            # Without a tunnel the proxy reads the request's headers.
            self.headers[hdrs.PROXY_AUTHORIZATION] = headers[hdrs.PROXY_AUTHORIZATION]
        super().update_proxy(found.url, None, headers)


def proxied_request_class(base: Any, settings: ProxySettings) -> type[ClientRequest]:
    """Return a subclass of *base*, for `aiohttp.ClientSession(request_class=…)`, whose proxies come from *settings*.

    Raises:
        ConfigurationError: if *base* is not a subclass of `aiohttp.ClientRequest`.
    """
    if base is None or base is ClientRequest:
        return type("ClientRequest", (_ProxiedRequest,), {"proxy_settings": settings})
    if not isinstance(base, type) or not issubclass(base, ClientRequest):
        raise ConfigurationError(
            "request_class", f"must be a subclass of aiohttp.ClientRequest, got {type_name(cast('object', base))}"
        )
    return type("ClientRequest", (_ProxiedRequest, base), {"proxy_settings": settings})


class _FixedProxy(ProxySettings):
    """One proxy, or none, for every URL."""

    def __init__(self, proxy: Proxy | None) -> None:
        super().__init__()
        self._proxy = proxy


def fixed_proxy_class(base: type[ClientRequest], url: URL) -> type[ClientRequest]:
    """Return *base* for requests to the origin of *url*; if it selects its own proxy, this is done only once.

    A lookup reads the whole environment, which takes a considerable part of a request's time.
    """
    if not issubclass(base, _ProxiedRequest):
        return base
    return type("ClientRequest", (base,), {"proxy_settings": _FixedProxy(base.proxy_settings.find(url))})
