"""Token responses: fields, JSON, character sets, compression, size, and the time that parsing takes."""

from __future__ import annotations

import base64
import codecs
import gzip
import json
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from simplestore_async import AccessToken
from simplestore_async._core.response import MAX_RESPONSE_BYTES
from simplestore_async.errors import TokenError, TokenResponseError
from tests.support.cost import is_quick
from tests.support.exchanges import NOW, SECRET, TOKEN, everything_of, exchange, no_token, parse, token

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_VISIBLE = "access_token is empty or not visible ASCII"
EXPIRED = "is not above 0: the token has expired already"


class TestToken:
    def test_documented_response(self) -> None:
        """The documented response is parsed into a token whose lifetime starts at the request."""
        outcome = token({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})

        assert AccessToken(TOKEN, issued_at=NOW, expires_at=NOW + 3600) == outcome
        assert TOKEN not in repr(outcome)

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            *((f'"expires_in": {value}', 3600.0) for value in ("3600", '"3600"', '" 3600 "', '""', "null")),
            *((f'"expires_in": {value}', 3599.5) for value in ("3599.5", '"3599.5"')),
            ('"expires_in": "007"', 7.0),
            *((f'"expires_in": {value}', 86_400.0) for value in ("86400", "86401", "1000000000000")),
            *((f'"expires_in": {value}', 86_400.0) for value in (f"1{'0' * 400}", f'"{"9" * 500}"')),
            *((fields, 3600.0) for fields in ('"expires_in": null, "expiries_in": null', '"other": 60')),
            *((f'{before}"expiries_in": 60', 60.0) for before in ("", '"expires_in": null, ')),
            ('"expiries_in": "60.5"', 60.5),
            *((f'"expires_in": 50, "expiries_in": {value}', 50.0) for value in ("60", '""', '"soon"', "0")),
            ('"expiries_in": 60, "expires_in": 50', 50.0),
        ],
    )
    def test_lifetime(self, fields: str, expected: float) -> None:
        """The lifetime is `expires_in`, else `expiries_in`, else 3600 s, and at most a day."""
        body = f'{{"access_token": "{TOKEN}", {fields}}}'.encode()

        assert expected == token(body, issued_at=0).expires_at

    @pytest.mark.parametrize("field", ["expires_in", "expiries_in"])
    @pytest.mark.parametrize(
        ("value", "problem"),
        [
            *((value, EXPIRED) for value in ("0", "-1", "-0.5", "0.0", '"0"', '"0.00"', f"-1{'0' * 400}")),
            *((value, "is not a finite number of seconds") for value in ("NaN", "Infinity", "-Infinity", "1e999")),
            *((value, "is not a number of seconds") for value in ("true", "false", "[]", "[60]", "{}", '"soon"')),
            *((f'"{value}"', "is not a number of seconds") for value in ("6 0", "+60", "-60", "1e3", "60.", ".5")),
            *((f'"{value}"', "is not a number of seconds") for value in ("6_0", "\\u0666\\u0660", "NaN", "inf")),
        ],
    )
    def test_invalid_lifetime(self, field: str, value: str, problem: str) -> None:
        """Any other lifetime is an error, which is retryable only if the token has expired."""
        error = no_token(f'{{"access_token": "{TOKEN}", "{field}": {value}}}'.encode())

        assert f"token request failed: status 200, but {field} {problem}" == error.problem
        assert ("expired" in problem) == error.retryable

    @pytest.mark.parametrize(
        "token_type", ["Bearer", "BEARER", "bEaReR", " Bearer\t", "BearerToken", "bearertoken", "", " ", None]
    )
    def test_token_type(self, token_type: str | None) -> None:
        """`Bearer` and `BearerToken` are accepted in any case and with spaces around, and so are empty and null."""
        assert TOKEN == token({"access_token": TOKEN, "token_type": token_type}).value

    @pytest.mark.parametrize(
        "token_type",
        ["DPoP", "mac", "PoP", "N_A", "Bearer token", "Bearer,DPoP", "BearerTokens", 5, True, ["Bearer"], {}],
    )
    def test_other_token_type(self, token_type: object) -> None:
        """Any other token type is a terminal error."""
        error = no_token({"access_token": TOKEN, "token_type": token_type})

        assert error.problem.endswith("but token_type is not Bearer, the only supported type")
        assert not error.retryable

    @pytest.mark.parametrize(
        ("payload", "problem"),
        [
            *((payload, "access_token is missing") for payload in ({}, {"expires_in": 3600}, {"access_token": None})),
            *(({"access_token": value}, "access_token is not a string") for value in (5, True, [TOKEN], {"a": TOKEN})),
            *(({"access_token": value}, NOT_VISIBLE) for value in ("", f" {TOKEN}", f"{TOKEN} x", f"{TOKEN}\n")),
            *(({"access_token": f"{TOKEN}{character}"}, NOT_VISIBLE) for character in ("\0", "\u00e9", "\ud800")),
        ],
    )
    def test_no_token(self, payload: dict[str, Any], problem: str) -> None:
        """An invalid token is an error that does not show it, and only a missing token is retryable."""
        error = no_token(payload)

        assert problem in error.problem
        assert "SIMPLESTORE_TOKEN_URL" in error.hint
        assert "canary" not in everything_of(error)
        assert (payload.get("access_token") is None) == error.retryable

    @pytest.mark.parametrize(
        "extra",
        [
            *({"refresh_token": "x", "id_token": 5, "x": None, "": []}, {"error_description": 5, "title": []}),
            *({"error": value} for value in (None, "")),
        ],
    )
    def test_other_fields(self, extra: dict[str, Any]) -> None:
        """Unrelated fields and an empty `error` are ignored."""
        assert TOKEN == token({"access_token": TOKEN} | extra).value

    @pytest.mark.parametrize(
        ("payload", "expected"),
        [
            ({"scope": "read  write"}, ("read", "write")),
            ({"scope": "write read"}, ("write", "read")),
            ({"scope": ""}, ()),
            *((payload, ("asked", "for")) for payload in ({}, *({"scope": value} for value in (None, ["read"], 5)))),
        ],
    )
    def test_scope(self, payload: dict[str, Any], expected: tuple[str, ...]) -> None:
        """The scope is the granted one, or else the requested one (RFC 6749 §5.1)."""
        outcome = token({"access_token": TOKEN} | payload, of=exchange(scope=["asked", "for"]))

        assert expected == outcome.scope

    @pytest.mark.parametrize("scope", [SECRET, f"read {SECRET[:12]}", TOKEN, quote(SECRET)])
    def test_scope_that_echoes(self, scope: str) -> None:
        """A scope that may contain the secret or the token is ignored."""
        outcome = token({"access_token": TOKEN, "scope": scope}, of=exchange(scope="asked"))

        assert ("asked",) == outcome.scope

    def test_tiny_lifetime(self) -> None:
        """A lifetime below the clock's resolution counts as expired."""
        assert no_token({"access_token": TOKEN, "expires_in": 1e-300}).retryable

    @pytest.mark.parametrize("status", [200, 201, 206, 299])
    def test_any_success(self, status: int) -> None:
        """A token is accepted with any status of success."""
        outcome = parse(status, {"access_token": TOKEN})

        assert isinstance(outcome, AccessToken)
        assert TOKEN == outcome.value

    @pytest.mark.parametrize("status", [100, 199, 201, 202, 204, 299])
    @pytest.mark.parametrize("body", [b"", b"<html>", b"{}"])
    def test_other_success(self, status: int, body: bytes) -> None:
        """A response below 300 other than 200 that contains no token is a terminal error."""
        error = parse(status, body)

        assert isinstance(error, TokenResponseError)
        assert f"token request failed: status {status}, but it" in error.problem or "missing" in error.problem
        assert not error.retryable


