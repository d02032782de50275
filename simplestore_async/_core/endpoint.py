"""The token endpoint. Rule: the only module that opens HTTP, and the secret leaves it by one POST to one address.

Redirects are not followed (307 would post the secret elsewhere), netrc is not read, nothing of the caller's session
goes along. Attempts and pauses end with the budget.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import os
import random
import socket
import ssl as ssl_module
from functools import cache
from typing import TYPE_CHECKING, Final
from urllib.request import getproxies, proxy_bypass

import aiohttp
import attrs
from yarl import URL

from simplestore_async.errors import (
    ConfigurationError,
    TokenEndpointError,
    TokenError,
    TokenResponseError,
    TokenTimeoutError,
    TokenTransportError,
)

from .clock import Clock, default_clock
from .credentials import ClientCredentials
from .origin import is_loopback
from .policy import DEFAULT_RETRY_POLICY, RetryPolicy
from .redaction import RedactedStr, conceal, show_fields
from .token import AccessToken
from .validation import check_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenacity import RetryCallState

    from .wire import Exchange

__all__ = ["Receipt", "TokenEndpoint"]

_CERTIFICATE_ERRORS: Final = (
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ServerFingerprintMismatch,
    ssl_module.SSLCertVerificationError,
)


@attrs.frozen(eq=False, repr=False)
class _Proxy:
    """A proxy without userinfo in its URL, which aiohttp's frames and errors would show; its header is redacted."""

    url: URL
    headers: dict[str, str]


@attrs.frozen(eq=False, repr=False)
class Receipt:
    """A token, and when it was asked for on the deciding clock."""

    token: AccessToken
    requested_at: float

    __repr__ = show_fields


