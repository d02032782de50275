"""Bodies of token responses: JSON, character sets, compression and size."""

from __future__ import annotations

import codecs
import gzip
import json
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import pytest

from simplestore_async import AccessToken
from simplestore_async._core.response import MAX_RESPONSE_BYTES
from simplestore_async.errors import TokenError
from tests.support.exchanges import TOKEN, everything_of, no_token, parse, token

if TYPE_CHECKING:
    from collections.abc import Callable


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
            (b"", "it is not JSON"),
            (b"<html>canary</html>", "it is not JSON"),
            (b'{"access_token": "canary', "it is not JSON"),
            (b'{"access_token": "canary"', "it is not JSON"),
            (b"\xff\xfe\xff", "it is not JSON"),
            (b"\0\0\0", "it is not JSON"),
            (b"[" * 100_000, "it is not JSON"),
            (b'{"a":' * 20_000, "it is not JSON"),
            (b'{"expires_in": ' + b"9" * 5_000 + b"}", "it is not JSON"),
            (b"[]", "it is not a JSON object"),
            (b'["canary"]', "it is not a JSON object"),
            (b'"canary"', "it is not a JSON object"),
            (b"null", "it is not a JSON object"),
            (b"5", "it is not a JSON object"),
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
            ("identity", bytes),
            ("", bytes),
            ("gzip", gzip.compress),
            ("GZIP", gzip.compress),
            (" gzip ", gzip.compress),
            ("gzip, identity", gzip.compress),
            ("gzip,", gzip.compress),
            ("x-gzip", gzip.compress),
            ("deflate", zlib.compress),
            ("deflate", _raw_deflate),
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
