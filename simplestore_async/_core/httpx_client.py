"""`open_client()` for httpx2 and httpx. Rule: the same as for `open_session()`."""

from __future__ import annotations

import inspect
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar, overload

from simplestore_async.errors import ConfigurationError

from .connector import check_ssl
from .httpx_connections import Connections
from .httpx_package import find_package, package_of
from .httpx_transport import BearerTransport
from .opening import Opening, check_options, positional_error
from .origin import conceal_urls
from .proxy import ProxySettings
from .redaction import conceal
from .validation import check_flag, check_type, type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AsyncExitStack
    from typing import Never, Unpack

    import httpx
    import httpx2
    from yarl import URL

    from simplestore_async.events import Listener

    from .cache import TokenCache
    from .credentials import ClientCredentials
    from .policy import RenewalPolicy
    from .redaction import SupportsSecretValue
    from .token import TokenSource

__all__ = ["open_client"]

C = TypeVar("C", bound="httpx2.AsyncClient | httpx.AsyncClient")

_PRIVATE_CA: Final = "certificates are always checked; for a private CA pass ssl=ssl.create_default_context(cafile=…)"
_HINTS: Final = {
    "cert": "load it into the context: ssl=context, after context.load_cert_chain(…)",
    "mounts": "a mounted transport would send requests without the token; pass transport=",
    "proxies": "pass proxy=",
    "verify": _PRIVATE_CA,
}
_TRANSPORT_OPTIONS: Final = ("http1", "http2", "limits")


class ClientOptions(TypedDict, total=False):
    """Arguments of `AsyncClient` with the same meaning for `open_client()`."""

    auth: Any
    params: Any
    headers: Any
    cookies: Any
    timeout: Any
    limits: Any
    http1: bool
    http2: bool
    follow_redirects: bool
    max_redirects: int
    event_hooks: Mapping[str, list[Callable[..., Any]]] | None
    transport: httpx2.AsyncBaseTransport | httpx.AsyncBaseTransport | None
    default_encoding: str | Callable[[bytes], str | None]


class _Arguments(ClientOptions, total=False):
    base_url: str | URL | None
    origins: str | URL | Iterable[str | URL]
    cache: TokenCache | None
    policy: RenewalPolicy | None
    on_event: Listener | None
    ssl: SSLContext | None
    proxy: str | URL | SupportsSecretValue | None
    trust_env: bool
    is_rejected: Callable[[int, Mapping[str, str]], bool] | None
    allow_insecure_http: bool


