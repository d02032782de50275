"""`open_session()`. Rule: it closes everything that it opened, and accepts no setting without effect."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from http.cookies import CookieError
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from simplestore_async.errors import ConfigurationError

from .credentials import ClientCredentials
from .environment import read_variable
from .middleware import BearerAuthMiddleware, check_source
from .origin import conceal_urls, parse_url
from .proxied_request import proxied_request_class
from .proxy import ProxySettings
from .redaction import conceal
from .session_options import CREDENTIALS_HINT, check_option_values, check_options
from .tls import check_connector, check_ssl, tls_setting
from .validation import check_flag, check_type

if TYPE_CHECKING:
    import ssl as ssl_module
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Never, NoReturn, Unpack

    from yarl import URL

    from simplestore_async.events import Listener

    from .cache import TokenCache
    from .policy import RenewalPolicy
    from .session_options import ClientSessionOptions
    from .token import TokenSource

__all__ = ["open_session"]

_USAGE: Final = "write `async with open_session(…) as session:`"


class _NotEnteredError(ConfigurationError, AttributeError):
    """Use of a session that is not open yet; an AttributeError as well, for `hasattr`."""


class open_session:  # noqa: N801 - called like a function
    """Open an `aiohttp.ClientSession` whose requests to the API carry the token.

    Use it as `async with open_session(…) as session:`. Leaving the block closes the session and the provider that was
    made here; a `TokenProvider` that was passed in stays open. Each object can be entered once.

    Args:
        source: credentials, or a provider (any `TokenSource`) to share; by default `ClientCredentials.from_env()`.
        base_url: base of relative URLs; its origin gets the token. By default `SIMPLESTORE_BASE_URL`, unless both
            *source* and *origins* are given.
        origins: further origins that get the token, such as `https://files.example.com`.
        cache: for the provider that is made here; see `TokenProvider`.
        policy: for the provider that is made here.
        on_event: for the provider that is made here.
        ssl: an `ssl.SSLContext` or `aiohttp.Fingerprint`, for the API and the token endpoint. Next to *connector* it
            must be the connector's own.
        proxy: URL of an HTTP proxy, for both; may hold a user name and a password.
        trust_env: take proxies from the environment, for both. netrc is never read.
        is_rejected: a function of status and headers that recognises further rejections; see `BearerAuthMiddleware`.
        allow_insecure_http: accept plain http to other machines for the API; for closed test networks only.
        client_session_options: other arguments of `aiohttp.ClientSession`. The caller's `middlewares` run outside the
            token's: once for a request, also if it is sent twice.

    Raises:
        ConfigurationError: if an argument or the environment is wrong, or the object is not used by `async with`.
    """

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
        proxy: str | URL | None = None,
        trust_env: bool = False,
        is_rejected: Callable[[int, Mapping[str, str]], bool] | None = None,
        allow_insecure_http: bool = False,
        **client_session_options: Unpack[ClientSessionOptions],
    ) -> None:
        # Secrets may be in them, also in the wrong place; a traceback may show this frame.
        source, base_url, proxy = conceal(source), conceal(base_url), conceal(proxy)
        origins = conceal_urls("origins", origins)
        options: dict[str, Any] = {name: conceal(value) for name, value in client_session_options.items()}
        has_more = bool(positional)
        del positional, client_session_options
        if has_more:
            raise ConfigurationError("open_session()", "takes one positional argument, the source", CREDENTIALS_HINT)
        check_options(options)
        check_option_values(options)
        check_flag("allow_insecure_http", allow_insecure_http)
        _check_tls(ssl, options.get("connector"))
        proxies = ProxySettings(proxy, trust_env=trust_env)
        # With a source and origins of the caller's own, the token does not go to the environment's API.
        is_base_from_env = base_url is None and (source is None or not origins)
        if source is None:
            source = ClientCredentials.from_env()
        base = _find_base_url(base_url, is_from_env=is_base_from_env, allow_insecure_http=allow_insecure_http)
        if base is not None:
            origins = (*origins, base.origin())
        elif not origins:
            raise ConfigurationError(
                "base_url", "is not set", "pass it, set SIMPLESTORE_BASE_URL, or name the API in origins"
            )
        self._stack = AsyncExitStack()
        if isinstance(source, ClientCredentials):
            # Imported here: most of the package's import time, and loaded anyway where a provider is passed.
            from .endpoint import TokenEndpoint
            from .provider import TokenProvider

            endpoint = TokenEndpoint(source, ssl=ssl, proxy=proxy, trust_env=trust_env)
            source = TokenProvider(endpoint=endpoint, cache=cache, policy=policy, on_event=on_event)
            self._stack.push_async_callback(source.aclose)
        else:
            _check_unused(source, cache=cache, policy=policy, on_event=on_event)
        self._bearer = BearerAuthMiddleware(
            source, origins=origins, is_rejected=is_rejected, allow_insecure_http=allow_insecure_http
        )
        self._provider: TokenSource = source
        self._base_url = base
        self._ssl = True if ssl is None else ssl
        options["request_class"] = proxied_request_class(options.get("request_class"), proxies)
        self._options = options
        self._is_entered = False

    @property
    def provider(self) -> TokenSource:
        """Provider of the session, for health checks and `invalidate()`; the source, if one was passed."""
        return self._provider

    async def __aenter__(self) -> aiohttp.ClientSession:
        if self._is_entered:
            raise ConfigurationError(
                "open_session()", "was entered before", "call open_session(…) again for each `async with`"
            )
        self._is_entered = True
        async with AsyncExitStack() as stack:
            stack.push_async_exit(self._stack)
            session = await stack.enter_async_context(self._open(stack))
            self._stack = stack.pop_all()
        return session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, traceback)

    def _open(self, stack: AsyncExitStack) -> aiohttp.ClientSession:
        connector = self._options.get("connector")
        if connector is None:
            connector = aiohttp.TCPConnector(ssl=self._ssl)
            # The session closes it, too, but may fail to be made.
            stack.push_async_callback(connector.close)
        _check_loop(connector)
        try:
            middlewares = (*(self._options.get("middlewares") or ()), self._bearer)
            options: dict[str, Any] = self._options | {"connector": connector, "middlewares": middlewares}
            return aiohttp.ClientSession(self._base_url, **options)
        except (AttributeError, CookieError, TypeError, ValueError) as error:
            raise ConfigurationError("open_session()", f"has an option that aiohttp refuses: {error}") from error

    if not TYPE_CHECKING:  # type checkers report these themselves

        def __await__(self) -> NoReturn:
            raise ConfigurationError("open_session()", "cannot be awaited", _USAGE)

        def __enter__(self) -> NoReturn:
            raise ConfigurationError("open_session()", "needs `async with`, not `with`", _USAGE)

        def __exit__(self, *_: object) -> NoReturn:
            raise AssertionError

        def __getattr__(self, name: str) -> NoReturn:
            if not name.startswith("_") and hasattr(aiohttp.ClientSession, name):
                raise _NotEnteredError("open_session()", f"has no {name}: it is not a session yet", _USAGE)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def _find_base_url(value: str | URL | None, *, is_from_env: bool, allow_insecure_http: bool) -> URL | None:
    """Return the base URL with a slash at the end of its path: aiohttp requires it, and relative URLs mean it."""
    field = "base_url"
    if is_from_env:
        field, value = "SIMPLESTORE_BASE_URL", read_variable("SIMPLESTORE_BASE_URL") or None
    if value is None:
        return None
    url = parse_url(field, value, allow_insecure_http=allow_insecure_http)
    if url.raw_query_string:
        raise ConfigurationError(field, "must not have a query (?…)", "aiohttp would drop it from every request")
    return url if url.raw_path.endswith("/") else url.with_path(f"{url.raw_path}/", encoded=True)


def _check_unused(source: object, **provider_arguments: object) -> None:
    check_source(source, hint=CREDENTIALS_HINT)
    for name, value in provider_arguments.items():
        if value is not None:
            raise ConfigurationError(name, "belongs to the provider that you pass", f"write TokenProvider(…, {name}=…)")


def _check_tls(ssl: object, connector: object) -> None:
    check_type("connector", connector, aiohttp.BaseConnector | None)
    if ssl is not None:
        check_ssl("ssl", ssl)
    if connector is not None:
        check_connector(connector)
        if ssl is not None and tls_setting(connector) is not ssl:
            raise ConfigurationError(
                "ssl", "differs from the connector's, which governs the API", "write aiohttp.TCPConnector(ssl=…), too"
            )


def _check_loop(connector: aiohttp.BaseConnector) -> None:
    if connector.closed:
        raise ConfigurationError("connector", "is closed", "close it after the last request")
    # aiohttp has no public name for it.
    if connector._loop is not asyncio.get_running_loop():  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - as above
        raise ConfigurationError(
            "connector", "belongs to another event loop", "make both in the same one, or pass none"
        )
