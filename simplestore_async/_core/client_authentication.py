"""Client authentication. Rule: it adds to the form and headers of one attempt, without access to the rest of it."""

from __future__ import annotations

import asyncio
from typing import Protocol, runtime_checkable

from simplestore_async.errors import ConfigurationError, TokenError

from .redaction import RedactedStr, conceal

__all__ = ["ClientAuthentication", "add_authentication", "unavailable"]


@runtime_checkable
class ClientAuthentication(Protocol):
    """A way to authenticate to the token endpoint; passed as `auth_method` of `ClientCredentials`.

    Attributes:
        cache_key: text that distinguishes this method from others, without a secret; tokens in caches depend on it.
        is_dynamic: whether its secret may change from one attempt to the next, and so end a refusal.
    """

    @property
    def cache_key(self) -> str:
        """Text that distinguishes this method from others."""
        ...

    @property
    def is_dynamic(self) -> bool:
        """Whether the secret may have changed."""
        ...

    async def authenticate(
        self, *, client_id: str, token_url: str, form: dict[str, str], headers: dict[str, str]
    ) -> str:
        """Add to the form and headers of one attempt; called for each attempt, within the budget of its renewal.

        Args:
            client_id: the client id.
            token_url: address of the token endpoint.
            form: an empty form to add to, usually `client_id` among others.
            headers: empty headers to add to.

        Returns:
            The underlying secret, which no error will show. After a refusal the request is repeated only if it changed.

        Raises:
            TokenError: if there is none at the moment.
        """
        ...


async def add_authentication(
    method: ClientAuthentication, *, client_id: str, token_url: str, taken: frozenset[str]
) -> tuple[dict[str, str], dict[str, str], str]:
    """Return the form, headers and secret of *method* for one attempt, redacted.

    Args:
        method: the object.
        client_id: the client id.
        token_url: address of the token endpoint.
        taken: names of form fields that it must not set.

    Raises:
        TokenError: if it fails. The type of its exception is named, its text not shown.
    """
    form: dict[str, str] = {}
    headers: dict[str, str] = {}
    secret, problem, error = "", "", None
    try:
        secret = conceal(
            await method.authenticate(client_id=client_id, token_url=token_url, form=form, headers=headers)
        )
    except (TokenError, ConfigurationError) as raised:
        error = raised
    except asyncio.CancelledError:
        # Unless this task is being cancelled, it is the object's own failure.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        problem = "it raised CancelledError"
    except Exception as raised:  # noqa: BLE001 - a user's object may raise anything, and its values must not be shown
        problem = f"it raised {type(raised).__name__}"
    form, headers = _conceal_all(form), _conceal_all(headers)
    if error is not None:
        raise error
    if not problem and taken.intersection(form):
        problem = f"it must not set {' and '.join(sorted(taken.intersection(form)))}"
    if not problem and not isinstance(secret, str):
        problem = "it must return the secret behind it"
    if problem:
        raise unavailable(type(method).__name__, problem)
    return form, headers, secret


def unavailable(what: str, problem: str) -> TokenError:
    """Return the error for a secret, assertion or key that cannot be obtained."""
    return TokenError(f"{what} cannot be read: {problem}", code="secret-unavailable", retryable=True)


def _conceal_all(values: dict[str, str]) -> dict[str, str]:
    return {name: RedactedStr(value) for name, value in values.items()}
