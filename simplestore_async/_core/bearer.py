"""Bearer tokens for API requests. Rule: a request to the origins carries a token, and no other request does.

The part of the adapters that does not depend on the HTTP client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from simplestore_async.errors import ConfigurationError, TokenError

from .origin import parse_origins
from .validation import check_callable, check_flag, type_error, type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from yarl import URL

    from .origin import Origin
    from .token import AccessToken, TokenSource

__all__ = ["Bearer", "check_source", "proxy_error"]

# Statuses that prove that the API accepted the token; a redirect may precede its check.
_ACCEPTED: Final = {101, *range(200, 300), 304}


class Bearer:
    """A token source, the origins that get its tokens, and the test of the API's responses.

    Raises:
        ConfigurationError: if an origin has more than scheme, host and port, or is plain http to another machine.
    """

    def __init__(
        self,
        source: TokenSource,
        *,
        origins: str | URL | Iterable[str | URL],
        is_rejected: Callable[[int, Mapping[str, str]], bool] | None = None,
        allow_insecure_http: bool = False,
    ) -> None:
        check_flag("allow_insecure_http", allow_insecure_http)
        check_source(source)
        if is_rejected is not None:
            check_callable("is_rejected", is_rejected, arguments=2, is_plain=True)
        self._accept: Callable[[AccessToken], None] | None = getattr(source, "accept", None)
        self._accepted: AccessToken | None = None
        self._is_rejected = is_rejected
        self.source: Final = source
        self.origins: Final[frozenset[Origin]] = parse_origins(origins, allow_insecure_http=allow_insecure_http)

    def rejects(self, token: AccessToken, status: int, headers: Mapping[str, str], challenges: Iterable[str]) -> bool:
        """Return whether a response rejects *token*; report the first response that accepts a replacement.

        Args:
            token: the token of the request.
            status: the HTTP status.
            headers: the response's headers.
            challenges: the values of all WWW-Authenticate lines; not needed below status 400.
        """
        if status >= 400:
            from .challenge import is_token_rejected  # compiles expressions that few responses need

            if is_token_rejected(status, challenges):
                return True
        if self._is_rejected is not None and _ask(self._is_rejected, status, headers):
            return True
        if token.is_replacement and token is not self._accepted and status in _ACCEPTED:
            self._accepted = token
            if self._accept is not None:
                self._accept(token)
        return False

    async def replace(self, token: AccessToken) -> AccessToken:
        """Return the token after the rejected one.

        Raises:
            TokenError: if there is none, or it is the same.
        """
        replacement = await self.source.get_token()
        if replacement.value == token.value:
            raise TokenError(
                "the API rejected the token, and the token endpoint issued the same one again",
                "ask the operator of the API",
                retryable=True,
            )
        return replacement


def _ask(is_rejected: Callable[[int, Mapping[str, str]], bool], status: int, headers: Mapping[str, str]) -> bool:
    result: object = is_rejected(status, headers)
    if hasattr(result, "__await__"):  # always true
        raise ConfigurationError("is_rejected", f"must return True or False, got {type_name(result)}")
    return bool(result)


def check_source(source: object, *, hint: str = "pass a TokenProvider") -> None:
    """Check that *source* is a `TokenSource`.

    Raises:
        ConfigurationError: if not.
    """
    methods = getattr(source, "get_token", None), getattr(source, "invalidate", None)
    if isinstance(source, type) or not all(map(callable, methods)):
        raise type_error("source", source, "an object with get_token() and invalidate()", hint)


def proxy_error(origin: object) -> ConfigurationError:
    """Return the error for a plain-http request to *origin* through a proxy."""
    return ConfigurationError(
        "proxy",
        f"must not be used with plain http to {origin}, which would show it the token",
        "use https, or no proxy",
    )
