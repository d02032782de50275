"""The session. Rule: one line from credentials to authorised requests, and everything that it opened it closes."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp

from simplestore_async.errors import ConfigurationError

from .credentials import ClientCredentials
from .middleware import BearerAuthMiddleware
from .origin import conceal_urls, parse_url
from .redaction import conceal

if TYPE_CHECKING:
    import ssl as ssl_module
    from collections.abc import AsyncGenerator, Iterable

    from yarl import URL

    from simplestore_async.events import Listener

    from .cache import TokenCache
    from .policy import RenewalPolicy
    from .token import TokenSource

__all__ = ["open_session"]


@asynccontextmanager
async def open_session(  # noqa: PLR0913 - each part that can be replaced, and the surroundings of a request
    source: ClientCredentials | TokenSource | None = None,
    *,
    base_url: str | URL | None = None,
    origins: str | URL | Iterable[str | URL] = (),
    cache: TokenCache | None = None,
    policy: RenewalPolicy | None = None,
    on_event: Listener | None = None,
    ssl: ssl_module.SSLContext | aiohttp.Fingerprint | None = None,
    proxy: str | URL | None = None,
    trust_env: bool = False,
    allow_insecure_http: bool = False,
    **client_session_options: Any,
) -> AsyncGenerator[aiohttp.ClientSession]:
    """Open an `aiohttp.ClientSession` whose requests to the API carry the token.

    Leaving it closes the session, and the provider if it was made here; a `TokenProvider` that was passed in stays
    open.

    Args:
        source: credentials, or a provider (any `TokenSource`) to share; by default `ClientCredentials.from_env()`.
        base_url: what relative URLs are joined to; its origin gets the token. By default `SIMPLESTORE_BASE_URL`, unless
            *source* and *origins* say who talks to whom.
        origins: further origins that get the token, such as `https://files.example.com`.
        cache: for the provider that is made here; see `TokenProvider`.
        policy: likewise.
        on_event: likewise.
        ssl: an `ssl.SSLContext` or `aiohttp.Fingerprint`, for the API and the token endpoint.
        proxy: URL of an HTTP proxy, for both.
        trust_env: take proxies from the environment, for both; for the API also netrc, whose entries never replace the
            token.
        allow_insecure_http: accept plain http to other machines for the API; for closed test networks only.
        client_session_options: anything else that `aiohttp.ClientSession` takes. Your own `middlewares` run outside
            ours: once for a request, even if it is sent twice.

    Raises:
        ConfigurationError: if an argument or the environment is wrong; names it and says what to set.
    """
    # A password may be in them.
    proxy, base_url, origins = conceal(proxy), conceal(base_url), conceal_urls("origins", origins)
    field = "base_url"
    # Only if nothing else is named: a token of one's own choice does not go where the environment says.
    if base_url is None and (source is None or not origins):
        field, base_url = "SIMPLESTORE_BASE_URL", conceal(os.environ.get("SIMPLESTORE_BASE_URL")) or None
    if source is None:
        source = ClientCredentials.from_env()
    if base_url is not None:
        base_url = _as_folder(field, parse_url(field, base_url, allow_insecure_http=allow_insecure_http))
    if base_url is None and not origins:
        raise ConfigurationError("base_url is not set: pass it, set SIMPLESTORE_BASE_URL, or name the API in origins")
    async with AsyncExitStack() as stack:
        if isinstance(source, ClientCredentials):
            # Imported here: whoever passes a source has it already, and these are most of the package's import time.
            from .endpoint import TokenEndpoint
            from .provider import TokenProvider

            endpoint = TokenEndpoint(source, ssl=ssl, proxy=proxy, trust_env=trust_env)
            provider = TokenProvider(endpoint=endpoint, cache=cache, policy=policy, on_event=on_event)
            source = await stack.enter_async_context(provider)
        elif cache is not None or policy is not None or on_event is not None:
            raise ConfigurationError(
                "cache, policy and on_event belong to the TokenProvider that you pass: set them there"
            )
        bearer = BearerAuthMiddleware(
            source,
            origins=[*origins, *([] if base_url is None else [base_url.origin()])],
            allow_insecure_http=allow_insecure_http,
        )
        options = client_session_options
        if options.get("connector") is None:
            options["connector"] = aiohttp.TCPConnector(ssl=True if ssl is None else ssl)
            # The session closes it too, unless it cannot even be made.
            stack.push_async_callback(options["connector"].close)
        session = aiohttp.ClientSession(
            base_url,
            proxy=proxy,
            trust_env=trust_env,
            middlewares=(*(options.pop("middlewares", None) or ()), bearer),
            **options,
        )
        yield await stack.enter_async_context(session)


def _as_folder(field: str, url: URL) -> URL:
    """Return *url* with a slash at the end of its path, as aiohttp wants it and as every relative URL means it."""
    if url.raw_query_string:
        raise ConfigurationError(f"{field} must not have a query (?…): aiohttp would drop it from every request")
    return url if url.raw_path.endswith("/") else url.with_path(f"{url.raw_path}/", encoded=True)
