"""The token endpoint. Rule: the only module that opens HTTP; it sends the secret only by a POST to one address.

Redirects are not followed (307 would post the secret elsewhere), netrc is not read, and the caller's session is not
used. Attempts and pauses end with the budget.
"""

from __future__ import annotations

import asyncio
import random
import ssl as ssl_module
from typing import TYPE_CHECKING, Final, Self

import aiohttp

from simplestore_async._core import __version__
from simplestore_async.errors import (
    ConfigurationError,
    TokenEndpointError,
    TokenError,
    TokenResponseError,
    TokenTimeoutError,
)

from .clock import Clock, default_clock
from .connector import check_connector, check_loop, check_ssl, tls_setting
from .credentials import ClientCredentials
from .headers import conceal_values, parse_token_headers
from .policy import DEFAULT_RETRY_POLICY, RetryPolicy
from .proxy import ProxySettings
from .redaction import RedactedBytes, conceal
from .transport_errors import build_transport_error
from .validation import check_type

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from yarl import URL

    from .proxy import Proxy
    from .redaction import SupportsSecretValue
    from .token import AccessToken
    from .wire import Exchange

__all__ = ["TokenEndpoint"]


class TokenEndpoint:
    """Request tokens from a token endpoint (RFC 6749 §4.4), with retries within one budget.

    Each call makes a request: tokens are stored, shared and renewed by `TokenProvider`.

    Args:
        credentials: client credentials, with the endpoint's address.
        policy: number and time limit of attempts, and their budget.
        connector: an aiohttp connector to borrow, for your own resolver or socket. It stays open and belongs to
            one event loop. Without one, every renewal opens and closes its own connection.
        headers: further headers of the token request, such as an API gateway's subscription key; never shown. They must
            not be Authorization, Host, Cookie, `Content-…`, `Proxy-…` or headers for framing.
        ssl: an `ssl.SSLContext` that trusts a private CA, or an `aiohttp.Fingerprint`. Create it once: a context takes
            about 20 ms. Certificates are always verified.
        proxy: URL of an HTTP proxy. The request goes through a CONNECT tunnel.
        trust_env: use the proxy in `https_proxy` or `all_proxy`, except for hosts in `no_proxy`; netrc is never read.
        clock: the clock for the lifetime of tokens.

    Raises:
        ConfigurationError: if an argument is wrong, conflicts with another, or would send plain http through a proxy.
    """

    def __init__(  # noqa: PLR0913 - aiohttp's own names for the surroundings of a request
        self,
        credentials: ClientCredentials,
        *,
        policy: RetryPolicy | None = None,
        connector: aiohttp.BaseConnector | None = None,
        headers: Mapping[str, str] | None = None,
        ssl: ssl_module.SSLContext | aiohttp.Fingerprint | None = None,
        proxy: str | URL | SupportsSecretValue | None = None,
        trust_env: bool = False,
        clock: Clock | None = None,
    ) -> None:
        # They may contain a password or a key, and a traceback shows the locals of this frame.
        credentials, proxy, headers = conceal(credentials), conceal(proxy), conceal_values(headers)
        check_type("credentials", credentials, ClientCredentials)
        check_type("policy", policy, RetryPolicy | None)
        check_type("connector", connector, aiohttp.BaseConnector | None)
        check_type("clock", clock, Clock | None)
        if ssl is not None:
            check_ssl("ssl", ssl)
        self._proxies = ProxySettings(proxy, trust_env=trust_env)
        if connector is not None:
            _check_connector(connector, has_ssl=ssl is not None, has_proxy=proxy is not None or trust_env)
        self.credentials: Final = credentials
        self.policy: Final = policy or DEFAULT_RETRY_POLICY
        self.clock: Final[Clock] = clock or default_clock()
        self._connector = connector
        self._headers = parse_token_headers({} if headers is None else headers)
        self._ssl: ssl_module.SSLContext | aiohttp.Fingerprint | bool = True if ssl is None else ssl
        if proxy is not None:
            self._find_proxy()
        if credentials.auth_method == "none" and credentials.token_url.scheme == "https" and not self._has_context():
            raise ConfigurationError(
                "ssl",
                'is not set, but auth_method="none" identifies the client by its certificate',
                "pass an ssl.SSLContext after its load_cert_chain(…)",
            )

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    async def request_token(self) -> AccessToken:
        """Return a new token; each call makes its own request.

        Raises:
            InvalidClientError: client id or secret are wrong.
            TokenEndpointError: the endpoint refused for another reason, or kept failing.
            TokenTransportError: no complete response; `TokenTimeoutError` if none came in time.
            TokenResponseError: the response is complete but not a token.
            ConfigurationError: the connector is closed or belongs to another loop.
        """
        deadline = asyncio.get_running_loop().time() + self.policy.budget_seconds
        token, _ = await self.fetch(deadline=deadline, may_retry=lambda: True)
        return token

    async def fetch(self, *, deadline: float, may_retry: Callable[[], bool]) -> tuple[AccessToken, float]:
        """Return a new token, and the reading of `clock.monotonic()` when it was requested.

        Args:
            deadline: the end of the budget, in the running loop's time.
            may_retry: called before each further attempt; False ends with the error of the last one.
        """
        secret = await self._read_secret(deadline)
        exchange = await self._authenticate(secret, deadline)
        async with self._open_session() as session:
            try:
                return await self._try_repeatedly(session, exchange, secret, deadline, may_retry)
            except TokenEndpointError as error:
                if error.retryable or not self.credentials.has_dynamic_secret:
                    raise
                refusal = error
            # A rotated secret is used at once; an unchanged one would be refused again.
            secret = await self._read_secret(deadline)
            renewed = await self._authenticate(secret, deadline)
            if renewed.secret == exchange.secret:
                raise refusal
            return await self._try_repeatedly(session, renewed, secret, deadline, may_retry=lambda: False)

    async def _read_secret(self, deadline: float) -> str:
        try:
            async with asyncio.timeout_at(deadline):
                return await self.credentials.read_secret()
        except TimeoutError:
            pass  # raised below, without this one as its context
        raise TokenTimeoutError("token request failed: client_secret did not return within the renewal's budget")

    async def _authenticate(self, secret: str, deadline: float) -> Exchange:
        from .wire import Exchange

        try:
            async with asyncio.timeout_at(deadline):
                added = await self.credentials.authenticate()
        except TimeoutError:
            pass  # raised below, without this one as its context
        else:
            if added is None:
                return Exchange(self.credentials, secret, headers=self._headers)
            form, headers, secret = added
            return Exchange(self.credentials, secret, headers={**self._headers, **headers}, authentication=form)
        raise TokenTimeoutError("token request failed: auth_method did not return within the renewal's budget")

    async def _try_repeatedly(
        self,
        session: aiohttp.ClientSession,
        exchange: Exchange,
        secret: str,
        deadline: float,
        may_retry: Callable[[], bool],
    ) -> tuple[AccessToken, float]:
        loop = asyncio.get_running_loop()
        attempt = 1
        while True:
            outcome = await self._post(session, exchange, deadline)
            if not isinstance(outcome, TokenError):
                return outcome
            pause = self.policy.pause_seconds(attempt, random.random)
            pause = max(pause, getattr(outcome, "retry_after", None) or pause)
            is_last = attempt >= self.policy.attempts or loop.time() + pause >= deadline
            # Raised here, where no local holds the response.
            if is_last or not outcome.retryable or not may_retry():
                raise outcome
            await asyncio.sleep(pause)
            attempt += 1
            exchange = await self._authenticate(secret, deadline)

    async def _post(
        self, session: aiohttp.ClientSession, exchange: Exchange, deadline: float
    ) -> tuple[AccessToken, float] | TokenError:
        proxy = self._find_proxy()
        requested_at, issued_at = self.clock.monotonic(), self.clock.time()
        now = asyncio.get_running_loop().time()
        until = min(deadline, now + self.policy.attempt_seconds)

        async def add_secret_headers(
            request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            request.headers.update(exchange.secret_headers)
            return await send(request)

        try:
            async with (
                asyncio.timeout_at(until),
                session.post(
                    self.credentials.token_url,
                    data=exchange.body,
                    headers=exchange.headers,
                    # Added late: tracing exports the initial headers of a request.
                    middlewares=(add_secret_headers,),
                    allow_redirects=False,
                    proxy=proxy.url if proxy else None,
                    proxy_headers=proxy.headers if proxy else None,
                    ssl=self._ssl,
                ) as response,
            ):
                body = await _read(response.content)
        except Exception as error:  # noqa: BLE001 - the text of any aiohttp error may quote the response
            url = str(self.credentials.token_url.with_query(None))
            return build_transport_error(error, url=url, seconds=until - now)
        token = exchange.parse_response(
            response.status, response.headers, body, issued_at=issued_at, now=self.clock.time()
        )
        if isinstance(token, TokenError):
            return token
        life_seconds = token.expires_at - token.issued_at
        if self.clock.monotonic() >= requested_at + life_seconds:
            return TokenResponseError(
                f"token request failed: the token of {life_seconds:g} s had expired when it arrived", retryable=True
            )
        return token, requested_at

    def _open_session(self) -> aiohttp.ClientSession:
        connector = self._connector
        if connector is not None:
            check_loop(connector)
        # A session for each renewal costs microseconds, and nothing has to be owned, shared or closed.
        return aiohttp.ClientSession(
            connector=connector or aiohttp.TCPConnector(force_close=True),
            connector_owner=connector is None,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"simplestore-async/{__version__}"},
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )

    def _has_context(self) -> bool:
        settings = (self._ssl, tls_setting(self._connector))
        return any(isinstance(setting, ssl_module.SSLContext) for setting in settings)

    def _find_proxy(self) -> Proxy | None:
        url = self.credentials.token_url
        proxy = self._proxies.find(url)
        if proxy is not None and url.scheme != "https":
            raise ConfigurationError(
                "token_url", "uses plain http, which would show the secret to the proxy", "use https, or no proxy"
            )
        return proxy


def _check_connector(connector: aiohttp.BaseConnector, *, has_ssl: bool, has_proxy: bool) -> None:
    """Refuse a connector that does not verify certificates, or with which `ssl=` or `proxy=` has no effect."""
    check_connector(connector)
    for field, is_set in ("ssl", has_ssl), ("proxy", has_proxy):
        if is_set and not isinstance(connector, aiohttp.TCPConnector):
            raise ConfigurationError(field, "cannot be combined with this connector", "pass a TCPConnector, or none")
    if has_ssl and tls_setting(connector) is not True:
        raise ConfigurationError("ssl", "cannot be combined with this connector", "pass ssl= to one of the two")


async def _read(content: aiohttp.StreamReader) -> RedactedBytes:
    """Return the body, or enough of it to prove that it is too long."""
    from .response import MAX_RESPONSE_BYTES

    # Each piece is redacted: the traceback of a caller's deadline may show the locals of this frame.
    pieces: list[RedactedBytes] = []
    size = 0
    while size <= MAX_RESPONSE_BYTES and (piece := RedactedBytes(await content.readany())):
        pieces.append(piece)
        size += len(piece)
    return RedactedBytes(b"".join(pieces))
