"""Base of `open_session()` and `open_client()`. Rule: it closes everything that it opened, and is used once.

It determines base URL, origins and provider, for any HTTP client.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, ClassVar, Final, Generic, TypeVar

from simplestore_async.errors import ConfigurationError

from .bearer import check_source
from .credentials import ClientCredentials
from .environment import read_variable
from .target import parse_base_url

if TYPE_CHECKING:
    import ssl as ssl_module
    from collections.abc import Iterable, Mapping
    from types import TracebackType
    from typing import NoReturn

    import aiohttp
    from yarl import URL

    from simplestore_async.events import Listener

    from .cache import TokenCache
    from .policy import RenewalPolicy
    from .redaction import SupportsSecretValue
    from .token import TokenSource

__all__ = ["Opening", "check_options", "positional_error"]

C = TypeVar("C")

_HINTS: Final = {
    "credentials": "write {call}(credentials)",
    "provider": "write {call}(provider)",
    "endpoint": "write {call}(TokenProvider(endpoint=…))",
    "proxy_auth": "write user name and password into the URL: proxy='http://user:password@…'",
}
_CREDENTIALS: Final = "write {call}(ClientCredentials(client_id=…, client_secret=…))"
_CREDENTIAL_FIELDS: Final = {"client_id", "client_secret", "token_url", "scope", "extra_parameters", "auth_method"}


class _NotEnteredError(ConfigurationError, AttributeError):
    """Use of a client that is not open yet; an AttributeError as well, for `hasattr`."""


class Opening(ABC, Generic[C]):
    """A client of an API that is open within `async with`, once.

    Subclasses open the client, and add its own options to the arguments.
    """

    _call: ClassVar[str]
    _noun: ClassVar[str]

    def __init__(  # noqa: PLR0913 - each part that can be replaced, and the surroundings of a request
        self,
        source: ClientCredentials | TokenSource | None,
        *,
        base_url: str | URL | None,
        origins: tuple[str | URL, ...],
        cache: TokenCache | None,
        policy: RenewalPolicy | None,
        on_event: Listener | None,
        ssl: ssl_module.SSLContext | aiohttp.Fingerprint | None,
        proxy: str | URL | SupportsSecretValue | None,
        trust_env: bool,
        allow_insecure_http: bool,
    ) -> None:
        # With the caller's source and origins, the token is not sent to the environment's API.
        is_base_from_env = base_url is None and (source is None or not origins)
        if source is None:
            source = ClientCredentials.from_env()
        elif not isinstance(source, ClientCredentials):
            _check_unused(self._call, source, cache=cache, policy=policy, on_event=on_event)
        base = _find_base_url(base_url, is_from_env=is_base_from_env, allow_insecure_http=allow_insecure_http)
        if base is not None:
            origins = (*origins, base.origin())
        elif not origins:
            raise ConfigurationError(
                "base_url", "is not set", "pass it, set SIMPLESTORE_BASE_URL, or name the API in origins"
            )
        self._stack = AsyncExitStack()
        if isinstance(source, ClientCredentials):
            # Imported here: it is most of the package's import time, and already loaded if a provider is passed.
            from .endpoint import TokenEndpoint
            from .provider import TokenProvider

            endpoint = TokenEndpoint(source, ssl=ssl, proxy=proxy, trust_env=trust_env)
            source = TokenProvider(endpoint=endpoint, cache=cache, policy=policy, on_event=on_event)
            self._stack.push_async_callback(source.aclose)
        self._provider: TokenSource = source
        self._base_url = base
        self._origins = origins
        self._is_entered = False

    @property
    def provider(self) -> TokenSource:
        """Provider of the client, for health checks and `invalidate()`; the source, if one was passed."""
        return self._provider

    async def __aenter__(self) -> C:
        if self._is_entered:
            raise ConfigurationError(
                f"{self._call}()", "was entered before", f"call {self._call}(…) again for each `async with`"
            )
        self._is_entered = True
        async with AsyncExitStack() as stack:
            stack.push_async_exit(self._stack)
            client = await self._open(stack)
            self._stack = stack.pop_all()
        return client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, traceback)

    @abstractmethod
    async def _open(self, stack: AsyncExitStack) -> C:
        """Return the open client; *stack* closes it."""
        ...

    @abstractmethod
    def _has_attribute(self, name: str) -> bool:
        """Return whether the client has a public attribute of this name."""
        ...

    if not TYPE_CHECKING:  # type checkers report these themselves

        def _misused(self, problem: str) -> ConfigurationError:
            return ConfigurationError(
                f"{self._call}()", problem, f"write `async with {self._call}(…) as {self._noun}:`"
            )

        def __await__(self) -> NoReturn:
            raise self._misused("cannot be awaited")

        def __enter__(self) -> NoReturn:
            raise self._misused("needs `async with`, not `with`")

        __exit__ = __enter__  # `with` looks for it first

        def __getattr__(self, name: str) -> NoReturn:
            if not name.startswith("_") and self._has_attribute(name):
                error = self._misused(f"has no {name}: it is not a {self._noun} yet")
                raise _NotEnteredError(error.field, error.problem, error.hint)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def check_options(kind: type, names: Iterable[str], known: Iterable[str], hints: Mapping[str, str]) -> None:
    """Check the names of a client's options, which *kind* passes on.

    Raises:
        ConfigurationError: for the first that is not *known*; its hint suggests a similar one.
    """
    accepted = set(known)
    for name in names:
        if name not in accepted:
            import inspect  # rarely needed, as is difflib, and slow to import
            from difflib import get_close_matches

            call = kind.__name__
            similar = get_close_matches(name, {*accepted, *inspect.signature(kind).parameters}, n=1)
            hint = hints.get(name) or _find_hint(call, name) or (f"did you mean {similar[0]}=?" if similar else "")
            raise ConfigurationError(name, f"is not an option of {call}()", hint)


def positional_error(call: str) -> ConfigurationError:
    """Return the error for positional arguments after the first."""
    hint = _CREDENTIALS.format(call=call)
    return ConfigurationError(f"{call}()", "takes one positional argument, the source", hint)


def _find_hint(call: str, name: str) -> str:
    return (_CREDENTIALS if name in _CREDENTIAL_FIELDS else _HINTS.get(name, "")).format(call=call)


def _find_base_url(value: str | URL | None, *, is_from_env: bool, allow_insecure_http: bool) -> URL | None:
    field = "base_url"
    if is_from_env:
        field, value = "SIMPLESTORE_BASE_URL", read_variable("SIMPLESTORE_BASE_URL") or None
    return None if value is None else parse_base_url(field, value, allow_insecure_http=allow_insecure_http)


def _check_unused(call: str, source: object, **provider_arguments: object) -> None:
    check_source(source, hint=_CREDENTIALS.format(call=call))
    for name, value in provider_arguments.items():
        if value is not None:
            raise ConfigurationError(name, "belongs to the provider that you pass", f"write TokenProvider(…, {name}=…)")
