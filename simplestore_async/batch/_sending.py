"""One attempt to send a request. Rule: aiohttp sends it once, and it is known whether it left.

A batch sends by a session of its own, made from the caller's and over its connections: what is set here (no cookies
that were received, no retries of aiohttp's own) changes nothing for others who use that session.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.request import getproxies, proxy_bypass

import aiohttp
import attrs
from aiohttp import ClientResponse, hdrs

from simplestore_async._core.proxied_request import fixed_proxy_class
from simplestore_async._core.target import find_target
from simplestore_async._core.wire import parse_retry_after
from simplestore_async.errors import ConfigurationError

if TYPE_CHECKING:
    from http.cookies import BaseCookie

    from aiohttp import ClientHandlerType, ClientRequest, ClientSession
    from aiohttp.abc import AbstractCookieJar
    from yarl import URL

    from ._values import BatchRequest

__all__ = ["Attempt", "Response", "base_url_of", "describe_error", "open_own_session"]

_MOST_BYTES: Final = 16 << 20
_LARGE_BYTES: Final = 1 << 20
_NOTHING_ADDED: Final = frozenset({hdrs.CONTENT_TYPE})
_NO_CONNECTION: Final = aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError


class _CutError(aiohttp.ClientError):
    """The connection was lost; of a type that aiohttp sends no PUT or DELETE again after."""


class _FixedCookies(aiohttp.DummyCookieJar):
    """The caller's cookies, to which responses add none."""

    def __init__(self, cookies: AbstractCookieJar) -> None:
        super().__init__()
        self._cookies = cookies

    def filter_cookies(self, request_url: URL) -> BaseCookie[str]:
        return self._cookies.filter_cookies(request_url)


def base_url_of(session: ClientSession) -> URL:
    """Return the session's base URL.

    Raises:
        ConfigurationError: if it has none.
    """
    base_url: URL | None = session._base_url  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - no public name
    if base_url is None:
        raise ConfigurationError("session", "must have a base_url, below which all paths lead")
    return base_url


def open_own_session(session: ClientSession, *, timeout_seconds: float) -> ClientSession:
    """Return a session like the caller's, over the same connections, that no other code uses."""
    base_url = base_url_of(session)
    proxy = session._default_proxy  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - no public name
    if proxy is None and session.trust_env and not proxy_bypass(base_url.host or ""):
        # Looked up once: aiohttp would do so in a thread, and read netrc, for each request.
        proxy = getproxies().get(base_url.scheme)
    # aiohttp has no public names for these.
    return aiohttp.ClientSession(
        base_url,
        connector=session.connector,
        connector_owner=False,
        headers=session.headers,
        skip_auto_headers=session.skip_auto_headers,
        cookie_jar=_FixedCookies(session.cookie_jar),
        auto_decompress=session.auto_decompress,
        trace_configs=session.trace_configs,
        timeout=aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=30.0),
        proxy=proxy,
        proxy_auth=session._default_proxy_auth,  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - no public name
        middlewares=session._middlewares,  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - no public name
        request_class=fixed_proxy_class(session._request_class, base_url),  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - no public name
    )


@attrs.define
class Response:
    """A whole response of the API.

    Attributes:
        head: status and headers.
        body: all of the body; empty if it is too long.
        problem: why it is not there.
    """

    head: ClientResponse = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    problem: str | None = None

    @property
    def retry_after_seconds(self) -> float | None:
        """How long the API asks to wait, if it does."""
        headers = self.head.headers
        if hdrs.RETRY_AFTER not in headers:
            return None
        return parse_retry_after(headers[hdrs.RETRY_AFTER], date=headers.get(hdrs.DATE), now=time.time())


class Attempt:
    """An attempt; also the innermost middleware of its request.

    Attributes:
        has_left: whether the request may have reached the API, and was not rejected for its token.
    """

    def __init__(self, request: BatchRequest, *, session: ClientSession, large: asyncio.Semaphore) -> None:
        self.has_left = False
        self._request = request
        self._session = session
        self._large = large

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        send = request.send

        async def send_noted(connection: Any) -> ClientResponse:
            self.has_left = True
            return await send(connection)

        self.has_left = False
        # A trace would tell it, too, and take a quarter of the time that a request takes.
        request.send = send_noted  # type: ignore[method-assign, assignment]  # its one caller has a connection by then
        try:
            response = await handler(request)
        except _NO_CONNECTION:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            raise _CutError(str(error) or type(error).__name__) from error
        finally:
            del request.send  # else the request would be left to the garbage collector
        if not self.has_left:
            raise AssertionError(f"aiohttp {aiohttp.__version__} sends requests in another way")
        if response.status == 401:  # rejected before it took effect
            self.has_left = False
        return response

    async def send(self) -> Response:
        """Send the request, and return the response; a redirect is one.

        Raises:
            SimpleStoreError: if no token can be obtained.
            aiohttp.ClientError: if no complete response came.
            TimeoutError: if none came in time.
            OSError: if the body's file cannot be opened.
        """
        request = self._request
        if not isinstance(request.body, Path):
            return await self._send(request.body)
        file = await asyncio.to_thread(request.body.open, "rb")
        try:
            return await self._send(file)
        finally:
            file.close()

    async def _send(self, body: bytes | IO[bytes] | None) -> Response:
        request = self._request
        # A body's type is what the line says, or nothing. Skipping a header costs time even where it is set.
        is_typed = body is None or any(name.lower() == "content-type" for name, _ in request.headers)
        middlewares = self._session._middlewares  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - no public name
        async with self._session.request(
            request.method,
            find_target(request.path),
            data=body,
            headers=request.headers or None,
            skip_auto_headers=None if is_typed else _NOTHING_ADDED,
            allow_redirects=False,
            middlewares=(*middlewares, self),
        ) as response:
            return await self._read(response)

    async def _read(self, response: ClientResponse) -> Response:
        """Read the body; large ones a few at a time, and the largest not at all."""
        length = response.content_length
        if length is not None and length <= _LARGE_BYTES and hdrs.CONTENT_ENCODING not in response.headers:
            return Response(response, await response.read())
        async with AsyncExitStack() as stack:
            parts: list[bytes] = []
            size = 0
            async for part in response.content.iter_any():
                parts.append(part)
                size += len(part)
                if size > _LARGE_BYTES >= size - len(part):
                    await stack.enter_async_context(self._large)
                if size > _MOST_BYTES:
                    response.close()
                    return Response(response, b"", f"the response body is longer than {_MOST_BYTES >> 20} MiB")
            return Response(response, b"".join(parts))


def describe_error(error: BaseException, *, timeout_seconds: float) -> str:
    """Return an error's text, on one line."""
    if isinstance(error, TimeoutError) and not str(error):
        return f"no complete response within {timeout_seconds:g} s"
    return " ".join(str(error).split()) or type(error).__name__