class open_client(Opening[C]):  # noqa: N801 - called like a function
    """Open an `AsyncClient` of httpx2, or of httpx, whose requests to the API carry the token.

    Use it as `async with open_client(…) as client:`. Leaving the block closes the client and the provider that it
    created; a `TokenProvider` that was passed in stays open. Each object can be entered once.

    Args:
        source: credentials, or a provider (any `TokenSource`) to share; by default `ClientCredentials.from_env()`.
        base_url: base of relative URLs; its origin gets the token. By default `SIMPLESTORE_BASE_URL`, unless both
            *source* and *origins* are given.
        origins: further origins that get the token, such as `https://files.example.com`.
        cache: cache of the created provider; see `TokenProvider`.
        policy: policy of the created provider.
        on_event: listener of the created provider.
        ssl: an `ssl.SSLContext` for the API and the token endpoint.
        proxy: URL of an HTTP proxy for both; may contain a user name and a password.
        trust_env: use the proxies in the environment for both. netrc is never read.
        is_rejected: a function of status and headers that recognises further rejections; see `BearerTransport`.
        allow_insecure_http: accept plain http to other machines for the API; for closed test networks only.
        client_class: class of the client, such as `httpx.AsyncClient`; by default from httpx2 if it is installed.
        client_options: other arguments of the client. A *transport* replaces *ssl*, *proxy* and *trust_env*.

    Raises:
        ConfigurationError: if an argument or the environment is wrong, or the object is not used by `async with`.
    """

    _call = "open_client"
    _noun = "client"

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: open_client[httpx2.AsyncClient],
            source: ClientCredentials | TokenSource | None = None,
            *,
            client_class: None = None,
            **arguments: Unpack[_Arguments],
        ) -> None: ...

        @overload
        def __init__(
            self,
            source: ClientCredentials | TokenSource | None = None,
            *,
            client_class: type[C],
            **arguments: Unpack[_Arguments],
        ) -> None: ...

    def __init__(  # noqa: PLR0913 - as open_session()
        self,
        source: ClientCredentials | TokenSource | None = None,
        *positional: Never,
        base_url: str | URL | None = None,
        origins: str | URL | Iterable[str | URL] = (),
        cache: TokenCache | None = None,
        policy: RenewalPolicy | None = None,
        on_event: Listener | None = None,
        ssl: SSLContext | None = None,
        proxy: str | URL | SupportsSecretValue | None = None,
        trust_env: bool = False,
        is_rejected: Callable[[int, Mapping[str, str]], bool] | None = None,
        allow_insecure_http: bool = False,
        client_class: type[Any] | None = None,
        **client_options: Any,
    ) -> None:
        # They may contain secrets, even in the wrong place, and a traceback may show this frame.
        source, base_url, proxy = conceal(source), conceal(base_url), conceal(proxy)
        origins = conceal_urls("origins", origins)
        options: dict[str, Any] = {name: conceal(value) for name, value in client_options.items()}
        has_more = bool(positional)
        del positional, client_options
        if has_more:
            raise positional_error(self._call)
        self._client_class = _find_client_class(client_class)
        known = inspect.signature(self._client_class).parameters.keys() - _HINTS.keys()
        check_options(type(self), options, known, _HINTS)
        check_flag("allow_insecure_http", allow_insecure_http)
        check_type("ssl", ssl, SSLContext | None, hint=_PRIVATE_CA)
        if ssl is not None:
            check_ssl("ssl", ssl)
        proxies = ProxySettings(proxy, trust_env=trust_env)
        transport = options.pop("transport", None)
        settings = {"ssl": ssl, "proxy": proxy, "trust_env": trust_env or None}
        settings |= {name: options.get(name) for name in _TRANSPORT_OPTIONS}
        if transport is not None:
            _check_without_effect(settings)
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
        if options.get("http2") and ssl is not None and self._provider is not source:
            raise ConfigurationError(
                "http2",
                "must not be used with an ssl= that the token request shares: httpx offers HTTP/2 by that context",
                "pass a TokenProvider, whose endpoint has a context of its own",
            )
        for_transport = {name: options.pop(name) for name in _TRANSPORT_OPTIONS[2:] if name in options}
        for_transport |= {name: options[name] for name in _TRANSPORT_OPTIONS[:2] if name in options}
        connections: Any = Connections(proxies, ssl=ssl, **for_transport)
        self._transport = BearerTransport(
            self._provider,
            origins=self._origins,
            transport=connections if transport is None else transport,
            is_rejected=is_rejected,
            allow_insecure_http=allow_insecure_http,
        )
        self._options = options

    def _has_attribute(self, name: str) -> bool:
        return hasattr(self._client_class, name)

    async def _open(self, stack: AsyncExitStack) -> C:
        base_url = "" if self._base_url is None else str(self._base_url)
        try:
            client = self._client_class(base_url=base_url, transport=self._transport, trust_env=False, **self._options)
        except (AttributeError, TypeError, ValueError) as error:
            raise ConfigurationError("open_client()", f"has an option that httpx refuses: {error}") from error
        return await stack.enter_async_context(client)


def _find_client_class(client_class: Any) -> Any:
    if client_class is None:
        return find_package().AsyncClient
    package = package_of(client_class)
    if not isinstance(client_class, type) or package is None or not issubclass(client_class, package.AsyncClient):
        raise ConfigurationError(
            "client_class",
            f"must be AsyncClient or a subclass, got {type_name(client_class)}",
            "such as httpx2.AsyncClient",
        )
    return client_class


def _check_without_effect(settings: Mapping[str, object]) -> None:
    for name, value in settings.items():
        if value is not None:
            raise ConfigurationError(
                name,
                "has no effect next to transport",
                "give it to the transport, and to the TokenProvider that you pass",
            )
