"""Custom header fields. Rule: a field that cannot be sent is refused, and no value is in a message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, TypeGuard, cast

from simplestore_async.errors import ConfigurationError

from .redaction import conceal
from .validation import type_error

__all__ = ["conceal_values", "find_header_problem", "is_header_name", "parse_token_headers"]

# Compiled at first use: few programs have custom headers, and compiling would slow down the import.
_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110 §5.6.2
_VALUE: Final = r"[!-~](?:[ \t!-~]*[!-~])?"  # RFC 9110 §5.5, without obs-text
_SET_BY_COMMAND: Final = {"authorization", "content-length", "transfer-encoding"}
# Authentication, framing, and headers that the token request sets.
_RESERVED: Final = (
    r"(?i)accept-encoding|authorization|connection|content-.*|cookie|expect|host|keep-alive|proxy-.*|te|trailer"
    r"|transfer-encoding|upgrade"
)


def is_header_name(name: object) -> TypeGuard[str]:
    """Return whether *name* can be the name of a header."""
    return isinstance(name, str) and re.fullmatch(_NAME, name) is not None


def find_header_problem(name: str, value: str) -> str:
    """Return the problem of a header with a valid name, or an empty string."""
    if name.lower() in _SET_BY_COMMAND:
        return f"{name} is set by the command itself"
    if not value.isprintable():
        return f"the value of {name} holds a line break or another character that is not text"
    return ""


def conceal_values(headers: Any) -> Any:
    """Return a copy with redacted values, for frames whose locals may be shown; anything but a mapping unchanged."""
    if not isinstance(headers, Mapping):
        return headers
    return {name: conceal(value) for name, value in cast("Mapping[object, object]", headers).items()}


def parse_token_headers(headers: Any) -> Mapping[str, str]:
    """Return an immutable copy of custom *headers* of the token request, whose values are redacted.

    Raises:
        ConfigurationError: if one cannot be sent, or is set by the token request itself.
    """
    if not isinstance(headers, Mapping):
        raise type_error("headers", headers, "a mapping of names to values")
    parsed: dict[str, str] = {}
    for name, value in cast("Mapping[object, object]", headers).items():
        if not is_header_name(name):
            raise ConfigurationError("headers", "must have header names for keys")
        if re.fullmatch(_RESERVED, name):
            raise ConfigurationError("headers", f"must not hold {name}", "the token request sets it")
        if not isinstance(value, str) or not re.fullmatch(_VALUE, value):
            raise ConfigurationError("headers", f"must have one line of visible ASCII for the value of {name}")
        if name.lower() in map(str.lower, parsed):
            raise ConfigurationError("headers", f"must not hold {name} twice")
        parsed[name] = value
    return MappingProxyType(parsed)
