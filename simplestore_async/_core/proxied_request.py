"""Requests of a session through a proxy. Rule: aiohttp gets the proxy's URL without its password."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import hdrs
from multidict import CIMultiDict

from .proxy import ProxySettings
from .redaction import RedactedStr, conceal

if TYPE_CHECKING:
    from aiohttp import BasicAuth, ClientRequest
    from yarl import URL

__all__ = ["RequestFactory"]


class RequestFactory:
    """What a session makes its requests with (`request_class`): finds the proxy and conceals its password.

    aiohttp's own way puts the proxy's password into its errors and into the locals of its frames.
    """

    def __init__(self, request_class: type[ClientRequest], settings: ProxySettings) -> None:
        self._request_class = request_class
        self._settings = settings

    def __call__(
        self,
        method: str,
        url: URL,
        *,
        proxy: URL | None = None,
        proxy_auth: BasicAuth | None = None,
        proxy_headers: CIMultiDict[str] | None = None,
        **options: Any,
    ) -> ClientRequest:
        """Return a request; *proxy* is the one of a single request, which overrides the session's."""
        proxy = conceal(proxy)
        settings = self._settings if proxy is None else ProxySettings(proxy)
        found = settings.find(url)
        if found is None:
            return self._request_class(method, url, **options)
        headers = CIMultiDict(proxy_headers or {})
        headers.update(found.headers)
        if proxy_auth is not None:
            headers[hdrs.PROXY_AUTHORIZATION] = RedactedStr(proxy_auth.encode())
        request = self._request_class(method, url, proxy=found.url, proxy_headers=headers, **options)
        if not request.is_ssl() and hdrs.PROXY_AUTHORIZATION in headers:
            # Without a tunnel the proxy reads the request itself.
            request.headers[hdrs.PROXY_AUTHORIZATION] = headers[hdrs.PROXY_AUTHORIZATION]
        return request
