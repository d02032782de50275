"""httpx transport with tokens. Rule: the caller's request never contains the token.

The token is added to a copy, which is sent to one of the origins.
"""

from __future__ import annotations

from contextlib import suppress
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, Final, Self

from simplestore_async.errors import ConfigurationError

from .bearer import Bearer, proxy_error
from .connector import check_ssl
from .cookies import list_cookies, update_cookies
from .httpx_connections import Connections, find_pools, hide_header_blocks
from .httpx_package import package_of
from .origin import conceal_urls, read_origin
from .redaction import RedactedBytes
from .tracebacks import clear_frames
from .validation import type_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import NoReturn

    import httpx
    import httpx2
    from yarl import URL

    from .token import AccessToken, TokenSource

    # A package that is not installed is Any to a type checker.
    class _AsyncTransport(httpx2.AsyncBaseTransport, httpx.AsyncBaseTransport):  # type: ignore[misc]
        pass

else:

    class _AsyncTransport:
        """The methods that httpx requires of a transport."""


__all__ = ["BearerTransport"]

_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class BearerTransport(_AsyncTransport):
    """Put `Authorization: Bearer` on the requests to some origins, and on no other (RFC 6750 2.1).

    A transport for `httpx2.AsyncClient(transport=…)` and `httpx.AsyncClient(transport=…)`. It sees each hop of a
    redirect, which an `auth=` flow does not. Inside the origins the caller's Authorization header is replaced. If
    no token can be obtained, the request is not sent.

    When the API rejects the token, the token is replaced and the request is sent again, if it has no body or one of
    bytes, text, JSON or a form; streams and multipart bodies are sent once. Rejections are those of
    `BearerAuthMiddleware`. In every other case the caller gets the response, unread.

    Args:
        source: source of the tokens, such as a `TokenProvider`.
        origins: the API's origins, such as `https://api.example.com`; a string is one of them.
        transport: the async transport that sends the requests and is closed with this one; by default an
            `AsyncHTTPTransport` without a proxy. Configure proxies on it: with `proxy=` or `mounts=` on the client,
            requests bypass this transport and carry no token.
        is_rejected: a function of status and headers that recognises further rejections.
        allow_insecure_http: accept origins of plain http on other machines; for closed test networks only.

    Raises:
        ConfigurationError: if an argument is wrong, or *transport* does not verify certificates. While in use: if a
            plain-http request would pass through a proxy.
    """

    def __init__(
        self,
        source: TokenSource,
        *,
        origins: str | URL | Iterable[str | URL],
        transport: httpx2.AsyncBaseTransport | httpx.AsyncBaseTransport | None = None,
        is_rejected: Callable[[int, Mapping[str, str]], bool] | None = None,
        allow_insecure_http: bool = False,
    ) -> None:
        origins = conceal_urls("origins", origins)
        self._bearer = Bearer(source, origins=origins, is_rejected=is_rejected, allow_insecure_http=allow_insecure_http)
        self._transport: Any = Connections() if transport is None else _check_transport(transport)

    async def handle_async_request(self, request: httpx2.Request | httpx.Request) -> Any:
        """Send *request*, with a token if it goes to one of the origins."""
        url, bearer = request.url, self._bearer
        if (
            read_origin(url.scheme, url.raw_host.decode("ascii"), url.port or _PORTS.get(url.scheme))
            not in bearer.origins
        ):
            return await self._send(request)
        self._check_connection(request)
        # Before the body is sent.
        is_repeatable = type(request.stream) is package_of(request).ByteStream
        token = await bearer.source.get_token()
        response = await self._send(_authorize(request, token))
        if not await self._is_rejection(token, response):
            return response
        if not bearer.source.invalidate(token) or not is_repeatable:
            return response
        cookies = list_cookies(response)
        # Closed before the renewal: with a pool of one connection, the second request would deadlock.
        with suppress(Exception):
            await response.aclose()
        replacement = await bearer.replace(token)
        response = await self._send(_authorize(request, replacement, cookies))
        if cookies:
            # The client's jar reads only the headers of this response.
            response.headers = package_of(response).Headers([*cookies, *response.headers.raw])
        if await self._is_rejection(replacement, response):
            bearer.source.invalidate(replacement)
        return response

    async def __aenter__(self) -> Self:
        if (enter := getattr(self._transport, "__aenter__", None)) is not None:
            await enter()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        if (leave := getattr(self._transport, "__aexit__", None)) is not None:
            await leave(exc_type, exc_value, traceback)
        else:
            await self._transport.aclose()

    async def aclose(self) -> None:
        """Close the transport that sends the requests."""
        await self._transport.aclose()

    async def _send(self, request: Any) -> Any:
        try:
            return await self._transport.handle_async_request(request)
        except BaseException as error:
            clear_frames(error)
            raise

    async def _is_rejection(self, token: AccessToken, response: Any) -> bool:
        status = response.status_code
        challenges = response.headers.get_list("WWW-Authenticate") if status >= 400 else ()
        try:
            return self._bearer.rejects(token, status, response.headers, challenges)
        except BaseException:
            await response.aclose()
            raise

    def _check_connection(self, request: Any) -> None:
        if request.url.scheme in {"https", "wss"}:
            return
        transport = self._transport
        chosen = transport.choose(request) if isinstance(transport, Connections) else transport
        # httpcore has no public name for it.
        if any(hasattr(pool, "_proxy_url") for pool in find_pools(chosen)):
            raise proxy_error(f"{request.url.scheme}://{request.url.netloc.decode('ascii')}")

    if not TYPE_CHECKING:  # type checkers report these themselves

        def __enter__(self) -> NoReturn:
            raise _sync_error()

        __exit__ = __enter__  # `with` looks for it first

        def handle_request(self, _: object) -> NoReturn:
            """Refuse a synchronous client."""
            raise _sync_error()

        def close(self) -> None:
            """Do nothing: a synchronous client closes its transport, which was never opened."""


def _sync_error() -> ConfigurationError:
    return ConfigurationError("BearerTransport", "needs an AsyncClient, not a synchronous Client", "use AsyncClient")


def _check_transport(transport: Any) -> Any:
    if isinstance(transport, type) or not callable(getattr(transport, "handle_async_request", None)):
        raise type_error("transport", transport, "an async transport", "such as httpx2.AsyncHTTPTransport()")
    for pool in find_pools(transport):
        if getattr(pool, "_http2", False):
            hide_header_blocks()
        if isinstance(context := getattr(pool, "_ssl_context", None), SSLContext):
            check_ssl("transport's verify", context)
    return transport


def _authorize(request: Any, token: AccessToken, cookies: list[tuple[bytes, bytes]] | None = None) -> Any:
    """Return a copy of *request* that carries *token*."""
    package = package_of(request)
    headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"authorization"]
    if cookies:
        headers = [(name, value) for name, value in headers if name.lower() != b"cookie"]
        if pairs := update_cookies(package, request, cookies):
            headers.append((b"Cookie", pairs.encode()))
    # Bytes, which httpx and httpcore keep unchanged and therefore redacted.
    headers.append((b"Authorization", RedactedBytes(token.authorization.encode())))
    return package.Request(
        request.method,
        request.url,
        headers=package.Headers(headers),
        stream=request.stream,
        extensions=request.extensions,
    )
