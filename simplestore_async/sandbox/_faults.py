"""Faults and canned responses. Rule: frozen values without behaviour; each describes the handling of one request.

`Status`, `Response`, `Garbage` and `Reset` replace the response: the request is not examined and counts as a failure.
`Truncated`, `Drip` and `Late` only affect delivery of the correct response, which counts as such.
"""

from __future__ import annotations

import json as json_format
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from simplestore_async._core.validation import check_number, check_type, is_number
from simplestore_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

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
    "number",
]

HeaderPairs: TypeAlias = tuple[tuple[str, str], ...]


def number(**bounds: Any) -> Callable[[object, attrs.Attribute[Any], object], None]:
    """Return a validator that applies `check_number()` with these bounds."""
    return lambda _instance, field, value: check_number(field.name, value, **bounds)


def _check_retry_after(_fault: object, _field: object, value: Any) -> None:
    is_valid = value.isprintable() if isinstance(value, str) else value is None or (is_number(value) and value >= 0)
    if not is_valid:
        raise ConfigurationError(
            "retry_after", f"must be seconds, 0 or more, or a header value on one line, got {value!r}"
        )


def _read_headers(value: Any) -> HeaderPairs:
    try:
        items = value.items() if hasattr(value, "items") else value
        pairs: tuple[tuple[Any, Any], ...] = tuple((name, text) for name, text in items)
    except (TypeError, ValueError):
        raise ConfigurationError("headers", "must be a mapping or pairs of name and value") from None
    for name, text in pairs:
        if not isinstance(name, str) or not isinstance(text, str) or not f"{name}{text}".isprintable():
            raise ConfigurationError("headers", "must be printable strings", hint="a header is one line")
    return pairs


def _read_body(value: Any) -> bytes:
    check_type("body", value, bytes | str, expected="bytes or a string")
    return value.encode() if isinstance(value, str) else value


@attrs.frozen
class Status:
    """Respond with an HTTP error; the body is `{"error": "temporarily_unavailable"}`.

    Args:
        status: 400 to 599.
        retry_after: seconds, or any value of the Retry-After header, such as an HTTP-date.

    Raises:
        ConfigurationError: if a field is wrong.
    """

    status: int = attrs.field(default=503, validator=number(at_least=400, at_most=599, is_whole=True))
    retry_after: float | str | None = attrs.field(default=None, kw_only=True, validator=_check_retry_after)


@attrs.frozen(init=False)
class Response:
    """Respond with these values only: a fault for the next requests, or the response at a path of the API.

    Args:
        status: 200 to 599.
        headers: a mapping, or pairs for repeated headers.
        body: bytes, or text to encode as UTF-8.
        json: a value to encode as the body, in place of `body`; the content type is `application/json` unless
            `headers` name another.

    Raises:
        ConfigurationError: if a field is wrong.
    """

    status: int = attrs.field(validator=number(at_least=200, at_most=599, is_whole=True))
    headers: HeaderPairs
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

    seconds_per_byte: float = attrs.field(validator=number(above=0))


@attrs.frozen
class Late:
    """Send the correct response late, with the content decided on arrival of the request.

    Args:
        seconds: the delay, in real time.

    Raises:
        ConfigurationError: if that is not above 0.
    """

    seconds: float = attrs.field(validator=number(above=0))


@attrs.frozen
class RejectedToken:
    """Reject the token, even a valid one: 401 with `error="invalid_token"` (RFC 6750 §3.1). For the API only."""


Fault: TypeAlias = Status | Response | Garbage | Reset | Truncated | Drip | Late | RejectedToken

UNAVAILABLE: Final = Status(503)