class TokenEndpoint:
    """Request tokens from a token endpoint (RFC 6749 4.4), with attempts, pauses and one budget for all of them.

    Each call is a request: nothing is kept, shared or renewed here; that is what `TokenProvider` is for.

    Args:
        credentials: who asks, and where.
        policy: attempts, their time and their budget.
        connector: an aiohttp connector to borrow, for a resolver or socket of one's own. It stays open and belongs to
            one event loop. Without one, every renewal opens and closes its own connection.
        ssl: an `ssl.SSLContext` that trusts a private CA, or an `aiohttp.Fingerprint`. Make it once: a context takes
            about 20 ms. Checking cannot be turned off.
        proxy: URL of an HTTP proxy. The request passes it inside a CONNECT tunnel.
        trust_env: use the proxy that `https_proxy` and `no_proxy` name; netrc is never read.
        clock: the clock that decides about the token's life.

    Raises:
        ConfigurationError: if an argument is wrong, or plain http would pass through a proxy.
    """

    def __init__(  # noqa: PLR0913 - aiohttp's own names for the surroundings of a request
        self,
        credentials: ClientCredentials,
        *,
        policy: RetryPolicy | None = None,
        connector: aiohttp.BaseConnector | None = None,
        ssl: ssl_module.SSLContext | aiohttp.Fingerprint | None = None,
        proxy: str | URL | None = None,
        trust_env: bool = False,
        clock: Clock | None = None,
    ) -> None:
        proxy = conceal(proxy)  # a password may be in it
        if not isinstance(credentials, ClientCredentials):
            raise ConfigurationError(f"credentials must be ClientCredentials, not {type(credentials).__name__}")
        if not isinstance(ssl, ssl_module.SSLContext | aiohttp.Fingerprint | None):
            raise ConfigurationError(
                "ssl must be an ssl.SSLContext or aiohttp.Fingerprint: for a private CA pass "
                "ssl.create_default_context(cafile=…); certificates are always checked"
            )
        check_type("policy", policy, RetryPolicy | None)
        check_type("connector", connector, aiohttp.BaseConnector | None)
        check_type("clock", clock, Clock | None)
        self.credentials: Final = credentials
        self.policy: Final = policy or DEFAULT_RETRY_POLICY
        self.clock: Final[Clock] = clock or default_clock()
        self._connector = connector
        self._ssl: ssl_module.SSLContext | aiohttp.Fingerprint | bool = True if ssl is None else ssl
        self._proxy = None if proxy is None else self._parse_proxy("proxy", proxy)
        self._trust_env = trust_env

    async def request_token(self) -> AccessToken:
        """Return a new token; each call makes its own request.

        Raises:
            InvalidClientError: client id or secret are wrong.
            TokenEndpointError: the endpoint refused for another reason, or kept failing.
            TokenTransportError: no complete reply; `TokenTimeoutError` if none came in time.
            TokenResponseError: the endpoint keeps answering with something that is no token.
            ConfigurationError: the connector is closed or belongs to another loop.
        """
        deadline = asyncio.get_running_loop().time() + self.policy.budget_seconds
        receipt = await self.fetch(deadline=deadline, may_retry=lambda: True)
        return receipt.token

    async def fetch(self, *, deadline: float, may_retry: Callable[[], bool]) -> Receipt:
        """Return a new token by *deadline* (loop time); *may_retry* is asked before each further attempt."""
        secret = await self._read_secret(deadline)
        async with self._open_session() as session:
            try:
                return await self._try_repeatedly(session, secret, deadline=deadline, may_retry=may_retry)
            except TokenEndpointError as error:
                if error.retryable or not self.credentials.has_dynamic_secret:
                    raise
                refusal = error
            # A rotated secret is taken up at once; the same one would only be refused again.
            renewed_secret = await self._read_secret(deadline)
            if renewed_secret == secret:
                raise refusal
            return await self._attempt(session, renewed_secret, deadline)

    async def _read_secret(self, deadline: float) -> str:
        try:
            async with asyncio.timeout_at(deadline):
                return await self.credentials.read_secret()
        except TimeoutError:
            problem = "No token: the client_secret callable did not return before the renewal's budget ended"
        raise TokenTimeoutError(problem)

    async def _try_repeatedly(
        self, session: aiohttp.ClientSession, secret: str, *, deadline: float, may_retry: Callable[[], bool]
    ) -> Receipt:
        # Imported here: only a token request needs it, and it costs as much as attrs.
        from tenacity import AsyncRetrying, retry_if_exception

        loop = asyncio.get_running_loop()

        def pause(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            own_pause = self.policy.pause_seconds(state.attempt_number, random.random)
            return max(own_pause, getattr(error, "retry_after", None) or own_pause)

        def is_last(state: RetryCallState) -> bool:
            return state.attempt_number >= self.policy.attempts or loop.time() + state.upcoming_sleep >= deadline

        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, TokenError) and error.retryable and may_retry()),
            wait=pause,
            stop=is_last,
            sleep=asyncio.sleep,
            reraise=True,
        )
        return await retrying(self._attempt, session, secret, deadline)

    async def _attempt(self, session: aiohttp.ClientSession, secret: str, deadline: float) -> Receipt:
        from .wire import Exchange

        # The outcome is raised here, where no local holds the reply.
        outcome = await self._post(session, Exchange(self.credentials, secret), deadline)
        if isinstance(outcome, TokenError):
            raise outcome
        return outcome

    async def _post(self, session: aiohttp.ClientSession, exchange: Exchange, deadline: float) -> Receipt | TokenError:
        proxy = self._find_proxy()
        requested_at, issued_at = self.clock.monotonic(), self.clock.time()
        now = asyncio.get_running_loop().time()
        until = min(deadline, now + self.policy.attempt_seconds)
        try:
            # A Payload: bytes or a dict would stand in clear among the locals of aiohttp's frames.
            data = aiohttp.BytesPayload(exchange.build_body())
            async with (
                asyncio.timeout_at(until),
                session.post(
                    self.credentials.token_url,
                    data=data,
                    headers=exchange.build_headers(),
                    allow_redirects=False,
                    proxy=proxy.url if proxy else None,
                    proxy_headers=proxy.headers if proxy else None,
                    ssl=self._ssl,
                ) as response,
            ):
                body = await _read(response)
        except Exception as error:  # noqa: BLE001 - whatever aiohttp raises, its text may quote what the server sent
            return self._describe(error, seconds=until - now)
        grant = exchange.parse_reply(response.status, response.headers, body, now=self.clock.time())
        if isinstance(grant, TokenError):
            return grant
        if self.clock.monotonic() >= requested_at + grant.lifetime_seconds:
            return TokenResponseError(
                f"No token: it was granted for {grant.lifetime_seconds:g} s, and had expired when it arrived",
                retryable=True,
            )
        token = AccessToken(
            grant.value, issued_at=issued_at, expires_at=issued_at + grant.lifetime_seconds, scope=grant.scope
        )
        return Receipt(token, requested_at)

    def _open_session(self) -> aiohttp.ClientSession:
        connector = self._connector
        if connector is not None and connector.closed:
            raise ConfigurationError("The connector given to TokenEndpoint is closed: close it after the last request")
        # aiohttp has no public name for a connector's loop, and would only find out in the middle of a request.
        if connector is not None and connector._loop is not asyncio.get_running_loop():  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - as said
            raise ConfigurationError(
                "The connector given to TokenEndpoint belongs to another event loop: "
                "make both in the same one, or pass none"
            )
        if getattr(connector, "_ssl", True) is False:
            raise ConfigurationError(
                "The connector given to TokenEndpoint does not check certificates (ssl=False): "
                "for a private CA make it with ssl=ssl.create_default_context(cafile=…)"
            )
        # A session for each renewal costs next to nothing, and leaves nothing to own, to leak or to share.
        return aiohttp.ClientSession(
            connector=connector or aiohttp.TCPConnector(force_close=True),
            connector_owner=connector is None,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": _user_agent()},
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )

    def _find_proxy(self) -> _Proxy | None:
        url = self.credentials.token_url
        if self._proxy is not None or not self._trust_env or is_loopback(url) or proxy_bypass(url.authority):
            return self._proxy
        proxy = conceal(getproxies().get(url.scheme))
        return None if proxy is None else self._parse_proxy(f"{url.scheme}_proxy", proxy)

    def _parse_proxy(self, field: str, value: str | URL) -> _Proxy:
        proxy = _read_proxy(value)
        if proxy is None:
            raise ConfigurationError(f"{field} must be the URL of an HTTP proxy, such as http://proxy.example.com:3128")
        if self.credentials.token_url.scheme != "https":
            raise ConfigurationError(
                f"token_url uses plain http, which would show the secret to the proxy: use https, or leave {field} out"
            )
        return proxy

    def _describe(self, error: Exception, *, seconds: float) -> TokenTransportError:
        """Return our error for one of aiohttp's, with only those texts of it that no server wrote."""
        where = f"No token: POST {self.credentials.token_url.with_query(None)} failed"
        if isinstance(error, TimeoutError):
            return TokenTimeoutError(f"{where}: no complete answer within {max(seconds, 0.0):.3g} s")
        if isinstance(error, _CERTIFICATE_ERRORS):
            return TokenTransportError(
                f"{where}: its certificate is not trusted ({_reason(error)}). For a private CA pass "
                "ssl=ssl.create_default_context(cafile=…)",
                retryable=False,
            )
        return TokenTransportError(f"{where}: {_problem(error)}")


