"""Options of `open_session()` that it passes on to aiohttp."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Final, TypedDict

import aiohttp

from simplestore_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from aiohttp.abc import AbstractCookieJar
    from aiohttp.typedefs import JSONBytesEncoder, JSONEncoder, LooseCookies, LooseHeaders

__all__ = ["CREDENTIALS_HINT", "ClientSessionOptions", "check_options"]

CREDENTIALS_HINT: Final = "write open_session(ClientCredentials(client_id=…, client_secret=…))"
_HINTS: Final = {
    "credentials": "write open_session(credentials)",
    "provider": "write open_session(provider)",
    "endpoint": "write open_session(TokenProvider(endpoint=…))",
    "proxy_auth": "write user name and password into the URL: proxy='http://user:password@…'",
    "verify_ssl": "certificates are always checked; for a private CA pass ssl=ssl.create_default_context(cafile=…)",
} | dict.fromkeys(
    ("client_id", "client_secret", "token_url", "scope", "extra_parameters", "auth_method"), CREDENTIALS_HINT
)


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


def check_options(names: Iterable[str]) -> None:
    """Check the names of options against those of `aiohttp.ClientSession`.

    Raises:
        ConfigurationError: for the first that aiohttp does not have, with a similar name as hint.
    """
    # Read from aiohttp itself: a newer one may have more than the types above.
    known = inspect.signature(aiohttp.ClientSession).parameters.keys() - {"proxy_auth"}
    for name in names:
        if name not in known:
            from difflib import get_close_matches  # rarely needed, and slow to import

            similar = get_close_matches(name, known, n=1)
            hint = _HINTS.get(name, f"did you mean {similar[0]}=?" if similar else "")
            raise ConfigurationError(name, "is not an option of open_session()", hint)