def _raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


class TestJson:
    @pytest.mark.parametrize(
        "prefix_and_encoding",
        [(b"", "utf-8"), (codecs.BOM_UTF8, "utf-8"), (b"", "utf-16"), (b"", "utf-32"), (b" \r\n", "utf-8")],
    )
    def test_encodings_of_json(self, prefix_and_encoding: tuple[bytes, str]) -> None:
        """JSON in UTF-8, UTF-16 or UTF-32 is read with any content type, with or without a byte order mark."""
        prefix, encoding = prefix_and_encoding
        body = prefix + json.dumps({"access_token": TOKEN}).encode(encoding)

        assert TOKEN == token(body, {"Content-Type": "text/plain; charset=latin-1"}).value

    @pytest.mark.parametrize(
        ("charset", "text"),
        [
            *((charset, "\u00e9") for charset in ("iso-8859-1", "ISO-8859-15", "windows-1252", "cp500")),
            *((charset, "\u00e9") for charset in ('"utf-8"', "utf-16")),
            *((charset, "\u65e5\u672c") for charset in ("Shift_JIS", "iso-2022-jp", "gb18030")),
        ],
    )
    def test_declared_charset(self, charset: str, text: str) -> None:
        """A declared character set is used if the body is not UTF-8."""
        payload = json.dumps({"access_token": TOKEN, "x": text}, ensure_ascii=False)
        headers = {"Content-Type": f"application/json; charset={charset}"}

        assert TOKEN == token(payload.encode(charset.strip('"')), headers).value

    @pytest.mark.parametrize(
        "charset", ["utf-8", "utf-7", "punycode", "idna", "unicode_escape", "zlib", "canary", "\0"]
    )
    def test_other_charset(self, charset: str) -> None:
        """Encodings that are no character sets, and unknown ones, are not decoded."""
        error = no_token(b'{"x": "\xe9"}', {"Content-Type": f"application/json; charset={charset}"})

        assert "it is not JSON" in error.problem

    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            *((body, "it is not JSON") for body in (b"", b"<html>canary</html>", b"\xff\xfe\xff", b"\0\0\0")),
            *((body, "it is not JSON") for body in (b'{"access_token": "canary', b'{"access_token": "canary"')),
            *((body, "it is not JSON") for body in (b"[" * 100_000, b'{"a":' * 20_000)),
            (b'{"expires_in": ' + b"9" * 5_000 + b"}", "it is not JSON"),
            *((body, "it is not a JSON object") for body in (b"[]", b'["canary"]', b'"canary"', b"null", b"5")),
            (b" " * (MAX_RESPONSE_BYTES + 1), "it is longer than 128 KiB"),
        ],
    )
    def test_no_json_object(self, body: bytes, problem: str) -> None:
        """A 200 without a JSON object is a retryable error that does not quote the body."""
        error = no_token(body)

        assert f"token request failed: status 200, but {problem}" == error.problem
        assert "canary" not in everything_of(error)
        assert error.retryable

    def test_longest(self) -> None:
        """A response of exactly 128 KiB is accepted."""
        body = json.dumps({"access_token": TOKEN}).encode().ljust(MAX_RESPONSE_BYTES)

        assert 128 << 10 == MAX_RESPONSE_BYTES
        assert TOKEN == token(body).value


