"""The token exchange on the wire. Rule: no I/O; a response becomes a token or an error, which is returned, not raised.

Returned, because a traceback shows the locals of every frame of an exception, and the frames here contain the response.
"""

from __future__ import annotations

import base64
import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from simplestore_async.errors import InvalidClientError, TokenEndpointError, TokenError, TokenResponseError

from .redaction import RedactedBytes, RedactedStr
from .response import FieldError, load_object, structure, structure_error
from .server_text import SecretFilter, spell_in_base64
from .token import AccessToken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .credentials import ClientCredentials

__all__ = ["DEFAULT_LIFETIME_SECONDS", "Exchange", "authenticate", "parse_retry_after"]

DEFAULT_LIFETIME_SECONDS: Final = 3600.0

_LONGEST_RETRY_AFTER: Final = 365 * 24 * 3600.0
_LONGEST_DATE: Final = 100
_DECIMAL: Final = re.compile(r"[0-9]+(\.[0-9]+)?")

_IS_IT_THE_ENDPOINT: Final = "check that SIMPLESTORE_TOKEN_URL is the token endpoint"
_COPY_AGAIN: Final = "copy the client id and the secret again from the Control Panel"
_CHECK_KEY: Final = "check the client id, and the key, assertion or certificate that the server has of this client"
_SET_THE_ADDRESS: Final = "set SIMPLESTORE_TOKEN_URL to the final address: a redirect would carry the secret elsewhere"

# Always shown; any other code must have the form of a code and pass the filter.
_REGISTERED_CODES: Final = frozenset(
    # RFC 6749 §4.1.2.1, §5.2
    {"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type"}
    | {"invalid_scope", "access_denied", "unsupported_response_type", "server_error", "temporarily_unavailable"}
    # RFC 6750 §3.1, RFC 7009 §2.2.1, RFC 8628 §3.5, RFC 8707 §2, RFC 9396 §5, RFC 9449 §12.2
    | {"invalid_token", "insufficient_scope", "unsupported_token_type", "authorization_pending", "slow_down"}
    | {"expired_token", "invalid_target", "invalid_authorization_details", "invalid_dpop_proof", "use_dpop_nonce"}
    # OpenID Connect Core §3.1.2.6, RFC 9470 §3
    | {"interaction_required", "login_required", "account_selection_required", "consent_required"}
    | {"invalid_request_uri", "invalid_request_object", "request_not_supported", "request_uri_not_supported"}
    | {"registration_not_supported", "insufficient_user_authentication", "unmet_authentication_requirements"}
)
_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
# Extra parameters and headers whose values a server's text must not show.
_SECRET_NAME: Final = re.compile(
    r"(?!.*_type$).*(secret|passw|assertion|token|key|auth|cookie|sign|cred)", re.IGNORECASE
)
_TOKEN_FIELDS: Final = ("access_token", "refresh_token", "id_token")
_SHORTEST_TOKEN: Final = 8


def authenticate(credentials: ClientCredentials, secret: str, *, form: dict[str, Any], headers: dict[str, str]) -> None:
    """Add the client's authentication to one attempt's form and headers (RFC 6749 §2.3.1)."""
    if credentials.auth_method == "client_secret_basic":
        # Form-encoded, then base64. %20, not +, which not all servers decode.
        pair = f"{quote(credentials.client_id, safe='')}:{quote(secret, safe='')}"
        headers["Authorization"] = RedactedStr(f"Basic {base64.b64encode(pair.encode()).decode()}")
    elif credentials.auth_method == "none":
        form["client_id"] = credentials.client_id
    else:
        form |= {"client_id": credentials.client_id, "client_secret": RedactedStr(secret)}


