"""Options of `open_session()` for aiohttp."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, TypedDict, cast

import aiohttp
from aiohttp.abc import AbstractCookieJar

from .opening import check_options
from .validation import check_callable, check_flag, check_number, check_type, type_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from types import UnionType

    from aiohttp.typedefs import JSONBytesEncoder, JSONEncoder, LooseCookies, LooseHeaders

__all__ = ["ClientSessionOptions", "check_session_options"]

_HINTS: Final = {
    "verify_ssl": "certificates are always checked; for a private CA pass ssl=ssl.create_default_context(cafile=…)",
}
# Options that aiohttp does not check: a wrong one fails in the middle of a request or has no effect.
_FLAGS: Final = {"connector_owner", "auto_decompress", "requote_redirect_url"}
_SIZES: Final = {"read_bufsize", "max_line_size", "max_field_size", "max_headers"}
_SEQUENCES: Final = {"middlewares", "skip_auto_headers"}
# Callables, by the number of their arguments.
_FUNCTIONS: Final = {"json_serialize": 1, "fallback_charset_resolver": 2}
_TYPES: Final[dict[str, type | UnionType]] = {
    "auth": aiohttp.BasicAuth | None,
    "cookie_jar": AbstractCookieJar | None,
    "version": aiohttp.HttpVersion,
}


class ClientSessionOptions(TypedDict, total=False):
    """Arguments of `aiohttp.ClientSession` with the same meaning for `open_session()`."""

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


def check_session_options(kind: type, options: Mapping[str, object]) -> None:
    """Check the names of *kind*'s options against those of `aiohttp.ClientSession`, and the types it does not check.

    Raises:
        ConfigurationError: for the first that is unknown or wrong; its hint suggests the correct one.
    """
    # Read from aiohttp itself: a newer version may have more options.
    known = inspect.signature(aiohttp.ClientSession).parameters.keys() - {"proxy_auth"}
    check_options(kind, options, known, _HINTS)
    for name, value in options.items():
        _check_value(name, value)


def _check_value(name: str, value: object) -> None:
    if name in _FLAGS:
        check_flag(name, value)
    elif name in _SIZES:
        check_number(name, value, at_least=1, is_whole=True)
    elif name in _TYPES:
        check_type(name, value, _TYPES[name])
    elif name in _FUNCTIONS:
        check_callable(name, value, arguments=_FUNCTIONS[name], is_plain=True)
    elif name in _SEQUENCES and value is not None:
        _check_sequence(name, value)
    elif name == "raise_for_status" and not isinstance(value, bool):
        if not callable(value):
            raise type_error(name, value, "True, False or a coroutine function")
        check_callable(name, value, arguments=1)


def _check_sequence(name: str, value: object) -> None:
    # A string would be treated as its characters.
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise type_error(name, value, "a sequence")
    for middleware in cast("Iterable[object]", value) if name == "middlewares" else ():
        check_callable(name, middleware, arguments=2)
