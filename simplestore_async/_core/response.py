"""Body of a token response. Rule: no coercion, no value in an error, and work linear in a bounded size."""

from __future__ import annotations

import codecs
import json
import re
import zlib
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from .redaction import RedactedStr
from .token import LONGEST_LIFETIME_SECONDS, is_visible_ascii

if TYPE_CHECKING:
    from cattrs import Converter

__all__ = [
    "MAX_RESPONSE_BYTES",
    "ErrorResponse",
    "FieldError",
    "TokenResponse",
    "load_object",
    "structure",
    "structure_error",
]

# Servers accept headers of 8 to 64 KiB, so a token is shorter. `json` needs up to 0.3 s for 1 MiB of brackets.
MAX_RESPONSE_BYTES: Final = 1 << 17

_COMPRESSIONS: Final = {"gzip", "x-gzip", "deflate"}
_DECIMAL: Final = re.compile(r"[0-9]+(\.[0-9]+)?")
_CHARSET: Final = re.compile(r"charset\s*=\s*[\"']?([\w.:-]{1,40})", re.ASCII | re.IGNORECASE)
# Without slow decoders (`punycode`, `utf-7`) and encodings that are not character sets (`unicode_escape`).
_SEVEN_BIT: Final = re.compile(r"iso2022_\w+|hz")
_CHARACTER_SETS: Final = re.compile(
    r"ascii|utf-(8|16|32)(-[bl]e|-sig)?|iso8859-\d+|cp\d+|koi8-[rtu]|mac-\w+|shift_jis\w*|euc_\w+|gb\w+|big5\w*"
    rf"|johab|{_SEVEN_BIT.pattern}"
)


class FieldError(Exception):
    """A problem of the body or a field, without their values.

    Attributes:
        is_final: whether another response would have the same problem.
    """

    def __init__(self, problem: str, *, is_final: bool) -> None:
        super().__init__(problem)
        self.is_final = is_final


def _read_token(value: Any) -> str:
    if value is None:
        raise FieldError("access_token is missing", is_final=False)
    if not isinstance(value, str):
        raise FieldError("access_token is not a string", is_final=True)
    if not is_visible_ascii(value):
        raise FieldError("access_token is empty or not visible ASCII (RFC 6749 A.12)", is_final=True)
    return RedactedStr(value)


def _read_token_type(value: Any) -> str:
    # Servers send "bearer" (RFC 6749 §5.1 ignores case), "BearerToken", null or nothing.
    is_bearer = value is None or (isinstance(value, str) and value.strip().lower() in {"", "bearer", "bearertoken"})
    if not is_bearer:
        raise FieldError("token_type is not Bearer, the only supported type", is_final=True)
    return "Bearer"