class Exchange:
    """One attempt: the token request (RFC 6749 §4.4.2), and the parsing of its response.

    Attributes:
        headers: public headers.
        secret_headers: headers with redacted values, for the endpoint only.
        body: the form; redacted.
        secret: the secret of this attempt.
    """

    def __init__(
        self,
        credentials: ClientCredentials,
        secret: str,
        *,
        headers: Mapping[str, str] = MappingProxyType({}),
        authentication: Mapping[str, str] | None = None,
    ) -> None:
        self.headers: Final = {
            "Accept": "application/json",
            # Compression would save few bytes and allow decompression bombs.
            "Accept-Encoding": "identity",
            "Connection": "close",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        self.secret_headers: Final = dict(headers)
        form: dict[str, Any] = {"grant_type": "client_credentials"}
        if authentication is None:
            authenticate(credentials, secret, form=form, headers=self.secret_headers)
        else:
            form |= authentication
        if credentials.scope:
            form["scope"] = " ".join(credentials.scope)
        form |= credentials.extra_parameters
        self.body: Final = RedactedBytes(urlencode(form, doseq=True).encode())
        self._scope = credentials.scope
        self._has_secret = isinstance(credentials.auth_method, str) and credentials.auth_method != "none"
        named = [*form.items(), *self.secret_headers.items()]
        values = [value for name, value in named if _SECRET_NAME.match(name)]
        # A parameter may have several values.
        self.secret: Final = RedactedStr(secret)
        self._secrets = [*filter(None, [self.secret]), *(each for value in values for each in _list(value))]

    def parse_response(
        self, status: int, headers: Mapping[str, str], body: bytes, *, issued_at: float, now: float
    ) -> AccessToken | TokenError:
        """Return the token in a response, or its error.

        Args:
            status: the HTTP status.
            headers: the response's headers; names are looked up as written here, so the mapping should ignore case.
            body: as received; at most `MAX_RESPONSE_BYTES` + 1 bytes are needed.
            issued_at: POSIX seconds at which the request was sent.
            now: POSIX seconds, for a Retry-After that is a date.
        """
        payload = load_object(
            body,
            content_encoding=headers.get("Content-Encoding", ""),
            content_type=headers.get("Content-Type", ""),
        )
        fields = payload if isinstance(payload, dict) else {}
        if status >= 300 or (status >= 200 and fields.get("error")):
            retry_after = parse_retry_after(headers.get("Retry-After"), date=headers.get("Date"), now=now)
            return self._build_error(status, fields, retry_after)
        if status < 200:
            return _no_token(status, "it is no final response", retryable=False)
        if isinstance(payload, FieldError):
            return _no_token(status, str(payload), retryable=status == 200 and not payload.is_final)
        return self._build_token(status, payload, issued_at)

    def _build_token(self, status: int, payload: dict[str, Any], issued_at: float) -> AccessToken | TokenError:
        response = structure(payload)
        if isinstance(response, FieldError):
            return _no_token(status, str(response), retryable=status == 200 and not response.is_final)
        expires_at = issued_at + (response.expires_in or response.expiries_in or DEFAULT_LIFETIME_SECONDS)
        if expires_at <= issued_at:
            return _no_token(status, "the token has expired already", retryable=True)
        scope = self._scope
        if response.scope is not None and response.scope.split() != list(scope):
            is_shown = not self._filter(payload).holds(response.scope)
            scope = tuple(response.scope.split()) if is_shown else scope
        return AccessToken(response.access_token, issued_at=issued_at, expires_at=expires_at, scope=scope)

    def _build_error(self, status: int, payload: dict[str, Any], retry_after: float | None) -> TokenEndpointError:
        response = structure_error(payload)
        hidden = self._filter(payload)
        code, description, title = response.error, response.error_description, response.title
        if code not in _REGISTERED_CODES and (code is None or not _CODE.fullmatch(code) or hidden.holds(code)):
            code = None
        description = None if description is None else hidden.show(description)
        title = None if title is None else hidden.show(title)
        details = ", ".join(dict.fromkeys(text for text in (code, description, title) if text))
        hint = ""
        if status // 100 == 3:
            hint = _SET_THE_ADDRESS
        elif code == "invalid_client" or status in {401, 403}:
            hint = _COPY_AGAIN if self._has_secret else _CHECK_KEY
        elif code is None and status in {404, 405, 410}:
            hint = _IS_IT_THE_ENDPOINT
        return (InvalidClientError if code == "invalid_client" else TokenEndpointError)(
            f"token request failed: status {status}{f' ({details})' if details else ''}",
            hint,
            status=status,
            error=code,
            error_description=description,
            title=title,
            retry_after=retry_after,
        )

    def _filter(self, payload: dict[str, Any]) -> SecretFilter:
        values = map(payload.get, _TOKEN_FIELDS)
        # A shorter token is no secret, and occurs in many words.
        tokens = [value for value in values if isinstance(value, str) and len(value) >= _SHORTEST_TOKEN]
        return SecretFilter([*self._secrets, *(spell_in_base64(self.secret) if self.secret else ()), *tokens])


def _list(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _no_token(status: int, problem: str, *, retryable: bool) -> TokenResponseError:
    return TokenResponseError(
        f"token request failed: status {status}, but {problem}", _IS_IT_THE_ENDPOINT, retryable=retryable
    )


def parse_retry_after(value: str | None, *, date: str | None, now: float) -> float | None:
    """Return the seconds of Retry-After (RFC 9110 §10.2.3); a date is relative to the server's own clock."""
    if value is None:
        return None
    if _DECIMAL.fullmatch(value := value.strip(" \t")):
        return min(float(value), _LONGEST_RETRY_AFTER)
    until = _parse_http_date(value)
    if until is None:
        return None
    server_now = _parse_http_date(date) if date else None
    return min(max(until - (now if server_now is None else server_now), 0.0), _LONGEST_RETRY_AFTER)


def _parse_http_date(value: str) -> float | None:
    try:
        moment = parsedate_to_datetime(value[:_LONGEST_DATE])
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