def _read_proxy(value: object) -> _Proxy | None:
    try:
        url = URL(value) if isinstance(value, str) else value
    except (ValueError, IndexError):
        return None
    if not isinstance(url, URL) or url.scheme not in {"http", "https"} or not url.raw_host:
        return None
    headers: dict[str, str] = {}
    if url.user is not None:
        pair = base64.b64encode(f"{url.user}:{url.password or ''}".encode()).decode()
        headers["Proxy-Authorization"] = RedactedStr(f"Basic {pair}")
    return _Proxy(url.with_user(None), headers)


def _problem(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answered {error.status}"
    if isinstance(error, aiohttp.ClientResponseError):
        return "the answer is not HTTP"
    if isinstance(error, aiohttp.ClientConnectorError):
        proxy = "the proxy " if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
        words = _system_words(error.os_error) or type(error).__name__
        return f"cannot connect to {proxy}{error.host}:{error.port} ({words})"
    cause = _innermost(error)
    # The system's own words, such as "Connection refused".
    text = cause.strerror if isinstance(cause, OSError) else f"unexpected {type(error).__name__}"
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError) or not text:
        return "the connection was closed before the answer was complete"
    return text


def _innermost(error: BaseException) -> BaseException:
    # aiohttp's own words about a request that broke off hold the whole URL.
    while isinstance(error.__cause__, OSError):
        error = error.__cause__
    return error


@cache
def _user_agent() -> str:
    from importlib.metadata import version  # slow to import, and first needed here

    return f"simplestore-async/{version('simplestore-async')}"


def _reason(error: Exception) -> str:
    certificate_error = getattr(error, "certificate_error", error)
    return getattr(certificate_error, "verify_message", "") or type(certificate_error).__name__


def _system_words(error: OSError) -> str:
    # asyncio puts words of its own in the place of the system's; the resolver and OpenSSL have numbers of their own.
    number = error.errno
    if number is None or number not in errno.errorcode or isinstance(error, socket.gaierror | ssl_module.SSLError):
        return error.strerror or ""
    return os.strerror(number)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Return the body, or so much of it that it is known to be too long."""
    from .wire import MAX_REPLY_BYTES

    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_REPLY_BYTES:
            break
    return bytes(body)
