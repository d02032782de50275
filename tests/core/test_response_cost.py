"""Upper bounds of the time that parsing a response blocks the event loop."""

from __future__ import annotations

import base64
import gzip
import json
import time
import zlib
from typing import Any

import pytest

from simplestore_async._core.response import MAX_RESPONSE_BYTES
from simplestore_async._core.wire import parse_retry_after
from tests.support.exchanges import SECRET, exchange, parse

LONGEST_SECONDS = 0.05
LONG_TOKEN = base64.b64encode(bytes(range(256)) * 15).decode()


def fill(piece: bytes, *, start: bytes = b'{"x":[', end: bytes = b"0]}") -> bytes:
    """Return a body of the greatest accepted length."""
    count = (MAX_RESPONSE_BYTES - len(start) - len(end)) // len(piece)
    return start + piece * count + end


def as_json(**members: Any) -> bytes:
    return json.dumps(members).encode()


RESPONSES: dict[str, tuple[bytes, dict[str, str]]] = {
    "empty arrays": (fill(b"[],"), {}),
    "empty objects": (fill(b"{},"), {}),
    "nested arrays": (fill(b"[[[[]]]],"), {}),
    "objects": (fill(b'{"a":{}},'), {}),
    "depth": (b'{"a":' * 26_000, {}),
    "floats": (fill(b"1e1,"), {}),
    "smallest floats": (fill(b"4.9e-324,"), {}),
    "long float": (fill(b"1", start=b'{"expires_in": 0.', end=b"}"), {}),
    "longest integers": (fill(b"9" * 4299 + b","), {}),
    "long text of digits": (fill(b"9", start=b'{"access_token": "a", "expires_in": "', end=b'"}'), {}),
    "members": (b"{" + b",".join(b'"%x":0' % number for number in range(13_000)) + b"}", {}),
    "escapes": (fill(b"\\u0041", start=b'{"error_description": "', end=b'"}'), {}),
    "long token": (fill(b"a", start=b'{"access_token": "', end=b'"}'), {}),
    "many scopes": (fill(b"a ", start=b'{"access_token": "abcdefghij", "scope": "', end=b'"}'), {}),
    "blanks": (fill(b" ", start=b'{"access_token": "a", "expires_in": "', end=b'"}'), {}),
    "backslashes": (as_json(access_token="\\" * 1000, error_description="\\" * 999), {}),
    "more backslashes": (as_json(access_token="\\" * 16_000, error_description="\\" * 16_000), {}),
    "percents": (as_json(access_token="%25" * 5000, error_description="%25" * 5000, title="%" * 9000), {}),
    "longest tokens": (as_json(access_token=LONG_TOKEN, refresh_token=LONG_TOKEN, id_token=LONG_TOKEN), {}),
    "expanding characters": (as_json(error_description="\ufdfa" * 9000, title="\ufdfa" * 9000, error="\ufdfa"), {}),
    "expanding token": (as_json(access_token="\ufdfa" * 15_000, error_description="\ufdfa" * 300), {}),
    "accents": (as_json(error_description="e" + "\u0301" * 9000, title="\u1e9b\u0323" * 300), {}),
    "all escapes": (as_json(error_description="%25&amp;\\u0025+=25" * 300, title="&#37;\\x25%u0025 37," * 300), {}),
    "bits": (as_json(error_description="01" * 300, title="a1" * 300, error="ab" * 32), {}),
    "deflate bomb": (zlib.compress(bytes(16 << 20)), {"Content-Encoding": "deflate"}),
    "gzip of many members": (gzip.compress(b"") * 6000, {"Content-Encoding": "gzip"}),
    "gzip of the longest": (gzip.compress(fill(b"[[[[]]]],")), {"Content-Encoding": "gzip"}),
    "stateful charset": (fill(b"\x1b$B!!\x1b(B"), {"Content-Type": "a/b; charset=iso-2022-jp"}),
    "quadratic charset": (fill(b"\xe9-"), {"Content-Type": "a/b; charset=punycode"}),
    "slow charset": (fill(b"\xe9"), {"Content-Type": "a/b; charset=utf-7"}),
    "long content type": (b"{}", {"Content-Type": "charset" + " " * 8000}),
    "digits in Retry-After": (b"", {"Retry-After": "9" * 8000}),
    "dots in Retry-After": (b"", {"Retry-After": "1." * 4000}),
    "words in Retry-After": (b"", {"Retry-After": "Sun, 06 Nov " * 700, "Date": "Sun 1:1:1:" * 800}),
    "commas in Date": (b"", {"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT", "Date": "," * 8000}),
}


@pytest.mark.parametrize("name", RESPONSES)
@pytest.mark.parametrize("status", [200, 400])
def test_response(name: str, status: int) -> None:
    """No response blocks the event loop for 50 ms."""
    body, headers = RESPONSES[name]
    of = exchange(SECRET, auth_method="client_secret_basic", scope="asked")
    assert len(body) <= MAX_RESPONSE_BYTES

    def measure() -> float:
        began_at = time.thread_time()
        parse(status, body, headers, of=of)
        return time.thread_time() - began_at

    assert min(measure() for _ in range(3)) < LONGEST_SECONDS


def test_long_retry_after() -> None:
    """A Retry-After of more than a megabyte does not block the event loop for 50 ms."""
    began_at = time.thread_time()
    parse_retry_after("Sun, 06 Nov " * 100_000, date="(" * 100_000, now=0)

    assert time.thread_time() - began_at < LONGEST_SECONDS
