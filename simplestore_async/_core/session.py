"""`open_session()`. Rule: it closes everything that it opened, and accepts no setting without effect."""

from __future__ import annotations

from http.cookies import CookieError
from typing import TYPE_CHECKING, Any

import aiohttp

from simplestore_async.errors import ConfigurationError

from .connector import check_connector, check_loop, check_ssl, tls_setting
from .middleware import BearerAuthMiddleware
from .opening import Opening, positional_error
from .origin import conceal_urls
from .proxied_request import proxied_request_class
from .proxy import ProxySettings
from .redaction import conceal
from .session_options import check_session_options
from .validation import check_flag, check_type

if TYPE_CHECKING:
    import ssl as ssl_module
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AsyncExitStack
    from typing import Never, Unpack

    from yarl import URL

    from simplestore_async.events import Listener

    from .cache import TokenCache
    from .credentials import ClientCredentials
    from .policy import RenewalPolicy
    from .redaction import SupportsSecretValue
    from .session_options import ClientSessionOptions
    from .token import TokenSource

__all__ = ["open_session"]


class open_session(Opening[aiohttp.ClientSession]):  # noqa: N801 - called like a function
    """Open an `aiohttp.ClientSession` whose requests to the API carry the token.

    Use it as `async with open_session(…) as session:`. Leaving the block closes the session and the provider that it
    created; a `TokenProvider` that was passed in stays open. Each object can be entered once.

    Args:
        source: credentials, or a provider (any `TokenSource`) to share; by default `ClientCredentials.from_env()`.
        base_url: base of relative URLs; its origin gets the token. By default `SIMPLESTORE_BASE_URL`, unless both
            *source* and *origins* are given.
        origins: further origins that get the token, such as `https://files.example.com`.
        cache: cache of the created provider; see `TokenProvider`.
        policy: policy of the created provider.
        on_event: listener of the created provider.
        ssl: an `ssl.SSLContext` or `aiohttp.Fingerprint`, for the API and the token endpoint. With *connector* it
            must be that of the connector.
        proxy: URL of an HTTP proxy for both; may contain a user name and a password.
        trust_env: use the proxies in the environment for both. netrc is never read.
        is_rejected: a function of status and headers that recognises further rejections; see `BearerAuthMiddleware`.
        allow_insecure_http: accept plain http to other machines for the API; for closed test networks only.
        client_session_options: other arguments of `aiohttp.ClientSession`. The caller's `middlewares` run outside the
            token's middleware: once per request, even if it is sent twice.

    Raises:
        ConfigurationError: if an argument or the environment is wrong, or the object is not used by `async with`.
    """

    _call = "open_session"
    _noun = "session"

    def __init__(  # noqa: PLR0913 - each part that can be replaced, and the surroundings of a request
        self,
        source: ClientCredentials | TokenSource | None = None,
        *positional: Never,
        base_url: str | URL | None = None,
        origins: str | URL | Iterable[str | URL] = (),
        cache: TokenCache | None = None,
        policy: RenewalPolicy | None = None,
        on_event: Listener | None = None,
        ssl: ssl_module.SSLContext | aiohttp.Fingerprint | None = None,
        proxy: str | URL | SupportsSecretValue | None = None,
        trust_env: bool = False,
        is_rejected: Callable[[int, Mapping[str, str]], bool] | None = None,
        allow_insecure_http: bool = False,
        **client_session_options: Unpack[ClientSessionOptions],
    ) -> None:
        # They may contain secrets, even in the wrong place, and a traceback may show this frame.
        source, base_url, proxy = conceal(source), conceal(base_url), conceal(proxy)
        origins = conceal_urls("origins", origins)
        options: dict[str, Any] = {name: conceal(value) for name, value in client_session_options.items()}
        has_more = bool(positional)
        del positional, client_session_options
        if has_more:
            raise positional_error(self._call)
        check_session_options(type(self), options)
        check_flag("allow_insecure_http", allow_insecure_http)
        _check_tls(ssl, options.get("connector"))
        proxies = ProxySettings(proxy, trust_env=trust_env)
        super().__init__(
            source,
            base_url=base_url,
            origins=origins,
            cache=cache,
            policy=policy,
            on_event=on_event,
            ssl=ssl,
            proxy=proxy,
            trust_env=trust_env,
            allow_insecure_http=allow_insecure_http,
        )
        self._bearer = BearerAuthMiddleware(
            self._provider, origins=self._origins, is_rejected=is_rejected, allow_insecure_http=allow_insecure_http
        )
        self._ssl = True if ssl is None else ssl
        options["request_class"] = proxied_request_class(options.get("request_class"), proxies)
        self._options = options

    def _has_attribute(self, name: str) -> bool:
        return hasattr(aiohttp.ClientSession, name)

    async def _open(self, stack: AsyncExitStack) -> aiohttp.ClientSession:
        connector = self._options.get("connector")
        if connector is None:
            connector = aiohttp.TCPConnector(ssl=self._ssl)
            # The session also closes it, but its construction may fail.
            stack.push_async_callback(connector.close)
        check_loop(connector)
        try:
            middlewares = (*(self._options.get("middlewares") or ()), self._bearer)
            options: dict[str, Any] = self._options | {"connector": connector, "middlewares": middlewares}
            session = aiohttp.ClientSession(self._base_url, **options)
        except (AttributeError, CookieError, TypeError, ValueError) as error:
            raise ConfigurationError("open_session()", f"has an option that aiohttp refuses: {error}") from error
        return await stack.enter_async_context(session)


def _check_tls(ssl: object, connector: object) -> None:
    check_type("connector", connector, aiohttp.BaseConnector | None)
    if ssl is not None:
        check_ssl("ssl", ssl)
    if connector is not None:
        check_connector(connector)
        if ssl is not None and tls_setting(connector) is not ssl:
            raise ConfigurationError(
                "ssl", "differs from the connector's, which governs the API", "also write aiohttp.TCPConnector(ssl=…)"
            )
