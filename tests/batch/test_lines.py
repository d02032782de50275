"""A line of a batch's file: `simplestore_async.batch._lines`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from yarl import URL

from simplestore_async.batch import BatchRequest
from simplestore_async.batch._lines import MOST_BYTES, parse_line

BASE_URL = URL("https://api.example/v1/")
LEAST = {"id": 1, "method": "GET", "path": "orders"}


def parse(line: bytes | dict[str, Any]) -> BatchRequest | str:
    return parse_line(json.dumps(line).encode() if isinstance(line, dict) else line, number=7, base_url=BASE_URL)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"id": "a"}, {"id": "a"}),
        ({"id": -1}, {"id": -1}),
        ({"method": "patch"}, {"method": "PATCH"}),
        ({"path": ""}, {"path": ""}),
        ({"path": "https://API.example:443/v2?x=1"}, {"path": "https://API.example:443/v2?x=1"}),
        ({"body": ""}, {"body": b""}),
        ({"body": "ключ"}, {"body": "ключ".encode()}),
        ({"json": None}, {"body": b"null", "headers": (("Content-Type", "application/json"),)}),
        (
            {"json": {"a": [1, "é"]}, "headers": {"content-type": "a/b"}},
            {"body": '{"a":[1,"é"]}'.encode(), "headers": (("content-type", "a/b"),)},
        ),
        (
            {"headers": {"X-A": " 1 ", "X-B": ["2", "3"], "X-C": []}},
            {"headers": (("X-A", "1"), ("X-B", "2"), ("X-B", "3"))},
        ),
    ],
)
def test_request(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    """A line says what is sent; `json` has its content type unless the headers name another."""
    fields: dict[str, Any] = {"id": 1, "line": 7, "method": "GET", "path": "orders"}
    assert BatchRequest(**fields | expected) == parse(LEAST | changes)


@pytest.mark.parametrize(
    "line", [b'\xef\xbb\xbf{"id":1,"method":"GET","path":"a"}', b' {"id":1,"method":"GET","path":"a"}\r\n']
)
def test_as_editors_write_it(line: bytes) -> None:
    """A byte order mark and a carriage return do no harm."""
    assert BatchRequest(id=1, line=7, method="GET", path="a") == parse(line)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"\n", "it is empty"),
        (b"\xff{}", "it is not UTF-8"),
        (b'{"id": 1', "it is not JSON: Expecting ',' delimiter, column 9"),
        (b"s3cr3t", "it is not JSON: Expecting value, column 1"),
        (b"[" * 100_000, "goes too far"),
        (b'{"id": %s}' % (b"1" * 5_000), "goes too far"),
        (b'{"id": NaN}', "goes too far"),
        (b"[1]", "it is not a JSON object"),
        (b" " * (MOST_BYTES + 1), "it is longer than 16 MiB"),
        ({"idd": 1}, '"idd" is no field of a request; these are: id, method, path, json, body, headers'),
        ({"\x1b[2J": 1}, r'"\u001b[2J" is no field'),
        ({"id": 1, "path": "a"}, "method is missing"),
        (LEAST | {"json": 1, "body": "s3cr3t"}, "json and body exclude each other"),
        (LEAST | {"id": ""}, "id must be text or a whole number"),
        (LEAST | {"id": 1.5}, "id must be text or a whole number"),
        (LEAST | {"id": True}, "id must be text or a whole number"),
        (LEAST | {"method": "TRACE"}, "method must be one of GET, HEAD, POST"),
        (LEAST | {"method": 1}, "method must be one of"),
        (LEAST | {"path": 1}, "path must be text"),
        (LEAST | {"path": "a\nb"}, "path holds a line break"),
        (
            LEAST | {"path": "https://evil.example/"},
            "path leads to https://evil.example, and the API is at https://api",
        ),
        (LEAST | {"path": "http://[/"}, "path is not a URL"),
        (LEAST | {"path": "a#[://"}, None),
        (LEAST | {"headers": ["s3cr3t"]}, "headers must be an object"),
        (LEAST | {"headers": {"s3 cr3t": "x"}}, "headers has a name that no header can have"),
        (LEAST | {"headers": {"X-A": 1}}, "headers: the value of X-A must be text"),
        (LEAST | {"headers": {"X-A": "s3cr3t\nX: y"}}, "headers: the value of X-A holds a line break"),
        (LEAST | {"headers": {"authorization": "s3cr3t"}}, "headers: authorization is set by the command itself"),
        (LEAST | {"headers": {"Content-Length": "1"}}, "headers: Content-Length is set by the command itself"),
        (LEAST | {"headers": {"Transfer-Encoding": "1"}}, "headers: Transfer-Encoding is set by the command itself"),
        (LEAST | {"body": ["s3cr3t"]}, "body must be text"),
        (LEAST | {"body": None}, "body must be text"),
        (LEAST | {"body": "\ud800"}, "half a character goes too far"),
        (LEAST | {"json": ["\ud800"]}, "half a character goes too far"),
        (b'{"id": 1, "method": "GET", "path": "a", "json": 1e999}', "a number, the nesting"),
    ],
    ids=str,
)
def test_problem(line: bytes | dict[str, Any], says: str | None) -> None:
    """What is wrong is said in the words of the file; what the fields hold is not, for it may be a secret."""
    found = parse(line)
    if says is None:
        assert isinstance(found, BatchRequest)
        return
    assert isinstance(found, str)
    assert says in found
    assert "s3cr3t" not in found
    assert "\x1b" not in found


def test_repr() -> None:
    """A request shows neither headers nor body."""
    request = parse(LEAST | {"json": "s3cr3t", "headers": {"X-Key": "s3cr3t"}})
    assert "s3cr3t" not in repr(request)
    assert "orders" in repr(request)
