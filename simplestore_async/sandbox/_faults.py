"""Faults and canned responses. Rule: frozen values; they describe what happens to one request and do nothing.

`Status`, `Response`, `Garbage` and `Reset` replace the response: the request is not examined and counts as a failure.
`Truncated`, `Drip` and `Late` only affect delivery of the correct response, which counts as what it is.
"""

from __future__ import annotations

import json as json_format
from collections.abc import Iterable, Mapping
from math import inf
from typing import Any, Final, TypeAlias

import attrs

from simplestore_async._core.validation import is_number
from simplestore_async.errors import ConfigurationError

__all__ = [
    "UNAVAILABLE",
    "Drip",
    "Fault",
    "Garbage",
    "Late",
    "RejectedToken",
    "Reset",
    "Response",
    "Status",
    "Truncated",
    "check_seconds",
    "check_whole",
]

HeaderPairs: TypeAlias = tuple[tuple[str, str], ...]


def check_whole(field: str, value: object, *, expected: str, least: int = 1, most: float = inf) -> None:
    """Check that *value* is an int from *least* to *most*, and not a bool."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigurationError(field, f"must be {expected}, got {value!r}")


def check_seconds(field: str, value: object, *, expected: str, is_zero_allowed: bool = False) -> None:
    """Check that *value* is a finite number above zero, or zero where that is allowed."""
    if not is_number(value) or value < 0 or (value == 0 and not is_zero_allowed):
        raise ConfigurationError(field, f"must be {expected}, got {value!r}")


def _check_error_status(_fault: object, _field: object, value: object) -> None:
    check_whole("status", value, expected="an HTTP error status, 400 to 599", least=400, most=599)


def _check_status(_response: object, _field: object, value: int) -> None:
    check_whole("status", value, expected="an HTTP status, 200 to 599", least=200, most=599)


def _check_retry_after(_fault: object, _field: object, value: Any) -> None:
    is_valid = value.isprintable() if isinstance(value, str) else value is None or (is_number(value) and value >= 0)
    if not is_valid:
        raise ConfigurationError(
            "retry_after", f"must be seconds, 0 or more, or a header value on one line, got {value!r}"
        )


def _check_seconds(_fault: object, field: attrs.Attribute[float], value: object) -> None:
    check_seconds(field.name, value, expected="a number of seconds above 0")


def _read_headers(value: Any) -> HeaderPairs:
    try:
        items: Any = value.items() if isinstance(value, Mapping) else value  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType] - of anything
        pairs: tuple[tuple[Any, Any], ...] = tuple((name, text) for name, text in items)
    except (TypeError, ValueError):
        raise ConfigurationError("headers", "must be a mapping or pairs of name and value") from None
    for name, text in pairs:
        if not isinstance(name, str) or not isinstance(text, str) or not f"{name}{text}".isprintable():
            raise ConfigurationError("headers", "must be printable strings", hint="a header is one line")
    return pairs


def _read_body(value: Any) -> bytes:
    if not isinstance(value, str | bytes):
        raise ConfigurationError("body", f"must be bytes or str, got {type(value).__name__}")
    return value.encode() if isinstance(value, str) else value


@attrs.frozen
class Status:
    """Respond with an HTTP error; the body is `{"error": "temporarily_unavailable"}`.

    Args:
        status: 400 to 599.
        retry_after: seconds, or any value of the Retry-After header, such as an HTTP-date.

    Raises:
        ConfigurationError: names the field and what it must be.
    """

    status: int = attrs.field(default=503, validator=_check_error_status)
    retry_after: float | str | None = attrs.field(default=None, kw_only=True, validator=_check_retry_after)


@attrs.frozen(init=False)
class Response:
    """Respond with exactly this.

    As a fault it serves the next requests of an endpoint; `sandbox.api.respond()` gives it a path of its own.

    Args:
        status: 200 to 599.
        headers: a mapping, or pairs for repeated headers.
        body: bytes, or text to encode as UTF-8.
        json: a value to encode as the body, in place of `body`; the content type is `application/json` unless
            `headers` name another.

    Raises:
        ConfigurationError: names the field and what it must be.
    """

    status: int = attrs.field(validator=_check_status)
    headers: HeaderPairs = attrs.field(converter=_read_headers)
    body: bytes = attrs.field(converter=_read_body)

    def __init__(
        self,
        status: int = 200,
        *,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes | str = b"",
        json: object = None,
    ) -> None:
        pairs = _read_headers(headers)
        if json is not None:
            if body:
                raise ConfigurationError("json", "cannot be combined with body")
            try:
                body = json_format.dumps(json)
            except (TypeError, ValueError):
                raise ConfigurationError("json", "must be a value that JSON can represent") from None
            if "content-type" not in {name.lower() for name, _ in pairs}:
                pairs = (*pairs, ("Content-Type", "application/json"))
        self.__attrs_init__(  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] - attrs writes it
            status, pairs, body
        )


@attrs.frozen
class Garbage:
    """Respond 200 with an HTML page, as a proxy or a captive portal does."""


@attrs.frozen
class Reset:
    """Reset the connection (TCP RST) instead of responding."""


@attrs.frozen
class Truncated:
    """Send the head of the correct response and half of its body, then close the connection."""


@attrs.frozen
class Drip:
    """Send the body of the correct response byte by byte.

    Args:
        seconds_per_byte: the pause before each byte, in real time.

    Raises:
        ConfigurationError: if that is not above 0.
    """

    seconds_per_byte: float = attrs.field(validator=_check_seconds)


@attrs.frozen
class Late:
    """Send the correct response late. Its content is decided when the request arrives.

    Args:
        seconds: the delay, in real time.

    Raises:
        ConfigurationError: if that is not above 0.
    """

    seconds: float = attrs.field(validator=_check_seconds)


@attrs.frozen
class RejectedToken:
    """Reject the token, even a valid one: 401 with `error="invalid_token"` (RFC 6750 §3.1). For the API only."""


Fault: TypeAlias = Status | Response | Garbage | Reset | Truncated | Drip | Late | RejectedToken

UNAVAILABLE: Final = Status(503)
