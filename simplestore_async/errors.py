"""Every error of the package. Rule: a message says what to do next, and never holds a secret or a token.

Errors carry their facts as attributes, survive pickling and can be copied, so that each of many waiters raises its own.
`CancelledError` is never wrapped in one of them.
"""

from __future__ import annotations

__all__ = [
    "BatchError",
    "BatchFileError",
    "ConfigurationError",
    "InvalidClientError",
    "JournalError",
    "ProviderClosedError",
    "SimpleStoreError",
    "TokenCacheError",
    "TokenEndpointError",
    "TokenError",
    "TokenResponseError",
    "TokenTimeoutError",
    "TokenTransportError",
]


class SimpleStoreError(Exception):
    """Base of every error that this package raises."""

    @property
    def retryable(self) -> bool:
        """Whether the same attempt may succeed later with nothing changed; if not, the error is *terminal*."""
        return False


class ConfigurationError(SimpleStoreError, ValueError):
    """A setting is wrong or missing; the message names it, what was wrong, and what to set."""


class ProviderClosedError(SimpleStoreError):
    """The `TokenProvider` was closed; make a new one, or close it later."""

    def __init__(
        self, message: str = "The TokenProvider is closed. Keep it open for as long as requests are made."
    ) -> None:
        super().__init__(message)


class TokenCacheError(SimpleStoreError):
    """A cache could not be read or written.

    Raised only to those who use a cache directly: a provider degrades to a token request instead and reports
    `simplestore_async.events.CacheFailed`.
    """


class TokenError(SimpleStoreError):
    """No token could be had."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self._retryable = retryable

    @property
    def retryable(self) -> bool:
        """Whether the same attempt may succeed later with nothing changed; if not, the error is *terminal*."""
        return self._retryable


class TokenTransportError(TokenError):
    """No complete HTTP reply: refused, reset, cut short, DNS, TLS.

    Terminal only for a certificate that is not trusted.
    """

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(message, retryable=retryable)


class TokenTimeoutError(TokenTransportError, TimeoutError):
    """No complete HTTP reply in time."""


class TokenEndpointError(TokenError):
    """The token endpoint refused (status 4xx or 5xx, a redirect, or an `error` member; RFC 6749 §5.2).

    Attributes:
        status: the HTTP status.
        error: RFC 6749's error code, if the reply had one.
        error_description: the server's explanation, if any, with every form of the secret taken out.
        title: SimpleStore's title, if any, likewise.
        retry_after: seconds that the server asked to wait, if it did.
    """

    def __init__(  # noqa: PLR0913 - the fields of the reply, by their names in RFC 6749 §5.2
        self,
        message: str,
        *,
        status: int = 0,
        error: str | None = None,
        error_description: str | None = None,
        title: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, retryable=status in {408, 429} or status >= 500)
        self.status = status
        self.error = error
        self.error_description = error_description
        self.title = title
        self.retry_after = retry_after


class InvalidClientError(TokenEndpointError):
    """The endpoint does not know this client id with this secret (`error == "invalid_client"`). Always terminal."""

    @property
    def retryable(self) -> bool:
        """Always False: the same credentials will be refused again."""
        return False


class TokenResponseError(TokenError):
    """A complete reply that is not a usable token."""


class BatchError(SimpleStoreError):
    """A batch ended early: it can be resumed with its journal."""

    @property
    def retryable(self) -> bool:
        """Always True: what was not sent can be sent later."""
        return True


class BatchFileError(SimpleStoreError, ValueError):
    """Lines of a batch's file are no requests; nothing was sent.

    Attributes:
        problems: the first of them: the line's number, from 1, and what is wrong with it.
        count: how many there are.
    """

    def __init__(self, message: str, *, problems: tuple[tuple[int, str], ...] = (), count: int = 0) -> None:
        super().__init__(message)
        self.problems = problems
        self.count = count


class JournalError(SimpleStoreError):
    """A batch's journal or file of results cannot be used as it is, or written; nothing was sent that is not in it."""
