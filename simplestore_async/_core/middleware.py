"""The middleware. Rule: no request to its origins is sent without a token, and no token is sent anywhere else.

aiohttp runs middlewares again for every hop of a redirect, after it removed Authorization; the check of the origin
keeps a redirect from sending the token elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import hdrs

from .bearer import Bearer, proxy_error
from .connector import check_ssl, tls_setting
from .origin import conceal_urls, origin_of
from .replay import find_replay, retire_connection
from .tracebacks import clear_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
    from yarl import URL

    from .token import AccessToken, TokenSource

__all__ = ["BearerAuthMiddleware"]


class BearerAuthMiddleware:
    """Put `Authorization: Bearer` on the requests to some origins, and on no other (RFC 6750 §2.1).

    A client middleware for `aiohttp.ClientSession(middlewares=…)`. Inside the origins the caller's Authorization header
    is replaced; `middlewares=()` on a request opts out. If no token can be obtained, the request is not sent.

    When the API rejects the token, the token is replaced and the request is sent again, if its body can be. Rejections
    are 401 (unless its Bearer challenge has only `insufficient_scope`), any other 4xx whose Bearer challenge has
    `invalid_token`, and those of *is_rejected*. In every other case the caller gets the response, unread.

    Args:
        source: source of the tokens, such as a `TokenProvider`.
        origins: the API's origins, such as `https://api.example.com`; a string is one of them. `ws` and `wss` requests
            belong to the `http` and `https` origin of their host and port.
        is_rejected: a function of a response's status and headers that recognises further rejections, such as
            `lambda status, headers: status == 419`.
        allow_insecure_http: accept origins of plain http on other machines; for closed test networks only.

    Raises:
        ConfigurationError: if an origin has more than scheme, host and port, or is plain http to another machine.
            While in use: if a plain-http request would pass through a proxy, or certificates would not be verified.
    """

    def __init__(
        self,
        source: TokenSource,
        *,
        origins: str | URL | Iterable[str | URL],
        is_rejected: Callable[[int, Mapping[str, str]], bool] | None = None,
        allow_insecure_http: bool = False,
    ) -> None:
        origins = conceal_urls("origins", origins)
        self._bearer = Bearer(source, origins=origins, is_rejected=is_rejected, allow_insecure_http=allow_insecure_http)

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request* by *handler*, with a token if it goes to one of the origins."""
        bearer = self._bearer
        if origin_of(request.url) not in bearer.origins:
            return await _send(request, handler)
        _check_connection(request)
        replay = find_replay(request)
        token = await bearer.source.get_token()
        while True:
            request.headers[hdrs.AUTHORIZATION] = token.authorization
            try:  # repeats _send(): one coroutine fewer on the path of every request
                response = await handler(request)
            except BaseException as error:
                clear_frames(error)
                raise
            finally:
                # `request_info` and aiohttp's errors show these headers.
                request.headers.pop(hdrs.AUTHORIZATION, None)
            if not self._is_rejection(token, response):
                return response
            if not bearer.source.invalidate(token) or replay is None:
                retire_connection(request, response)
                return response
            await replay.prepare(request, response)
            token, replay = await bearer.replace(token), None

    def _is_rejection(self, token: AccessToken, response: ClientResponse) -> bool:
        status, headers = response.status, response.headers
        challenges = headers.getall(hdrs.WWW_AUTHENTICATE, ()) if status >= 400 else ()
        try:
            return self._bearer.rejects(token, status, headers, challenges)
        except BaseException:
            response.close()
            raise


async def _send(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    try:
        return await handler(request)
    except BaseException as error:
        clear_frames(error)
        raise


def _check_connection(request: ClientRequest) -> None:
    """Check that no proxy can read *request*, and that its server's certificate is verified.

    Raises:
        ConfigurationError: if not.
    """
    if request.is_ssl():
        setting: object = request.ssl
        if setting is True:
            setting = tls_setting(request.session.connector)
        if setting is not True:
            check_ssl("ssl", setting)
    elif request.proxy is not None:
        raise proxy_error(request.url.origin())
