"""The token exchange on the wire. Rule: no I/O; a reply becomes a `Grant` or an error, which is returned, not raised.

Returned, because a traceback shows the locals of every frame that an exception passed, and the frames in here hold the
reply. What the server said about an error is shown only after every form of the secret was taken out of it.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, NewType, cast
from urllib.parse import quote, urlencode

import attrs

from simplestore_async.errors import InvalidClientError, TokenEndpointError, TokenError, TokenResponseError

from .credentials import ClientCredentials
from .redaction import RedactedStr, Spellings, scrub
from .token import LONGEST_LIFETIME_SECONDS, is_visible_ascii

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cattrs import Converter


__all__ = ["DEFAULT_LIFETIME_SECONDS", "MAX_REPLY_BYTES", "Exchange", "Grant", "parse_retry_after"]

DEFAULT_LIFETIME_SECONDS: Final = 3600.0
MAX_REPLY_BYTES: Final = 1 << 20

_LONGEST_TEXT: Final = 300
_LONGEST_RETRY_AFTER: Final = 365 * 24 * 3600.0
_DECIMAL: Final = re.compile(r"[0-9]+(\.[0-9]+)?")

_Value = NewType("_Value", str)
_TokenType = NewType("_TokenType", str)
_Seconds = NewType("_Seconds", float)
_Text = NewType("_Text", str)


class _FieldError(Exception):
    """Says what is wrong with a field, and never what the field held."""


@attrs.frozen(kw_only=True)
class Grant:
    """What the endpoint granted (RFC 6749 5.1)."""

    value: str
    lifetime_seconds: float
    scope: tuple[str, ...]


@attrs.frozen
class _TokenReply:
    access_token: _Value
    token_type: _TokenType = _TokenType("Bearer")
    # SimpleStore's table says `expiries_in`, its sample `expires_in`.
    expires_in: _Seconds | None = None
    expiries_in: _Seconds | None = None
    scope: _Text | None = None


@attrs.frozen
class _ErrorReply:
    error: _Text | None = None
    error_description: _Text | None = None
    title: _Text | None = None


def _structure_value(value: object, _type: object) -> _Value:
    if not isinstance(value, str):
        raise _FieldError("is not a string")
    if not is_visible_ascii(value):
        raise _FieldError("is empty or holds characters that no bearer token has (RFC 6750 2.1)")
    return _Value(RedactedStr(value))


def _structure_token_type(value: object, _type: object) -> _TokenType:
    # Case does not matter (RFC 6749 5.1). Null is as good as missing.
    if value is not None and (not isinstance(value, str) or value.lower() != "bearer"):
        raise _FieldError("is not Bearer, the only kind that this package sends")
    return _TokenType("Bearer")


def _structure_seconds(value: Any, _type: object) -> _Seconds:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number and not (isinstance(value, str) and _DECIMAL.fullmatch(value)):
        raise _FieldError("is not a number of seconds")
    if isinstance(value, float) and not isfinite(value):
        raise _FieldError("is not a finite number of seconds")
    # Compared before it becomes a float: an integer may be too large for one.
    seconds = min(float(value) if isinstance(value, str) else value, LONGEST_LIFETIME_SECONDS)
    if seconds <= 0:
        raise _FieldError("is not above 0: the token has expired already")
    return _Seconds(float(seconds))


def _structure_text(value: object, _type: object) -> _Text | None:
    # Texts explain; one of the wrong type explains nothing, and spoils nothing.
    return _Text(value) if isinstance(value, str) else None


@cache
def _converter() -> Converter:
    # Imported here: cattrs costs a tenth of what aiohttp does, and only a token request needs it.
    from cattrs import Converter

    # cattrs coerces (5 becomes "5", True becomes 1.0); these hooks do not.
    converter = Converter(detailed_validation=True)
    converter.register_structure_hook(_Value, _structure_value)
    converter.register_structure_hook(_TokenType, _structure_token_type)
    converter.register_structure_hook(_Text, _structure_text)
    converter.register_structure_hook(_Seconds, _structure_seconds)
    return converter


def _describe(error: Exception) -> str:
    """Return what a cattrs error says about the first wrong field: its name and our own words, never its value."""
    problem: BaseException = getattr(error, "exceptions", (error,))[0]
    note: Any = next(iter(getattr(problem, "__notes__", ())), None)
    field = getattr(note, "name", "access_token")
    return f"{field} {problem if isinstance(problem, _FieldError) else 'is missing'}"


def _decompress(body: bytes, encoding: str) -> bytes | None:
    """Return *body* without its Content-Encoding, at most one byte above the limit; None if it cannot be read."""
    if encoding in {"", "identity"}:
        return body
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        return None
    # gzip or zlib; then the raw deflate that some servers send
    for window_bits in (zlib.MAX_WBITS + 32, -zlib.MAX_WBITS):
        try:
            return zlib.decompressobj(window_bits).decompress(body, MAX_REPLY_BYTES + 1)
        except zlib.error:
            continue
    return None


def _load_object(body: bytes | None) -> dict[str, Any] | str:
    """Return the JSON object in *body*, or what is wrong with it."""
    if body is None:
        return "its Content-Encoding cannot be read"
    if len(body) > MAX_REPLY_BYTES:
        return "it is longer than 1 MiB"
    try:
        # From bytes, whatever the content type says: json finds UTF-8, a BOM, UTF-16 (RFC 8259 8.1).
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return "it is not JSON"
    return cast("dict[str, Any]", payload) if isinstance(payload, dict) else "it is not a JSON object"


def parse_retry_after(value: str | None, *, date: str | None, now: float) -> float | None:
    """Return the seconds that Retry-After asks for (RFC 9110 10.2.3); a date is read by the server's own clock."""
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
        moment = parsedate_to_datetime(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


@attrs.frozen
class Exchange:
    """One token request and its reply (RFC 6749 4.4), for these credentials and this secret.

    It holds no state but what it was made of; building and parsing are pure.
    """

    credentials: ClientCredentials
    secret: str = attrs.field(repr=False)

    def build_headers(self) -> dict[str, str]:
        """Return the request's headers; the value of Authorization, if there is one, is redacted."""
        headers = {
            "Accept": "application/json",
            # A reply that opens to a thousand times its size is not worth the bytes saved.
            "Accept-Encoding": "identity",
            "Connection": "close",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        if self.credentials.auth_method == "client_secret_basic":
            headers["Authorization"] = RedactedStr(f"Basic {self._encode_basic()}")
        return headers

    def build_body(self) -> bytes:
        """Return the form: the documented fields first, then scope and extra parameters."""
        fields: dict[str, str | tuple[str, ...]] = {"grant_type": "client_credentials"}
        if self.credentials.auth_method == "client_secret_post":
            fields |= {"client_id": self.credentials.client_id, "client_secret": self.secret}
        if self.credentials.scope:
            fields["scope"] = " ".join(self.credentials.scope)
        return urlencode(fields | dict(self.credentials.extra_parameters), doseq=True).encode()

    def parse_reply(self, status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> Grant | TokenError:
        """Return what the reply grants, or the error that it is.

        Args:
            status: the HTTP status.
            headers: the reply's headers; names are looked up as written here, so the mapping should ignore case.
            body: as received; at most one byte more than `MAX_REPLY_BYTES` is needed.
            now: POSIX seconds, for a Retry-After that is a date.
        """
        payload = _load_object(_decompress(body, headers.get("Content-Encoding", "").strip().lower()))
        if status >= 300 or (status == 200 and isinstance(payload, dict) and payload.get("error")):
            retry_after = parse_retry_after(headers.get("Retry-After"), date=headers.get("Date"), now=now)
            return self._build_error(status, payload if isinstance(payload, dict) else {}, retry_after)
        if status != 200:
            return TokenResponseError(
                f"No token: the token endpoint answered {status}, which is neither a token (200) nor a refusal. "
                "Is SIMPLESTORE_TOKEN_URL the token endpoint?"
            )
        grant = payload if isinstance(payload, str) else self._build_grant(payload)
        if isinstance(grant, Grant):
            return grant
        return TokenResponseError(
            f"No token: the token endpoint answered 200, but {grant}. Is SIMPLESTORE_TOKEN_URL the token endpoint?",
            retryable=True,
        )

    def _build_grant(self, payload: dict[str, Any]) -> Grant | str:
        try:
            if payload.get("expires_in") is not None:
                payload = {name: value for name, value in payload.items() if name != "expiries_in"}
            reply = _converter().structure(payload, _TokenReply)
        except Exception as error:  # noqa: BLE001 - cattrs raises groups and KeyErrors; each quotes the values
            return _describe(error)
        lifetime = reply.expires_in or reply.expiries_in or DEFAULT_LIFETIME_SECONDS
        scope = self.credentials.scope if reply.scope is None else tuple(reply.scope.split())
        return Grant(value=reply.access_token, lifetime_seconds=lifetime, scope=scope)

    def _build_error(self, status: int, payload: dict[str, Any], retry_after: float | None) -> TokenEndpointError:
        reply = _converter().structure(payload, _ErrorReply)
        is_invalid_client = reply.error == "invalid_client"
        hidden = [Spellings(self.secret), Spellings(self._encode_basic())]
        if isinstance(token := payload.get("access_token"), str) and token:
            hidden.append(Spellings(token))
        # The code that decides is shown as it is: it is ours, whatever the secret may be.
        error = "invalid_client" if is_invalid_client else _clean(reply.error, hidden)
        description, title = _clean(reply.error_description, hidden), _clean(reply.title, hidden)
        message = f"No token: the token endpoint answered {status}"
        if status // 100 == 3:
            message += " (a redirect, which would carry the secret elsewhere)"
            message += ": set SIMPLESTORE_TOKEN_URL to the address itself"
        said = ", ".join(text for text in (error, description, title) if text)
        message += f" ({said})" if said else ""
        if is_invalid_client or status in {401, 403}:
            message += ". Client id or secret are not accepted: copy both again from the Control Panel"
        build = InvalidClientError if is_invalid_client else TokenEndpointError
        return build(
            message, status=status, error=error, error_description=description, title=title, retry_after=retry_after
        )

    def _encode_basic(self) -> str:
        # RFC 6749 2.3.1: form-encode, then base64. %20, not +: servers that split hairs differ about +.
        pair = f"{quote(self.credentials.client_id, safe='')}:{quote(self.secret, safe='')}"
        return base64.b64encode(pair.encode()).decode()


def _clean(text: str | None, hidden: Sequence[Spellings]) -> str | None:
    return None if text is None else scrub(text, hidden, limit=_LONGEST_TEXT)
