"""A line of a batch's file. Rule: pure; a line is a request, or a problem in the words of who wrote the file.

A problem names fields, never what they hold: that may be a secret.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from simplestore_async._headers import find_header_problem, is_header_name
from simplestore_async._target import METHODS, check_target
from simplestore_async.errors import ConfigurationError

from ._values import BatchRequest

if TYPE_CHECKING:
    from yarl import URL

__all__ = ["MOST_BYTES", "parse_line"]

MOST_BYTES: Final = 16 << 20
"""How long a line may be. Whatever is under way is in memory."""

_FIELDS: Final = ("id", "method", "path", "json", "body", "headers")
_NEEDED: Final = ("id", "method", "path")


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError


# Made once: `json.loads` and `json.dumps` make one for each call that wants anything special.
_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))


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
    if not line.strip():
        raise _LineProblemError("it is empty: take it out")
    try:
        # A byte order mark is what some editors begin a file with.
        value = _DECODER.decode(line.decode().removeprefix("\ufeff"))
    except UnicodeDecodeError:
        problem = "it is not UTF-8"
    except json.JSONDecodeError as error:
        problem = f"it is not JSON: {error.msg}, column {error.colno}"
    except (ValueError, RecursionError):  # NaN; 5 000 digits; thousands of brackets
        problem = "it is not JSON that every program could read: a number or the nesting goes too far"
    else:
        if isinstance(value, dict):
            return cast("dict[str, Any]", value)
        problem = 'it is not a JSON object: write {"id": …, "method": …, "path": …}'
    # Raised here: the JSONDecodeError carries the line.
    raise _LineProblemError(problem)


def _read_request(fields: dict[str, Any], *, number: int, base_url: URL) -> BatchRequest:
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
    path = _read_path(fields["path"], base_url)
    headers = _read_headers(fields["headers"]) if "headers" in fields else ()
    body = _read_body(fields)
    if "json" in fields and "content-type" not in {name.lower() for name, _ in headers}:
        headers = (*headers, ("Content-Type", "application/json"))
    return BatchRequest(
        id=_read_id(fields["id"]),
        line=number,
        method=_read_method(fields["method"]),
        path=path,
        headers=headers,
        body=body,
    )


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


def _read_body(fields: dict[str, Any]) -> bytes | None:
    if "json" in fields:
        return _ENCODER.encode(fields["json"]).encode()
    body = fields.get("body")
    if body is None and "body" not in fields:
        return None
    if not isinstance(body, str):
        raise _LineProblemError("body must be text; for anything else there is json")
    try:
        return body.encode()
    except UnicodeEncodeError:
        problem = "body holds half a character (a lone surrogate), which UTF-8 cannot express"
    raise _LineProblemError(problem)
