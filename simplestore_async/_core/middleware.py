"""The middleware. Rule: no request to its origins leaves without a token, and no token goes anywhere else.

aiohttp runs middlewares again on every hop of a redirect, after it took Authorization off; the check of the origin is
what keeps a redirect from carrying the token away. Whether a body can be sent twice is decided before it is sent once.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import hdrs, payload

from simplestore_async.errors import ConfigurationError, TokenError

from .origin import conceal_urls, origin_of, parse_origins

if TYPE_CHECKING:
    from collections.abc import Iterable
    from io import IOBase

    from yarl import URL

    from .token import AccessToken, TokenSource

__all__ = ["BearerAuthMiddleware"]

# aiohttp sends these again byte for byte. Exact types: what a subclass does with its value is unknown.
_IN_MEMORY: Final = {
    payload.BytesIOPayload,
    payload.BytesPayload,
    payload.JsonPayload,
    payload.StringIOPayload,
    payload.StringPayload,
    getattr(payload, "JsonBytesPayload", payload.JsonPayload),  # newer than the oldest aiohttp that we support
}
_FILES: Final = {payload.BufferedReaderPayload, payload.BytesIOPayload, payload.IOBasePayload, payload.TextIOPayload}
# RFC 6750 3: a challenge of the scheme Bearer whose attribute error is invalid_token.
_INVALID_TOKEN: Final = re.compile(
    r'(?:^|[\s,])bearer\s(?:.*[\s,])?error\s*=\s*"?invalid_token(?:"|[\s,]|$)', re.IGNORECASE
)


class BearerAuthMiddleware:
    """Put `Authorization: Bearer` on the requests to some origins, and on no other (RFC 6750 2.1).

    A client middleware for `aiohttp.ClientSession(middlewares=…)`. Inside the origins an Authorization header of the
    caller's is replaced; `middlewares=()` on a request opts out. If no token can be had, the request is not sent.

    When the API rejects the token (401, or any 4xx that says `error="invalid_token"`) it is replaced and the request is
    sent once more, if its body can be. In every other case the caller gets the response, unread.

    Args:
        source: where the tokens come from, such as a `TokenProvider`.
        origins: the API's origins, such as `https://api.example.com`; a string is one of them. `ws` and `wss` requests
            belong to the `http` and `https` origin of their host and port.
        allow_insecure_http: accept origins of plain http on other machines; for closed test networks only.

    Raises:
        ConfigurationError: if an origin holds more than scheme, host and port, or is plain http to another machine.
            While in use: if a request of plain http would pass through a proxy.
    """

    def __init__(
        self, source: TokenSource, *, origins: str | URL | Iterable[str | URL], allow_insecure_http: bool = False
    ) -> None:
        origins = conceal_urls("origins", origins)
        if not callable(getattr(source, "get_token", None)) or not callable(getattr(source, "invalidate", None)):
            raise ConfigurationError(
                f"source must have get_token and invalidate, which {type(source).__name__} has not"
            )
        self._source = source
        self._origins = parse_origins(origins, allow_insecure_http=allow_insecure_http)

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send *request* by *handler*, with a token if it goes to one of the origins."""
        if origin_of(request.url) not in self._origins:
            return await handler(request)
        if request.proxy is not None and not request.is_ssl():
            raise ConfigurationError(
                f"{request.url.origin()} is plain http, which would show the token to the proxy: use https, or no proxy"
            )
        # After "Expect: 100-continue" the second send would wait for a reply that came long ago.
        can_replay = _is_repeatable(request.body) and hdrs.EXPECT not in request.headers
        rejected: AccessToken | None = None
        while True:
            token = await self._source.get_token()
            if rejected is not None and token.value == rejected.value:
                raise TokenError(
                    "The API rejected the token, and the token endpoint gave the same one again: "
                    "ask the API's side why",
                    retryable=True,
                )
            request.headers[hdrs.AUTHORIZATION] = token.authorization
            try:
                response = await handler(request)
            finally:
                # `request_info` and aiohttp's errors show these very headers.
                request.headers.pop(hdrs.AUTHORIZATION, None)
            if not _is_rejected(response):
                return response
            may_replace = self._source.invalidate(token)
            if rejected is not None or not may_replace or not can_replay or not _is_sent(request, response):
                return response
            # Released first: the renewal, or the replay, may need the one connection that the pool has.
            response.release()
            rejected = token


def _is_rejected(response: aiohttp.ClientResponse) -> bool:
    if not 400 <= response.status < 500:
        return False
    return response.status == 401 or any(map(_INVALID_TOKEN.search, response.headers.getall(hdrs.WWW_AUTHENTICATE, [])))


def _is_sent(request: aiohttp.ClientRequest, response: aiohttp.ClientResponse) -> bool:
    # An API may answer before it has read everything. A thread may then still be reading the file.
    writer = response._writer  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - no public name tells
    return writer is None or writer.done() or _is_in_memory(request.body)


def _is_in_memory(body: object) -> bool:
    if type(body) is aiohttp.MultipartWriter:
        return all(_is_in_memory(part) for part, _, _ in body)
    return isinstance(body, bytes) or type(body) in _IN_MEMORY


def _is_repeatable(body: object) -> bool:
    if not body:  # most often there is none, which is b""
        return True
    if type(body) is aiohttp.MultipartWriter:
        return all(_is_repeatable(part) for part, _, _ in body)
    if isinstance(body, payload.IOBasePayload) and type(body) in _FILES:
        return _can_rewind(body._value)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - `size` says nothing of text
    return _is_in_memory(body)


def _can_rewind(file: IOBase) -> bool:
    try:
        file.tell()  # fails for a text file that is being iterated over
        return file.seekable()
    except (AttributeError, OSError, ValueError):
        return False
