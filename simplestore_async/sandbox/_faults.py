"""What can be made to go wrong. Rule: frozen values that say what happens to one reply, and do nothing themselves.

`Status`, `Garbage` and `Reset` come instead of an answer: what was asked is not looked at, and it counts as a failure.
`Truncated`, `Drip` and `Late` only spoil the way of the right answer, which counts as what it is.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import attrs

from simplestore_async._core.validation import is_number
from simplestore_async.errors import ConfigurationError

from ._checks import check_seconds, check_whole

__all__ = ["Drip", "Fault", "Garbage", "Late", "RejectedToken", "Reset", "Status", "Truncated"]


def _check_status(_fault: object, _field: object, value: object) -> None:
    check_whole("status", value, least=400, most=599, advice="set an HTTP error status, 400 to 599")


def _check_retry_after(_fault: object, _field: object, value: Any) -> None:
    is_valid = value.isprintable() if isinstance(value, str) else value is None or (is_number(value) and value >= 0)
    if not is_valid:
        raise ConfigurationError(f"retry_after is {value!r}: set seconds, 0 or more, or a header's value on one line")


def _check_seconds(_fault: object, field: attrs.Attribute[float], value: object) -> None:
    check_seconds(field.name, value, advice="set a number of seconds above 0")


@attrs.frozen
class Status:
    """Answer with an HTTP error; the body is `{"error": "temporarily_unavailable"}`.

    Args:
        status: 400 to 599.
        retry_after: seconds, or any value of the Retry-After header, such as an HTTP-date.

    Raises:
        ConfigurationError: names the field, what was wrong and what to set.
    """

    status: int = attrs.field(default=503, validator=_check_status)
    retry_after: float | str | None = attrs.field(default=None, kw_only=True, validator=_check_retry_after)


@attrs.frozen
class Garbage:
    """Answer 200 with a page of HTML, as a proxy or a captive portal does."""


@attrs.frozen
class Reset:
    """Reset the connection (TCP RST) instead of answering."""


@attrs.frozen
class Truncated:
    """Send the head of the right answer and half of its body, then close the connection."""


@attrs.frozen
class Drip:
    """Send the body of the right answer byte by byte.

    Args:
        seconds_per_byte: the pause before each byte, in real time.

    Raises:
        ConfigurationError: if that is not above 0.
    """

    seconds_per_byte: float = attrs.field(validator=_check_seconds)


@attrs.frozen
class Late:
    """Send the right answer late. What it says is decided when the request arrives.

    Args:
        seconds: how late, in real time.

    Raises:
        ConfigurationError: if that is not above 0.
    """

    seconds: float = attrs.field(validator=_check_seconds)


@attrs.frozen
class RejectedToken:
    """Answer 401 with `error="invalid_token"` (RFC 6750 3.1), even to a valid token. Only the API can."""


Fault: TypeAlias = Status | Garbage | Reset | Truncated | Drip | Late | RejectedToken
