"""Faults of the wire in a token request: a table of servers that break HTTP or TLS, and of outcomes.

Each row allows three attempts. Each ends in time, with an error of the package or a token; no connection stays open,
and no part of the request or the response is shown.
"""

from __future__ import annotations

import gzip
import logging
from typing import Final

import pytest

from tests.support.raw_server import RawServer
from tests.support.wire_faults import JSON_HEAD, drips, hangs_after, repeats, resets_after, says
from tests.support.wire_rows import (
    BOMB,
    CHUNKED,
    CLOSED,
    GRANT,
    GRANT_AS_CHUNK,
    NESTED,
    NO_HTTP,
    NO_JSON,
    NOT_FINITE,
    NOT_VISIBLE,
    REPLY,
    RESET,
    TOO_LONG,
    UNTIL_CLOSED,
    Row,
    beyond_budget,
    broken,
    check,
    endless,
    final,
    grant,
    granted,
    handshake,
    length,
    many_headers,
    no_token,
    refusal,
    refused,
    request,
    strange,
)

HALF_A_HANDSHAKE: Final = b"\x16\x03\x03\0\x7a\x02\0\0\x76\x03\x03canary"
WIRE: Final[dict[str, Row]] = {
    # Reset
    "reset before the request": broken(
        resets_after(), "", reads_first=False, posts=0
    ),  # either writing or reading fails
    "reset before the head": broken(resets_after(), RESET),
    "reset in the head": broken(resets_after(b"HTTP/1.1 200 canary\r\nContent-"), RESET),
    "reset in the body": broken(resets_after(JSON_HEAD + length(99) + GRANT), CLOSED),
    # aiohttp takes a reset for the end of such a body: JSON shows whether it is complete.
    "reset in a body without length": no_token(resets_after(UNTIL_CLOSED + GRANT[:-1]), NO_JSON),
    "reset before the last chunk": broken(resets_after(CHUNKED + GRANT_AS_CHUNK), CLOSED),
    "reset in a refusal": broken(resets_after(refusal(400) + length(99) + b'{"error": "canary'), CLOSED),
    "reset after the body": granted(resets_after(REPLY)),
    "reset after the last chunk": granted(resets_after(CHUNKED + GRANT_AS_CHUNK + b"0\r\n\r\n")),
    # Closed
    "closed before the request": broken(says(), "", reads_first=False, posts=0),
    "closed before the head": broken(says(), CLOSED),
    "closed in the head": broken(says(b"HTTP/1.1 200 canary\r\nContent-"), CLOSED),
    "closed in a chunk": broken(says(CHUNKED + b"99\r\n" + GRANT), CLOSED),
    "closed before the last chunk": broken(says(CHUNKED + GRANT_AS_CHUNK), CLOSED),
    # Content-Length
    "long Content-Length": broken(says(JSON_HEAD + length(len(GRANT) + 1) + GRANT), CLOSED),
    "short Content-Length": no_token(says(JSON_HEAD + length(40), GRANT), NO_JSON),
    "short Content-Length, all at once": broken(says(JSON_HEAD + length(40) + GRANT), NO_HTTP),
    "Content-Length above 64 bits": broken(says(JSON_HEAD + length("9" * 40) + GRANT), NO_HTTP),
    "Content-Length without a number": broken(says(JSON_HEAD + length("canary") + GRANT), NO_HTTP),
    "two Content-Lengths": broken(says(JSON_HEAD + b"Content-Length: 76\r\n" + length(77) + GRANT), NO_HTTP),
    "Content-Length and chunks": broken(
        says(JSON_HEAD + b"Transfer-Encoding: chunked\r\n" + length(5) + GRANT_AS_CHUNK + b"0\r\n\r\n"), NO_HTTP
    ),
    # Chunks
    "bad chunk": broken(says(CHUNKED + b"zz\r\ncanary"), NO_HTTP),
    # aiohttp's C parser does not end the body here.
    "bad second chunk": endless(says(CHUNKED + b"2\r\n{ \r\n", b"zz\r\ncanary")),
    "chunk longer than its size": broken(says(CHUNKED + b"5\r\n" + GRANT + b"\r\n0\r\n\r\n"), NO_HTTP),
    "bad trailer": broken(says(CHUNKED + GRANT_AS_CHUNK + b"0\r\n\0canary\r\n\r\n"), NO_HTTP),
    # Slow
    "silence": endless(hangs_after()),
    "half a body": endless(hangs_after(JSON_HEAD + length(99) + GRANT)),
    "no last chunk, left open": endless(hangs_after(CHUNKED + GRANT_AS_CHUNK)),
    "half a body, long attempts": beyond_budget(hangs_after(JSON_HEAD + length(99) + GRANT)),
    "body of 1 byte per second, long attempts": beyond_budget(drips(UNTIL_CLOSED, b" ", pause_seconds=1)),
    "head of 1 byte per 10 ms": endless(drips(JSON_HEAD + b"X: ", b"c", pause_seconds=0.01)),
    "body of 1 byte per 10 ms": endless(drips(UNTIL_CLOSED, b" ", pause_seconds=0.01)),
    "refusal of 1 byte per 10 ms": endless(drips(refusal(401) + b"\r\n", b" ", pause_seconds=0.01)),
    # Endless
    "endless interim responses": endless(repeats(b"", b"HTTP/1.1 100 canary\r\n\r\n")),
    "endless status line": broken(repeats(b"HTTP/1.1 200 ", b"canary" * 10_000), NO_HTTP),
    "endless header": broken(repeats(JSON_HEAD + b"X: ", b"canary" * 10_000), NO_HTTP),
    "endless headers": many_headers(repeats(JSON_HEAD, b"X: canary\r\n" * 1000)),
    "endless trailers": many_headers(repeats(CHUNKED + GRANT_AS_CHUNK + b"0\r\n", b"X: canary\r\n" * 1000)),
    "endless chunk extension": endless(repeats(CHUNKED + b"1;", b"canary" * 10_000)),
    "endless body": no_token(repeats(UNTIL_CLOSED, b" " * 60_000), TOO_LONG),
    "endless chunks": no_token(repeats(CHUNKED, b"4000\r\n" + b" " * 0x4000 + b"\r\n"), TOO_LONG),
    "endless refusal": refused(400, repeats(refusal(400) + b"\r\n", b"canary" * 10_000)),
    "endless server error": refused(
        500, repeats(refusal(500) + b"\r\n", b"canary" * 10_000), retryable=True, posts=3, connections=3
    ),
    "endless redirect": refused(307, repeats(refusal(307, b"Location: /connect/token") + b"\r\n", b"canary" * 10_000)),
    "2 MiB": no_token(says(JSON_HEAD + length(2 << 20), GRANT.ljust(2 << 20)), TOO_LONG),
    # Compression that was not requested
    "deflate bomb": no_token(says(JSON_HEAD + b"Content-Encoding: deflate\r\n\r\n", BOMB), TOO_LONG),
    "gzip bomb": no_token(
        says(JSON_HEAD + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(bytes(16 << 20))), TOO_LONG
    ),
    "bomb in a refusal": refused(400, says(refusal(400, b"Content-Encoding: deflate") + b"\r\n", BOMB)),
    "cut gzip": no_token(says(JSON_HEAD + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(GRANT)[:60]), NO_JSON),
    "no gzip": granted(says(JSON_HEAD + b"Content-Encoding: gzip\r\n\r\n", GRANT)),
    "gzip without Content-Encoding": no_token(says(UNTIL_CLOSED + gzip.compress(GRANT)), NO_JSON),
    # JSON
    "nested JSON": no_token(says(UNTIL_CLOSED + NESTED), NO_JSON),
    "nested JSON in a refusal": refused(403, says(refusal(403) + b"\r\n" + NESTED)),
    "huge integer": no_token(says(grant(b"9" * 5000)), NO_JSON),
    "large integer": granted(says(grant(b"9" * 400))),
    "huge float": final(says(grant(b"1e999")), NOT_FINITE),
    "two grants": no_token(says(UNTIL_CLOSED + GRANT * 2), NO_JSON),
    # NULs
    "NULs for a head": broken(says(bytes(1000)), NO_HTTP),
    "NULs for a body": no_token(says(JSON_HEAD + length(1000), bytes(1000)), NO_JSON),
    "NUL in the token": no_token(says(UNTIL_CLOSED + GRANT.replace(b"-", b"\0")), NO_JSON),
    "escaped NUL in the token": final(says(UNTIL_CLOSED + GRANT.replace(b"-", b"\\u0000")), NOT_VISIBLE),
    # Charset: UTF-8, UTF-16 and UTF-32 by their bytes, others as declared
    "unknown charset": granted(says(JSON_HEAD.replace(b"json", b"json; charset=canary") + b"\r\n" + GRANT)),
    "UTF-16 declared as UTF-8": granted(
        says(JSON_HEAD.replace(b"json", b"json; charset=utf-8") + b"\r\n" + GRANT.decode().encode("utf-16"))
    ),
    "Latin-1": granted(
        says(JSON_HEAD.replace(b"json", b"json; charset=latin-1") + b"\r\n" + GRANT.replace(b"{", b'{"\xe9": 1,'))
    ),
    "undeclared Latin-1": no_token(says(UNTIL_CLOSED + GRANT.replace(b"{", b'{"\xe9": 1,')), NO_JSON),
    "EBCDIC": no_token(says(UNTIL_CLOSED + GRANT.decode().encode("cp500")), NO_JSON),
    "lone surrogate in the token": final(says(UNTIL_CLOSED + GRANT.replace(b"-", b"\\ud800")), NOT_VISIBLE),
    # Not HTTP
    "HTTP/0.9: HTML": broken(says(b"<html>canary</html>\r\n"), NO_HTTP),
    "HTTP/0.9: noise, left open": broken(hangs_after(bytes(range(256)) * 20), NO_HTTP),
    "HTTP/2": broken(says(REPLY.replace(b"/1.1", b"/2")), NO_HTTP),
    "status without a number": broken(says(b"HTTP/1.1 canary\r\n\r\n"), NO_HTTP),
    "request instead of a response": broken(says(b"GET / HTTP/1.1\r\nHost: canary\r\n\r\n"), NO_HTTP),
    "SSH": broken(says(b"SSH-2.0-canary\r\n"), NO_HTTP),
    "TLS alert": broken(says(b"\x15\x03\x03\0\x02\x02\x28"), NO_HTTP),
    "header without a colon": broken(says(JSON_HEAD + b"canary\r\n" + length(len(GRANT)) + GRANT), NO_HTTP),
    # Status
    "101": strange(
        101,
        says(b"HTTP/1.1 101 canary\r\nUpgrade: canary\r\nConnection: Upgrade\r\n\r\ncanary"),
        "it is no final response",
    ),
    "204": strange(204, says(b"HTTP/1.1 204 canary\r\n\r\n"), NO_JSON),
    "204 with a body": broken(says(b"HTTP/1.1 204 canary\r\n" + length(len(GRANT)) + GRANT), NO_HTTP),
    "201": granted(says(REPLY.replace(b"200", b"201"))),
    "999": refused(999, says(refusal(999) + length(0)), retryable=True, posts=3, connections=3),
    "redirect to no address": refused(307, says(refusal(307, b"Location: http://[canary") + length(0))),
    "Retry-After of an hour": refused(503, says(refusal(503, b"Retry-After: 3600") + length(0)), retryable=True),
    "Retry-After of 5 000 digits": refused(
        503, says(refusal(503, b"Retry-After: " + b"9" * 5000) + length(0)), retryable=True
    ),
    "invalid Retry-After": refused(
        503, says(refusal(503, b"Retry-After: canary") + length(0)), retryable=True, posts=3, connections=3
    ),
    # Odd but harmless
    "one byte at a time": granted(says(*[bytes([byte]) for byte in REPLY])),
    "early hints": granted(says(b"HTTP/1.1 103 canary\r\nLink: canary\r\n\r\n", REPLY)),
    "empty lines before the head": granted(says(b"\r\n\r\n" + REPLY)),
    "response before the request was read": granted(says(REPLY), reads_first=False, posts=0),
    "second response": granted(says(REPLY, refusal(400) + length(0))),
    # Broken handshakes
    "TLS: closed at once": handshake(says()),
    "TLS: reset at once": handshake(resets_after()),
    "TLS: silence": handshake(hangs_after(), endless),
    "TLS: silence, long attempts": handshake(hangs_after(), beyond_budget),
    "TLS: no TLS": handshake(says(b"220 canary ESMTP\r\n")),
    "TLS: half a handshake": handshake(hangs_after(HALF_A_HANDSHAKE), endless),
    "TLS: handshake of 1 byte per 10 ms": handshake(
        drips(b"\x16\x03\x03\x40\0\x02\0\x3f\0\x03\x03", b"c", pause_seconds=0.01), endless
    ),
}


@pytest.mark.parametrize("row", WIRE.values(), ids=WIRE)
async def test_wire(row: Row, caplog: pytest.LogCaptureFixture) -> None:
    """A fault has the error, attempts and time of its row, leaves no connection, and shows nothing."""
    caplog.set_level(logging.DEBUG)
    async with RawServer(row.script, reads_first=row.reads_first) as server:
        outcome = await request(row, server.port)
        await server.clients_left()

    check(row, outcome)
    assert (row.posts, row.connections) == (len(server.requests), server.connections)
    assert "canary" not in caplog.text
