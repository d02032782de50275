"""Parsing of a line: `simplestore_async.batch._lines`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from simplestore_async.batch import BatchRequest
from simplestore_async.batch._lines import MOST_BYTES, parse_line

BASE_URL = URL("https://api.example/v1/")
LEAST = {"id": 1, "method": "GET", "path": "orders"}


def parse(line: bytes | dict[str, Any]) -> BatchRequest | str:
    text = json.dumps(line).encode() if isinstance(line, dict) else line
    return parse_line(text, number=7, base_url=BASE_URL, directory=Path())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"id": "a"}, {"id": "a"}),
        ({"id": -1}, {"id": -1}),
        ({"method": "patch"}, {"method": "PATCH"}),
        ({"path": ""}, {"path": ""}),
        ({"path": "https://API.example:443/v1/a?x=1/../.."}, {"path": "https://API.example:443/v1/a?x=1/../.."}),
        ({"key": 7}, {"key": 7}),
        ({"body": ""}, {"body": b""}),
        ({"body": "ключ"}, {"body": "ключ".encode()}),
        ({"json": None}, {"body": b"null", "headers": (("Content-Type", "application/json"),)}),
        (
            {"json": {"a": [1, "é"]}, "headers": {"content-type": "a/b"}},
            {"body": rb'{"a": [1, "\u00e9"]}', "headers": (("content-type", "a/b"),)},
        ),
        (
            {"headers": {"X-A": " 1 ", "X-B": ["2", "3"], "X-C": []}},
            {"headers": (("X-A", "1"), ("X-B", "2"), ("X-B", "3"))},
        ),
    ],
)
def test_request(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    """Fields of a line become those of the request; `json` sets Content-Type unless a header does."""
    fields: dict[str, Any] = {"id": 1, "line": 7, "method": "GET", "path": "orders"}
    assert BatchRequest(**fields | expected) == parse(LEAST | changes)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"\xff{}", "is not UTF-8"),
        (b'{"id": 1', "truncated"),
        (b"s3cr3t", "JSON is malformed"),
        (b'{"json":' + b"[" * 100_000, "truncated" if sys.version_info >= (3, 15) else "nested too deeply"),
        (b'{"id": %s}' % (b"1" * 5_000), "out of range"),
        (b'{"id": NaN}', "malformed"),
        (b"[1]", "it must be an object, got a list"),
        (b" " * (MOST_BYTES + 1), "is longer than 16 MiB"),
        ({"idd": 1}, "'idd' is not a field"),
        ({"id": 1, "path": "a"}, "method is missing"),
        (LEAST | {"json": 1, "body": "s3cr3t"}, "body must be given once"),
        (LEAST | {"id": ""}, "id must be text or a whole number"),
        (LEAST | {"id": 1.5}, "id must be a whole number or text, got a number"),
        (LEAST | {"method": "TRACE"}, "method must be one of GET, HEAD, POST"),
        (LEAST | {"path": 1}, "path must be text, got a whole number"),
        (LEAST | {"path": "a\nb"}, "path must be text without line breaks"),
        (LEAST | {"path": "http://[/"}, "path"),
        (LEAST | {"path": "a#b"}, "fragment"),
        (LEAST | {"headers": ["s3cr3t"]}, "headers must be an object, got a list"),
        (LEAST | {"headers": {"s3 cr3t": "x"}}, "headers must have header names"),
        (LEAST | {"headers": {"X-A": 1}}, "headers must be text or a list, got a whole number"),
        (LEAST | {"headers": {"X-A": "s3cr3t\nX: y"}}, "X-A"),
        (LEAST | {"headers": {"authorization": "s3cr3t"}}, "authorization"),
        (LEAST | {"headers": {"Host": "s3cr3t"}}, "headers must not hold Host"),
        (LEAST | {"body": ["s3cr3t"]}, "body must be text, got a list"),
        (LEAST | {"body": "\ud800"}, "truncated"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_problem(line: bytes | dict[str, Any], says: str) -> None:
    """A problem names the field, and never shows its value."""
    found = parse(line)
    assert isinstance(found, str)
    assert says in found
    assert "s3cr3t" not in found


@pytest.mark.parametrize(
    "path",
    [
        *("..", "../v2", "a/../../v2", "%2e%2e/v2", "%2E./x", "a%2f..%2f..%2fx", "..\\x", "a%5c..%5cx", "%252e%252e/x"),
        *("https://api.example/v2", "https://api.example/v1", "https://api.example/v1/../x", "http://api.example/v1/a"),
        *("https://evil.example/v1/", "//evil.example/../.."),
    ],
)
def test_path_outside_base_url(path: str) -> None:
    """Paths outside the base URL are refused in any encoding."""
    assert isinstance(parse(LEAST | {"path": path}), str)


@pytest.mark.parametrize("path", ["", "/", "a..b", "a:b", "//a", "a?x=../..", "a%2fb", "é", "v2", "a/.hidden", "..."])
def test_path_below_base_url(path: str) -> None:
    """Paths that only resemble an escape are accepted."""
    assert isinstance(parse(LEAST | {"path": path}), BatchRequest)
