"""A line of a batch's file. Rule: pure; a line is a request, or a problem in the words of who wrote the file.

A problem names fields, never what they hold: that may be a secret.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, cast

from simplestore_async._core.headers import find_header_problem, is_header_name
from simplestore_async._core.target import METHODS, check_target
from simplestore_async.errors import ConfigurationError

from ._json import NoJSONError, read_json, write_json
from ._values import BatchRequest

if TYPE_CHECKING:
    from yarl import URL

__all__ = ["MOST_BYTES", "parse_line"]

MOST_BYTES: Final = 16 << 20
"""How long a line may be. Whatever is under way is in memory."""

_NEEDED: Final = ("id", "method", "path")
_FIELDS: Final = (*_NEEDED, "json", "body", "headers")
_LEAST: Final = frozenset(_NEEDED)
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
"""With which some editors begin a file."""


class _LineProblemError(Exception):
    """Its text is shown."""


def parse_line(line: bytes, *, number: int, base_url: URL) -> BatchRequest | str:
    """Return the request that a line holds, or what is wrong with it.

    Args:
        line: with its line break or without.
        number: its number in the file.
        base_url: the API's address; a path that leads to another origin is a problem.
    """
    try:
        return _read_request(_read_object(line), number=number, base_url=base_url)
    except (_LineProblemError, ConfigurationError) as problem:
        return str(problem)


def _read_object(line: bytes) -> dict[str, Any]:
    if len(line) > MOST_BYTES:
        raise _LineProblemError(f"it is longer than {MOST_BYTES >> 20} MiB")
    line = line.removeprefix(_BYTE_ORDER_MARK)
    try:
        value = read_json(line)
    except NoJSONError:
        problem = _explain(line)
    else:
        if isinstance(value, dict):
            return cast("dict[str, Any]", value)
        problem = 'it is not a JSON object: write {"id": …, "method": …, "path": …}'
    raise _LineProblemError(problem)


def _explain(line: bytes) -> str:
    """Return why a line is no JSON."""
    if not line.strip():
        return "it is empty: take it out"
    try:
        json.loads(line.decode())
    except UnicodeDecodeError:
        return "it is not UTF-8"
    except json.JSONDecodeError as error:
        return f"it is not JSON: {error.msg}, column {error.colno}"
    except (ValueError, RecursionError):  # 5 000 digits; thousands of brackets
        pass
    return "it is not JSON that every program could read: a number, the nesting or half a character goes too far"


def _read_request(fields: dict[str, Any], *, number: int, base_url: URL) -> BatchRequest:
    if fields.keys() != _LEAST:
        _check_names(fields)
    path = _read_path(fields["path"], base_url)
    headers = _read_headers(fields["headers"]) if "headers" in fields else ()
    body = None
    if "json" in fields:
        body = write_json(fields["json"])
        if not any(name.lower() == "content-type" for name, _ in headers):
            headers = (*headers, ("Content-Type", "application/json"))
    elif "body" in fields:
        body = _read_text(fields["body"])
    return BatchRequest(
        id=_read_id(fields["id"]),
        line=number,
        method=_read_method(fields["method"]),
        path=path,
        headers=headers,
        body=body,
    )


def _check_names(fields: dict[str, Any]) -> None:
    for name in fields:
        if name not in _FIELDS:
            # Shown as JSON, so that it cannot move the cursor.
            raise _LineProblemError(
                f"{json.dumps(name)[:60]} is no field of a request; these are: {', '.join(_FIELDS)}"
            )
    for name in _NEEDED:
        if name not in fields:
            raise _LineProblemError(f"{name} is missing")
    if "json" in fields and "body" in fields:
        raise _LineProblemError("json and body exclude each other: a request has one body")


def _read_id(value: object) -> str | int:
    if type(value) is int or (isinstance(value, str) and value):
        return value
    raise _LineProblemError("id must be text or a whole number, and not empty")


def _read_method(value: object) -> str:
    if isinstance(value, str) and value.upper() in METHODS:
        return value.upper()
    raise _LineProblemError(f"method must be one of {', '.join(METHODS)}")


def _read_path(value: object, base_url: URL) -> str:
    if not isinstance(value, str):
        raise _LineProblemError("path must be text")
    if not value.isprintable():
        raise _LineProblemError("path holds a line break or another character that is not text")
    check_target("path", value, base_url=base_url)
    return value


def _read_headers(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        raise _LineProblemError('headers must be an object: {"Name": "value"}')
    headers: list[tuple[str, str]] = []
    for name, given in cast("dict[str, object]", value).items():
        if not is_header_name(name):
            # Not shown: it may be a value in the wrong place.
            raise _LineProblemError("headers has a name that no header can have")
        for one in cast("list[object]", given) if isinstance(given, list) else [given]:
            if not isinstance(one, str):
                raise _LineProblemError(f"headers: the value of {name} must be text, or a list of texts")
            if problem := find_header_problem(name, one.strip()):
                raise _LineProblemError(f"headers: {problem}")
            headers.append((name, one.strip()))
    return tuple(headers)


def _read_text(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    raise _LineProblemError("body must be text; for anything else there is json")