class TestContentEncoding:
    @pytest.mark.parametrize(
        ("name", "compress"),
        [
            *((name, bytes) for name in ("identity", "")),
            *((name, gzip.compress) for name in ("gzip", "GZIP", " gzip ", "gzip, identity", "gzip,", "x-gzip")),
            *(("deflate", compress) for compress in (zlib.compress, _raw_deflate)),
            ("Deflate", _raw_deflate),
        ],
    )
    def test_read(self, name: str, compress: Callable[[bytes], bytes]) -> None:
        """Bodies compressed with gzip, zlib or raw deflate are read, although no compression is requested."""
        body = compress(json.dumps({"access_token": TOKEN}).encode())

        assert TOKEN == token(body, {"Content-Encoding": name}).value

    @pytest.mark.parametrize(("name", "body"), [("br", b"\x0b\x02"), ("gzip, gzip", b"\x1f\x8b")])
    def test_unreadable(self, name: str, body: bytes) -> None:
        """An unsupported Content-Encoding is a terminal error."""
        error = no_token(body, {"Content-Encoding": name})

        assert "its Content-Encoding is not supported" in error.problem
        assert not error.retryable

    @pytest.mark.parametrize("name", ["UTF-8", "none", "identity, identity", "br", "gzip", "deflate", "x-gzip"])
    def test_wrong_label(self, name: str) -> None:
        """Plain JSON is read whatever its Content-Encoding says."""
        assert TOKEN == token({"access_token": TOKEN}, {"Content-Encoding": name}).value

    @pytest.mark.parametrize(("length", "is_read"), [(MAX_RESPONSE_BYTES, True), (MAX_RESPONSE_BYTES + 1, False)])
    def test_decompressed_size(self, length: int, is_read: bool) -> None:
        """The limit of 128 KiB applies to the decompressed body."""
        body = gzip.compress(json.dumps({"access_token": TOKEN}).encode().ljust(length))
        outcome = parse(200, body, {"Content-Encoding": "gzip"})

        assert is_read == isinstance(outcome, AccessToken)
        assert is_read != ("it is longer than 128 KiB" in str(outcome))

    @pytest.mark.parametrize(
        ("status", "name", "compress"), [(200, "gzip", gzip.compress), (400, "deflate", zlib.compress)]
    )
    def test_bomb(self, status: int, name: str, compress: Callable[[bytes], bytes]) -> None:
        """Decompression stops at the limit: 16 MiB of zeros take less than 8 MiB of memory."""
        body = compress(bytes(16 << 20))
        tracemalloc.start()
        try:
            outcome = parse(status, body, {"Content-Encoding": name})
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert isinstance(outcome, TokenError)
        assert peak < 8 << 20


LONG_TOKEN = base64.b64encode(bytes(range(256)) * 15).decode()


def fill(piece: bytes, *, start: bytes = b'{"x":[', end: bytes = b"0]}") -> bytes:
    """Return a body of the greatest accepted length."""
    count = (MAX_RESPONSE_BYTES - len(start) - len(end)) // len(piece)
    return start + piece * count + end


def as_json(**members: Any) -> bytes:
    return json.dumps(members).encode()


RESPONSES: dict[str, tuple[bytes, dict[str, str]]] = {
    "nested arrays": (fill(b"[[[[]]]],"), {}),
    "depth": (b'{"a":' * 26_000, {}),
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
    """No response blocks the event loop for long."""
    body, headers = RESPONSES[name]
    of = exchange(SECRET, auth_method="client_secret_basic", scope="asked")
    assert len(body) <= MAX_RESPONSE_BYTES

    assert is_quick(lambda: parse(status, body, headers, of=of))
