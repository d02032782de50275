"""A token, and the API with it. Rule: one token request, by the package's own endpoint, and the token stays here."""

from __future__ import annotations

import time
from typing import Final

import attrs
from aiohttp import ClientError, ClientTimeout

from simplestore_async import AccessToken, ClientCredentials, RetryPolicy, TokenEndpoint, open_session
from simplestore_async._core.server_text import SecretFilter
from simplestore_async.cli._output import show_duration
from simplestore_async.errors import ConfigurationError, SimpleStoreError, TokenEndpointError, TokenError

from ._check import Outcome, failed, ok, warning

__all__ = ["Access"]

_AGAIN: Final = "copy client id and secret again from the Control Panel: both, and of the same client"
# By the error's code (RFC 6749 5.2), and by the status of those without one that is known.
_ADVICE_BY_CODE: Final = {
    "invalid_client": _AGAIN,
    "invalid_scope": "correct SIMPLESTORE_SCOPE, or unset it: SimpleStore needs none",
    "unauthorized_client": "the client may not use client credentials: make another in the Control Panel",
    "unsupported_grant_type": "the client may not use client credentials: make another in the Control Panel",
}
_ADVICE_BY_STATUS: Final = {
    401: _AGAIN,
    403: _AGAIN,
    404: "correct SIMPLESTORE_TOKEN_URL, or unset it for SimpleStore's own",
    405: "correct SIMPLESTORE_TOKEN_URL, or unset it for SimpleStore's own",
    429: "there are too many token requests: share one provider among tasks, and a cache among processes",
}

# One attempt, which the check's own deadline ends.
_POLICY: Final = RetryPolicy(attempts=1, attempt_seconds=86_400, budget_seconds=86_400)


@attrs.define(eq=False, repr=False)
class Access:
    """The questions that need credentials, the second after the first."""

    _token: AccessToken | None = attrs.field(init=False, default=None)

    async def request_token(self) -> Outcome:
        """Ask for a token, once; nothing is taken from a cache or put there."""
        began_at = time.perf_counter()
        try:
            credentials = ClientCredentials.from_env()
            self._token = token = await TokenEndpoint(credentials, policy=_POLICY).request_token()
            hidden = SecretFilter([token.value, await credentials.read_secret()])
        except SimpleStoreError as error:
            return _explain(error)
        seconds = time.perf_counter() - began_at
        life_seconds = token.expires_at - token.issued_at
        # The endpoint's own words.
        scope = hidden.show(" ".join(token.scope))
        told = f"{token.token_type} token for {show_duration(life_seconds)}, in {seconds * 1000:.0f} ms"
        told += f", scope {scope}" if scope else ""
        facts = {
            "token_type": token.token_type,
            "life_seconds": life_seconds,
            "scope": scope.split(),
            "duration_seconds": seconds,
        }
        missing = [name for name in credentials.scope if name not in token.scope]
        if missing:
            return warning(
                f"{told}, without {' '.join(missing)}",
                advice="correct SIMPLESTORE_SCOPE, or have the client allowed these scopes",
                **facts,
            )
        return ok(told, **facts)

    async def call_api(self) -> Outcome:
        """Send an authorised GET to the base URL: whatever the API answers, but a refusal of the token, will do."""
        try:
            async with (
                open_session(self, timeout=ClientTimeout(total=None)) as session,
                session.get("./", allow_redirects=False) as response,
            ):
                return _judge_answer(response.status)
        except ConfigurationError as error:
            return failed(str(error), advice="correct SIMPLESTORE_BASE_URL")
        except (ClientError, OSError) as error:
            return failed(
                f"GET has no complete answer ({type(error).__name__})",
                advice="does SIMPLESTORE_BASE_URL lead to the API, and is it up?",
            )

    async def get_token(self) -> AccessToken:
        """Be a `TokenSource` for the API call, of this one token."""
        if self._token is None:
            raise TokenError("No token: none was asked for")
        return self._token

    def invalidate(self, token: AccessToken) -> bool:  # noqa: ARG002 - there is one token only
        """Ask for no other one: a new token that is refused would only be followed by another."""
        return False


def _judge_answer(status: int) -> Outcome:
    # Not with the server's own words for the status, in which the token may be.
    told = f"GET answers {status}"
    if status in {401, 403}:
        return failed(
            f"{told}: the API refuses the token",
            advice="do SIMPLESTORE_BASE_URL and SIMPLESTORE_TOKEN_URL belong to the same store, and may the client use "
            "the API?",
            status=status,
        )
    if status >= 500:
        return warning(told, advice="that is the API's own trouble: try again, then ask its operator", status=status)
    if status // 100 == 3:
        return warning(
            f"{told}, a redirect",
            advice="set SIMPLESTORE_BASE_URL to where it leads: the token does not follow to another origin",
            status=status,
        )
    return ok(f"{told}: it is reached, and does not refuse the token", status=status)


def _explain(error: SimpleStoreError) -> Outcome:
    if isinstance(error, TokenEndpointError):
        said = ", ".join(text for text in (error.error, error.error_description, error.title) if text)
        return failed(
            f"the token endpoint answered {error.status}{f' ({said})' if said else ''}",
            advice=_ADVICE_BY_CODE.get(error.error or "") or _advise_by_status(error.status),
            status=error.status,
            error=error.error,
            retry_after_seconds=error.retry_after,
        )
    return failed(
        str(error).removeprefix("No token: "),
        advice="is the address right? Correct SIMPLESTORE_TOKEN_URL, or unset it for SimpleStore's own",
    )


def _advise_by_status(status: int) -> str:
    if status // 100 == 3:
        return "set SIMPLESTORE_TOKEN_URL to where it leads: the secret is not sent after a redirect"
    if status >= 500:
        return "that is the token endpoint's own trouble: try again later"
    return _ADVICE_BY_STATUS.get(status, "its own words are in brackets: see Troubleshooting in the documentation")