def _is_absent(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _read_seconds(field: str, value: Any) -> float | None:
    if _is_absent(value):
        return None
    value = value.strip() if isinstance(value, str) else value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number and not (isinstance(value, str) and _DECIMAL.fullmatch(value)):
        raise FieldError(f"{field} is not a number of seconds", is_final=True)
    if isinstance(value, float) and not isfinite(value):
        raise FieldError(f"{field} is not a finite number of seconds", is_final=True)
    # Compared before the conversion: an integer may be too large for a float.
    seconds = min(float(value) if isinstance(value, str) else value, LONGEST_LIFETIME_SECONDS)
    if seconds <= 0:
        raise FieldError(f"{field} is not above 0: the token has expired already", is_final=False)
    return float(seconds)


def _read_expires_in(value: Any) -> float | None:
    return _read_seconds("expires_in", value)


def _read_expiries_in(value: Any) -> float | None:
    return _read_seconds("expiries_in", value)


def _read_text(value: Any) -> str | None:
    # A text of another type is ignored: it must not fail the response.
    return value if isinstance(value, str) else None


@attrs.frozen
class TokenResponse:
    """A successful response (RFC 6749 §5.1)."""

    access_token: str = attrs.field(default=None, converter=_read_token)
    token_type: str = attrs.field(default=None, converter=_read_token_type)
    # SimpleStore's table has `expiries_in`, its sample `expires_in`.
    expires_in: float | None = attrs.field(default=None, converter=_read_expires_in)
    expiries_in: float | None = attrs.field(default=None, converter=_read_expiries_in)
    scope: str | None = attrs.field(default=None, converter=_read_text)


@attrs.frozen
class ErrorResponse:
    """A refusal (RFC 6749 §5.2), with SimpleStore's title."""

    error: str | None = attrs.field(default=None, converter=_read_text)
    error_description: str | None = attrs.field(default=None, converter=_read_text)
    title: str | None = attrs.field(default=None, converter=_read_text)


@cache
def _converter() -> Converter:
    # Imported here: cattrs costs a tenth of aiohttp's import time, and only a token request needs it.
    from cattrs import Converter

    # The fields' own converters: those of cattrs coerce (5 becomes "5", True becomes 1.0).
    return Converter(prefer_attrib_converters=True, detailed_validation=False)


def structure(payload: dict[str, Any]) -> TokenResponse | FieldError:
    """Return the response in *payload*, or the problem of the first wrong field."""
    if not _is_absent(payload.get("expires_in")):
        payload = {name: value for name, value in payload.items() if name != "expiries_in"}
    try:
        return _converter().structure(payload, TokenResponse)
    except FieldError as error:
        return error.with_traceback(None)


def structure_error(payload: dict[str, Any]) -> ErrorResponse:
    """Return the refusal in *payload*."""
    return _converter().structure(payload, ErrorResponse)


def load_object(body: bytes, *, content_encoding: str = "", content_type: str = "") -> dict[str, Any] | FieldError:
    """Return the JSON object in *body*, or its problem."""
    labels = [label for label in re.findall(r"[\w-]+", content_encoding.lower()) if label != "identity"]
    data = body if _COMPRESSIONS.isdisjoint(labels) else _decompress(body)
    if max(len(body), len(data)) > MAX_RESPONSE_BYTES:
        return FieldError(f"it is longer than {MAX_RESPONSE_BYTES >> 10} KiB", is_final=False)
    try:
        payload = json.loads(_decode(data, content_type))
    except (ValueError, RecursionError):
        # A wrong Content-Encoding such as "utf-8" or "none" on plain JSON is harmless.
        is_known = not labels or (len(labels) == 1 and labels[0] in _COMPRESSIONS)
        problem = "it is not JSON" if is_known else "its Content-Encoding is not supported"
        return FieldError(problem, is_final=not is_known)
    if not isinstance(payload, dict):
        return FieldError("it is not a JSON object", is_final=False)
    return cast("dict[str, Any]", payload)


def _decompress(body: bytes) -> bytes:
    """Return *body* decompressed, up to one byte above the limit; unchanged if it is not compressed."""
    # gzip or zlib; then the raw deflate that some servers send
    for window_bits in () if body[:1] in {b"{", b""} else (zlib.MAX_WBITS + 32, -zlib.MAX_WBITS):
        try:
            return zlib.decompressobj(window_bits).decompress(body, MAX_RESPONSE_BYTES + 1)
        except zlib.error:
            continue
    return body


def _decode(data: bytes, content_type: str) -> str:
    """Return the text: UTF-8, UTF-16 or UTF-32 by its bytes (RFC 8259 §8.1), else in the declared character set.

    Many servers declare Latin-1 and send UTF-8.

    Raises:
        ValueError: if it is none of them.
    """
    declared = _find_charset(content_type)
    detected = json.detect_encoding(data)
    if declared and _SEVEN_BIT.fullmatch(declared):
        return data.decode(declared)
    try:
        return data.decode(detected, "surrogatepass")
    except UnicodeDecodeError:
        if not declared:
            raise
    return data.decode(declared)


def _find_charset(content_type: str) -> str:
    """Return Python's name of the declared character set, or None if it is not supported."""
    match = _CHARSET.search(content_type[:200])
    try:
        name = codecs.lookup(match[1]).name if match else ""
    except LookupError:
        return ""
    return name if _CHARACTER_SETS.fullmatch(name) else ""
