"""All errors. Rule: an error has its facts as attributes, names the next step, and never contains a secret or a token.

Errors can be pickled and copied: each of many waiters raises its own. `CancelledError` is never wrapped.
"""

from __future__ import annotations

__all__ = [
    "BatchDatabaseError",
    "BatchError",
    "BatchFileError",
    "ConfigurationError",
    "InvalidClientError",
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
    """Base of every error of this package; `str()` is `problem; hint`.

    Attributes:
        code: stable identifier; the anchor of its entry in *Troubleshooting*.
        problem: what failed, and why.
        hint: the next step; may be empty.
    """

    code: str = "error"

    def __init__(self, problem: str, hint: str = "", *, code: str | None = None) -> None:
        super().__init__(problem, hint)
        self.problem = problem
        self.hint = hint
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.problem}; {self.hint}" if self.hint else self.problem

    @property
    def retryable(self) -> bool:
        """Whether the same attempt may succeed later with nothing changed; if not, the error is *terminal*."""
        return False


class ConfigurationError(SimpleStoreError, ValueError):
    """A setting is wrong or missing; `str()` is `field problem; hint`.

    Attributes:
        field: the argument or environment variable.
        problem: what is wrong with it.
    """

    code = "configuration"

    def __init__(self, field: str, problem: str, hint: str = "", *, code: str | None = None) -> None:
        super().__init__(problem, hint, code=code)
        self.args: tuple[object, ...] = (field, problem, hint)
        self.field = field

    def __str__(self) -> str:
        return " ".join(filter(None, (self.field, super().__str__())))


class ProviderClosedError(SimpleStoreError):
    """The `TokenProvider` is closed."""

    code = "provider-closed"

    def __init__(
        self,
        problem: str = "the TokenProvider is closed",
        hint: str = "keep it open for as long as requests are made",
        *,
        code: str | None = None,
    ) -> None:
        super().__init__(problem, hint, code=code)


class TokenCacheError(SimpleStoreError):
    """A cache cannot be read or written.

    Raised only where a cache is used directly: a provider degrades to a token request instead and reports
    `simplestore_async.events.CacheFailed`.
    """

    code = "token-cache"


class TokenError(SimpleStoreError):
    """No token could be obtained."""

    code = "token"

    def __init__(self, problem: str, hint: str = "", *, code: str | None = None, retryable: bool = False) -> None:
        super().__init__(problem, hint, code=code)
        self._retryable = retryable

    @property
    def retryable(self) -> bool:
        """Whether the same attempt may succeed later with nothing changed; if not, the error is *terminal*."""
        return self._retryable


class TokenTransportError(TokenError):
    """No complete HTTP response: refused, reset, cut short, DNS, TLS.

    Terminal only for a certificate that is not trusted.
    """

    code = "token-transport"

    def __init__(self, problem: str, hint: str = "", *, code: str | None = None, retryable: bool = True) -> None:
        super().__init__(problem, hint, code=code, retryable=retryable)


class TokenTimeoutError(TokenTransportError, TimeoutError):
    """No complete HTTP response in time."""

    code = "token-timeout"


class TokenEndpointError(TokenError):
    """The token endpoint refused: status 4xx or 5xx, a redirect, or an `error` member (RFC 6749 §5.2).

    Attributes:
        status: the HTTP status.
        error: RFC 6749's error code, if the response had one.
        error_description: the server's explanation, if any; withheld if it may contain the secret or a token.
        title: SimpleStore's title, if any; withheld in the same case.
        retry_after: the server's Retry-After in seconds, if any.
    """

    code = "token-endpoint"

    def __init__(  # noqa: PLR0913 - the fields of the response, by their names in RFC 6749 §5.2
        self,
        problem: str,
        hint: str = "",
        *,
        code: str | None = None,
        status: int = 0,
        error: str | None = None,
        error_description: str | None = None,
        title: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(problem, hint, code=code, retryable=status in {408, 429} or status >= 500)
        self.status = status
        self.error = error
        self.error_description = error_description
        self.title = title
        self.retry_after = retry_after


class InvalidClientError(TokenEndpointError):
    """The endpoint refuses this client id with this secret (`error == "invalid_client"`); always terminal."""

    code = "invalid-client"

    @property
    def retryable(self) -> bool:
        """Always False: the same credentials will be refused again."""
        return False


class TokenResponseError(TokenError):
    """A complete response that is not a usable token."""

    code = "token-response"


class BatchError(SimpleStoreError):
    """A batch ended early; another run continues it.

    Attributes:
        retry_after: the API's Retry-After in seconds, if any.
    """

    code = "batch"

    def __init__(
        self, problem: str, hint: str = "", *, code: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(problem, hint, code=code)
        self.retry_after = retry_after

    @property
    def retryable(self) -> bool:
        """Always True: the remaining requests can be sent later."""
        return True


class BatchFileError(SimpleStoreError, ValueError):
    """Lines of a batch's input are not valid requests; nothing was sent.

    Attributes:
        problems: line number, from 1, and problem of the first of them.
        count: their number.
    """

    code = "batch-file"

    def __init__(
        self,
        problem: str,
        hint: str = "",
        *,
        code: str | None = None,
        problems: tuple[tuple[int, str], ...] = (),
        count: int = 0,
    ) -> None:
        super().__init__(problem, hint, code=code)
        self.problems = problems
        self.count = count


class BatchDatabaseError(SimpleStoreError):
    """The database of a batch cannot be used or written; no request is sent without its record."""

    code = "batch-database"

    @property
    def retryable(self) -> bool:
        """Whether only another run is using it."""
        return self.code == "batch-in-use"
