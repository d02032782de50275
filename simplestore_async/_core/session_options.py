"""Options of `open_session()` that it passes on to aiohttp."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Final, TypedDict

import aiohttp

from .opening import check_options

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from aiohttp.abc import AbstractCookieJar
    from aiohttp.typedefs import JSONBytesEncoder, JSONEncoder, LooseCookies, LooseHeaders

__all__ = ["ClientSessionOptions", "check_session_options"]

_HINTS: Final = {
    "verify_ssl": "certificates are always checked; for a private CA pass ssl=ssl.create_default_context(cafile=…)",
}


class ClientSessionOptions(TypedDict, total=False):
    """Arguments of `aiohttp.ClientSession` that mean the same to `open_session()`."""

    connector: aiohttp.BaseConnector | None
    connector_owner: bool
    cookies: LooseCookies | None
    cookie_jar: AbstractCookieJar | None
    headers: LooseHeaders | None
    skip_auto_headers: Iterable[str] | None
    auth: aiohttp.BasicAuth | None
    json_serialize: JSONEncoder
    json_serialize_bytes: JSONBytesEncoder | None
    request_class: type[aiohttp.ClientRequest]
    response_class: type[aiohttp.ClientResponse]
    ws_response_class: type[aiohttp.ClientWebSocketResponse[bool]]
    version: aiohttp.HttpVersion
    raise_for_status: bool | Callable[[aiohttp.ClientResponse], Awaitable[None]]
    timeout: aiohttp.ClientTimeout
    auto_decompress: bool
    requote_redirect_url: bool
    trace_configs: list[aiohttp.TraceConfig] | None
    read_bufsize: int
    max_line_size: int
    max_field_size: int
    max_headers: int
    fallback_charset_resolver: Callable[[aiohttp.ClientResponse, bytes], str]
    middlewares: Sequence[aiohttp.ClientMiddlewareType] | None


def check_session_options(names: Iterable[str]) -> None:
    """Check the names of options against those of `aiohttp.ClientSession`.

    Raises:
        ConfigurationError: for the first that aiohttp does not have, with a similar name as hint.
    """
    # Read from aiohttp itself: a newer one may have more than the types above.
    known = inspect.signature(aiohttp.ClientSession).parameters.keys() - {"proxy_auth"}
    check_options("open_session", names, known, _HINTS)
