"""Requests: the server's clock, a token, the API. Rule: one token request, and the token stays here."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import attrs

from simplestore_async import AccessToken, ClientCredentials, RetryPolicy, TokenEndpoint, open_session
from simplestore_async._core.origin import is_loopback
from simplestore_async._core.server_text import SecretFilter
from simplestore_async.cli._output import show_duration
from simplestore_async.errors import TokenEndpointError, TokenError, TokenResponseError

from ._check import Result, failed, ok, skipped, warning
from ._settings import read_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yarl import URL

    from simplestore_async._core.proxy import Proxy

__all__ = ["Requests", "compare_clocks"]

_COPY: Final = "copy client id and secret again from the Control Panel, both of one client"
_NEW_CLIENT: Final = "the client may not use client credentials; create another in the Control Panel"
_ADDRESS: Final = "correct SIMPLESTORE_TOKEN_URL, or unset it for SimpleStore's own"
_PORTAL: Final = "if it is right, a proxy or a captive portal (the login page of a network) responds in its place"
# By RFC 6749's error code, and by the status of responses without a known code.
_ADVICE_BY_CODE: Final = {
    "invalid_client": _COPY,
    "invalid_scope": "correct SIMPLESTORE_SCOPE, or unset it; SimpleStore needs none",
    "unauthorized_client": _NEW_CLIENT,
    "unsupported_grant_type": _NEW_CLIENT,
}
_ADVICE_BY_STATUS: Final = {
    401: _COPY,
    403: _COPY,
    404: _ADDRESS,
    405: _ADDRESS,
    429: "too many token requests; share one provider among tasks, and a cache among processes",
}
# One attempt, which the check's own time limit ends.
_POLICY: Final = RetryPolicy(attempts=1, attempt_seconds=86_400, budget_seconds=86_400)
# Half of the time after which others ignore a stored token as issued in their future.
_TOLERATED_SECONDS: Final = 30.0
# A Date has whole seconds, rounded down (RFC 9110 §5.6.7).
_DATE_STEP_SECONDS: Final = 1.0


@attrs.define(eq=False, repr=False)
class Requests:
    """A token request, and an API request with its token."""

    _token: AccessToken | None = attrs.field(init=False, default=None)

    async def request_token(self) -> Result:
        """Request a token once, without any cache."""
        began_at = time.perf_counter()
        try:
            credentials = ClientCredentials.from_env()
            endpoint = TokenEndpoint(credentials, policy=_POLICY, trust_env=True)
            self._token = token = await endpoint.request_token()
            hidden = [str(token.value), str(await credentials.read_secret())]
        except TokenError as error:
            return _explain(error)
        seconds = time.perf_counter() - began_at
        life_seconds = token.expires_at - token.issued_at
        # A server may echo a secret, in any spelling.
        scope = SecretFilter(hidden).show(" ".join(token.scope))
        shown = f"{token.token_type} token for {show_duration(life_seconds)}, in {seconds * 1000:.0f} ms"
        shown += f", scope {scope}" if scope else ""
        facts: dict[str, Any] = {"token_type": token.token_type, "life_seconds": life_seconds}
        facts |= {"scope": scope.split(), "duration_seconds": seconds}
        missing = [name for name in credentials.scope if name not in token.scope]
        if missing:
            return warning(
                f"{shown}, without {' '.join(missing)}",
                advice="correct SIMPLESTORE_SCOPE, or have these scopes granted to the client",
                **facts,
            )
        return ok(shown, **facts)

    async def call_api(self) -> Result:
        """Send an authorised GET to the base URL."""
        timeout = aiohttp.ClientTimeout(total=None)
        is_local = is_loopback(read_url("SIMPLESTORE_BASE_URL"))
        try:
            async with (
                open_session(self, timeout=timeout, trust_env=not is_local) as session,
                session.get("./", allow_redirects=False) as response,
            ):
                return _judge_response(response.status, is_html=response.content_type == "text/html")
        except (aiohttp.ClientError, OSError) as error:
            return failed(
                f"no complete response to GET ({type(error).__name__})",
                advice="check that SIMPLESTORE_BASE_URL is the API's, and that the API is up",
            )

    async def get_token(self) -> AccessToken:
        """Return the token, for the API request; `TokenSource`."""
        if self._token is None:
            raise TokenError("no token was requested")
        return self._token

    def invalidate(self, token: AccessToken) -> bool:  # noqa: ARG002 - there is one token only
        """Allow no replacement."""
        return False


def _judge_response(status: int, *, is_html: bool) -> Result:
    judge, finding = warning, ""
    if status in {401, 403}:
        judge, finding = failed, ": the API rejects the token"
        advice = (
            "check that SIMPLESTORE_BASE_URL and SIMPLESTORE_TOKEN_URL belong to the same store, and that the client "
            "may use the API"
        )
    elif status >= 500:
        advice = "the API itself fails; try again later, then report it to its operator"
    elif status // 100 == 3:
        finding = ", a redirect"
        advice = f"set SIMPLESTORE_BASE_URL to the target: the token is not sent to another origin; {_PORTAL}"
    elif status == 404:
        finding = ": nothing at the base URL itself; token not rejected"
        advice = (
            "check the path in SIMPLESTORE_BASE_URL; normal for an API without a resource at its root: try "
            "`simplestore request GET PATH` with a path that exists"
        )
    elif is_html:
        finding, advice = " with an HTML page, which is not an API", f"check SIMPLESTORE_BASE_URL; {_PORTAL}"
    else:
        return ok(f"GET responds {status}: reachable; token accepted", status=status)
    # Without the server's own reason phrase, which may hold the token.
    return judge(f"GET responds {status}{finding}", advice=advice, status=status)


def _explain(error: TokenError) -> Result:
    if isinstance(error, TokenEndpointError):
        texts = ", ".join(text.rstrip(".") for text in (error.error, error.error_description, error.title) if text)
        return failed(
            f"token endpoint responds {error.status}{f' ({texts})' if texts else ''}",
            advice=_ADVICE_BY_CODE.get(error.error or "") or _advise_by_status(error.status),
            status=error.status,
            error=error.error,
            retry_after_seconds=error.retry_after,
        )
    if isinstance(error, TokenResponseError):
        return failed(error.problem, advice=f"{_ADDRESS}; {_PORTAL}")
    return failed(error.problem, advice=error.hint or _ADDRESS)


def _advise_by_status(status: int) -> str:
    if status // 100 == 3:
        return f"set SIMPLESTORE_TOKEN_URL to the target: the secret is not sent after a redirect; {_PORTAL}"
    if status >= 500:
        return "the token endpoint itself fails; try again later"
    return _ADVICE_BY_STATUS.get(status, "see Troubleshooting in the documentation")


async def compare_clocks(token_url: URL, *, proxy: Proxy | None, patience_seconds: float) -> Result:
    """Compare this machine's clock with the Date of a response (RFC 9110 §6.6.1).

    The request is HEAD of the host's root: without credentials, without effect, and not a token request, which the
    endpoint might count as a failed one.
    """
    root = token_url.origin()
    try:
        timeout = aiohttp.ClientTimeout(total=patience_seconds)
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), timeout=timeout) as session:
            began_at = time.time()
            async with session.head(
                root,
                allow_redirects=False,
                headers={"Cache-Control": "no-cache"},
                proxy=proxy.url if proxy else None,
                proxy_headers=proxy.headers if proxy else None,
            ) as response:
                ended_at = time.time()
    except (aiohttp.ClientError, OSError):
        return skipped(f"no response to HEAD {root}/")
    date = _read_date(response.headers)
    if date is None:
        return skipped("no time in the server's response")
    # The server wrote it at some instant in between, and cut off the fraction.
    ahead_seconds = (began_at + ended_at) / 2 - (date + _DATE_STEP_SECONDS / 2)
    uncertainty = (ended_at - began_at + _DATE_STEP_SECONDS) / 2
    facts = {"ahead_seconds": ahead_seconds, "uncertainty_seconds": uncertainty}
    if abs(ahead_seconds) <= uncertainty:
        return ok(f"this machine's clock agrees with the server's (within {uncertainty:.1f} s)", **facts)
    order = "ahead of" if ahead_seconds > 0 else "behind"
    shown = f"this machine's clock is {abs(ahead_seconds):.1f} s {order} the server's (± {uncertainty:.1f} s)"
    if abs(ahead_seconds) - uncertainty <= _TOLERATED_SECONDS:
        return ok(shown, **facts)
    return warning(
        shown,
        advice="synchronise this machine's clock (NTP): cached tokens issued in a machine's future are ignored",
        **facts,
    )


def _read_date(headers: Mapping[str, str]) -> float | None:
    """Return the instant in POSIX seconds; None if there is none, or a cache in between responded."""
    if headers.get("Age", "0").strip() != "0":
        return None
    try:
        return parsedate_to_datetime(headers["Date"]).timestamp()
    except (KeyError, ValueError, OverflowError):
        return None
