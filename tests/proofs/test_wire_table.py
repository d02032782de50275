"""Faults of the wire in a token request, as one table: a server that breaks HTTP or TLS, and the outcome.

Every row runs with up to three attempts. Each ends in time, with one of our errors or a token; no connection stays
open; nothing that was sent or received is shown.
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
    "reset before the request": broken(resets_after(), "", reads_first=False, posts=0),  # writing or reading finds it
    "reset before the head": broken(resets_after(), RESET),
    "reset in the status line": broken(resets_after(b"HTTP/1.1 200 can"), RESET),
    "reset in the head": broken(resets_after(b"HTTP/1.1 200 canary\r\nContent-"), RESET),
    "reset after the head": broken(resets_after(JSON_HEAD + length(99)), CLOSED),
    "reset in the body": broken(resets_after(JSON_HEAD + length(99) + GRANT), CLOSED),
    # aiohttp takes a reset for the end of such a body: JSON shows whether it is complete.
    "reset in a body without length": no_token(resets_after(UNTIL_CLOSED + GRANT[:-1]), NO_JSON),
    "reset in a chunk": broken(resets_after(CHUNKED + b"99\r\n" + GRANT), CLOSED),
    "reset before the last chunk": broken(resets_after(CHUNKED + GRANT_AS_CHUNK), CLOSED),
    "reset in a refusal": broken(resets_after(refusal(400) + length(99) + b'{"error": "canary'), CLOSED),
    "reset after the body": granted(resets_after(REPLY)),
    "reset after the last chunk": granted(resets_after(CHUNKED + GRANT_AS_CHUNK + b"0\r\n\r\n")),
    # Closed
    "closed before the request": broken(says(), "", reads_first=False, posts=0),
    "closed before the head": broken(says(), CLOSED),
    "closed in the head": broken(says(b"HTTP/1.1 200 canary\r\nContent-"), CLOSED),
    "closed after an interim reply": broken(says(b"HTTP/1.1 100 canary\r\n\r\n"), CLOSED),
    "closed in a chunk's size": broken(says(CHUNKED + b"4"), CLOSED),
    "closed in a chunk": broken(says(CHUNKED + b"99\r\n" + GRANT), CLOSED),
    "closed before the last chunk": broken(says(CHUNKED + GRANT_AS_CHUNK), CLOSED),
    "closed in a refusal": broken(says(refusal(400) + length(99), b'{"error": "canary'), CLOSED),
    # Content-Length
    "long Content-Length": broken(says(JSON_HEAD + length(len(GRANT) + 1) + GRANT), CLOSED),
    "largest Content-Length": broken(says(JSON_HEAD + length(2**63 - 1) + GRANT), CLOSED),
    "short Content-Length": no_token(says(JSON_HEAD + length(40), GRANT), NO_JSON),
    "short Content-Length, all at once": broken(says(JSON_HEAD + length(40) + GRANT), NO_HTTP),
    "Content-Length above 64 bits": broken(says(JSON_HEAD + length("9" * 40) + GRANT), NO_HTTP),
    "Content-Length of 5 000 digits": broken(says(JSON_HEAD + length("9" * 5000) + GRANT), NO_HTTP),
    "negative Content-Length": broken(says(JSON_HEAD + length(-5) + GRANT), NO_HTTP),
    "Content-Length is no number": broken(says(JSON_HEAD + length("canary") + GRANT), NO_HTTP),
    "two Content-Lengths": broken(says(JSON_HEAD + b"Content-Length: 76\r\n" + length(77) + GRANT), NO_HTTP),
    "two Content-Lengths in one": broken(says(JSON_HEAD + length("76, 77") + GRANT), NO_HTTP),
    "Content-Length and chunks": broken(
        says(JSON_HEAD + b"Transfer-Encoding: chunked\r\n" + length(5) + GRANT_AS_CHUNK + b"0\r\n\r\n"), NO_HTTP
    ),
    # Chunks
    "bad chunk": broken(says(CHUNKED + b"zz\r\ncanary"), NO_HTTP),
    # aiohttp's C parser does not end the body here.
    "bad second chunk": endless(says(CHUNKED + b"2\r\n{ \r\n", b"zz\r\ncanary")),
    "negative chunk": broken(says(CHUNKED + b"-1\r\ncanary"), NO_HTTP),
    "chunk above 64 bits": broken(says(CHUNKED + b"f" * 17 + b"\r\ncanary"), NO_HTTP),
    "chunk longer than its size": broken(says(CHUNKED + b"5\r\n" + GRANT + b"\r\n0\r\n\r\n"), NO_HTTP),
    "chunk without its end": broken(says(CHUNKED + GRANT_AS_CHUNK[:-2] + b"0\r\n\r\n"), NO_HTTP),
    "bad trailer": broken(says(CHUNKED + GRANT_AS_CHUNK + b"0\r\n\0canary\r\n\r\n"), NO_HTTP),
    # Slow
    "silence": endless(hangs_after()),
    "half a head": endless(hangs_after(JSON_HEAD)),
    "half a body": endless(hangs_after(JSON_HEAD + length(99) + GRANT)),
    "whole body, left open": endless(hangs_after(UNTIL_CLOSED + GRANT)),
    "no last chunk, left open": endless(hangs_after(CHUNKED + GRANT_AS_CHUNK)),
    "half a body, long attempts": beyond_budget(hangs_after(JSON_HEAD + length(99) + GRANT)),
    "body of 1 byte per second, long attempts": beyond_budget(drips(UNTIL_CLOSED, b" ", pause_seconds=1)),
    "head of 1 byte per 10 ms": endless(drips(JSON_HEAD + b"X: ", b"c", pause_seconds=0.01)),
    "body of 1 byte per 10 ms": endless(drips(UNTIL_CLOSED, b" ", pause_seconds=0.01)),
    "chunks of 1 byte per 10 ms": endless(drips(CHUNKED, b"1\r\n \r\n", pause_seconds=0.01)),
    "refusal of 1 byte per 10 ms": endless(drips(refusal(401) + b"\r\n", b" ", pause_seconds=0.01)),
    # Endless
    "endless empty lines": endless(repeats(b"", b"\r\n" * 1000)),
    "endless interim replies": endless(repeats(b"", b"HTTP/1.1 100 canary\r\n\r\n")),
    "endless status line": broken(repeats(b"HTTP/1.1 200 ", b"canary" * 10_000), NO_HTTP),
    "endless header": broken(repeats(JSON_HEAD + b"X: ", b"canary" * 10_000), NO_HTTP),
    "endless name of a header": broken(repeats(JSON_HEAD, b"canary" * 10_000), NO_HTTP),
    "endless headers": many_headers(repeats(JSON_HEAD, b"X: canary\r\n" * 1000)),
    "endless trailers": many_headers(repeats(CHUNKED + GRANT_AS_CHUNK + b"0\r\n", b"X: canary\r\n" * 1000)),
    "endless size of a chunk": endless(repeats(CHUNKED, b"0" * 60_000)),
    "endless chunk extension": endless(repeats(CHUNKED + b"1;", b"canary" * 10_000)),
    "endless body": no_token(repeats(UNTIL_CLOSED, b" " * 60_000), TOO_LONG),
    "endless chunks": no_token(repeats(CHUNKED, b"4000\r\n" + b" " * 0x4000 + b"\r\n"), TOO_LONG),
    "endless refusal": refused(400, repeats(refusal(400) + b"\r\n", b"canary" * 10_000)),
    "endless server error": refused(
        500, repeats(refusal(500) + b"\r\n", b"canary" * 10_000), retryable=True, posts=3, connections=3
    ),
    "endless redirect": refused(307, repeats(refusal(307, b"Location: /connect/token") + b"\r\n", b"canary" * 10_000)),
    "2 MiB": no_token(says(JSON_HEAD + length(2 << 20), GRANT.ljust(2 << 20)), TOO_LONG),
    # Compression, which was not asked for
    "deflate bomb": no_token(says(JSON_HEAD + b"Content-Encoding: deflate\r\n\r\n", BOMB), TOO_LONG),
    "gzip bomb": no_token(
        says(JSON_HEAD + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(bytes(16 << 20))), TOO_LONG
    ),
    "bomb in a refusal": refused(400, says(refusal(400, b"Content-Encoding: deflate") + b"\r\n", BOMB)),
    "cut gzip": no_token(says(JSON_HEAD + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(GRANT)[:60]), NO_JSON),
    "gzip that is none": granted(says(JSON_HEAD + b"Content-Encoding: gzip\r\n\r\n", GRANT)),
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
    "NULs for a refusal": refused(400, says(refusal(400) + length(1000), bytes(1000))),
    "NUL behind the body": no_token(says(UNTIL_CLOSED + GRANT + b"\0"), NO_JSON),
    "NUL in the token": no_token(says(UNTIL_CLOSED + GRANT.replace(b"-", b"\0")), NO_JSON),
    "escaped NUL in the token": final(says(UNTIL_CLOSED + GRANT.replace(b"-", b"\\u0000")), NOT_VISIBLE),
    # Charset: UTF-8, UTF-16 and UTF-32 by their bytes, others as declared
    "unknown charset": granted(says(JSON_HEAD.replace(b"json", b"json; charset=canary") + b"\r\n" + GRANT)),
    "UTF-16 that claims to be UTF-8": granted(
        says(JSON_HEAD.replace(b"json", b"json; charset=utf-8") + b"\r\n" + GRANT.decode().encode("utf-16"))
    ),
    "Latin-1": granted(
        says(JSON_HEAD.replace(b"json", b"json; charset=latin-1") + b"\r\n" + GRANT.replace(b"{", b'{"\xe9": 1,'))
    ),
    "Latin-1 that is not declared": no_token(says(UNTIL_CLOSED + GRANT.replace(b"{", b'{"\xe9": 1,')), NO_JSON),
    "EBCDIC": no_token(says(UNTIL_CLOSED + GRANT.decode().encode("cp500")), NO_JSON),
    "lone surrogate in the token": final(says(UNTIL_CLOSED + GRANT.replace(b"-", b"\\ud800")), NOT_VISIBLE),
    # No HTTP
    "HTTP/0.9: HTML": broken(says(b"<html>canary</html>\r\n"), NO_HTTP),
    "HTTP/0.9: the grant": broken(says(GRANT), NO_HTTP),
    "HTTP/0.9: noise": broken(says(bytes(range(256)) * 20), NO_HTTP),
    "HTTP/0.9: noise, left open": broken(hangs_after(bytes(range(256)) * 20), NO_HTTP),
    "HTTP/2": broken(says(REPLY.replace(b"/1.1", b"/2")), NO_HTTP),
    "frame of HTTP/2": broken(says(b"\0\0\x12\x04" + bytes(23)), NO_HTTP),
    "HTTP/7.7": broken(says(REPLY.replace(b"/1.1", b"/7.7")), NO_HTTP),
    "status that is no number": broken(says(b"HTTP/1.1 canary\r\n\r\n"), NO_HTTP),
    "status of four digits": broken(says(REPLY.replace(b"200", b"2000")), NO_HTTP),
    "a request for a reply": broken(says(b"GET / HTTP/1.1\r\nHost: canary\r\n\r\n"), NO_HTTP),
    "SSH": broken(says(b"SSH-2.0-canary\r\n"), NO_HTTP),
    "SMTP": broken(says(b"220 canary ESMTP\r\n"), NO_HTTP),
    "alert of TLS": broken(says(b"\x15\x03\x03\0\x02\x02\x28"), NO_HTTP),
    "header without a colon": broken(says(JSON_HEAD + b"canary\r\n" + length(len(GRANT)) + GRANT), NO_HTTP),
    "header without a name": broken(says(JSON_HEAD + b": canary\r\n" + length(len(GRANT)) + GRANT), NO_HTTP),
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
    "Retry-After that is none": refused(
        503, says(refusal(503, b"Retry-After: canary") + length(0)), retryable=True, posts=3, connections=3
    ),
    # Odd, and harmless
    "one byte at a time": granted(says(*[bytes([byte]) for byte in REPLY])),
    "early hints": granted(says(b"HTTP/1.1 103 canary\r\nLink: canary\r\n\r\n", REPLY)),
    "empty lines before the head": granted(says(b"\r\n\r\n" + REPLY)),
    "reply before the request was read": granted(says(REPLY), reads_first=False, posts=0),
    "a second reply": granted(says(REPLY, refusal(400) + length(0))),
    # Handshakes that are none
    "TLS: closed at once": handshake(says()),
    "TLS: reset at once": handshake(resets_after()),
    "TLS: silence": handshake(hangs_after(), endless),
    "TLS: silence, long attempts": handshake(hangs_after(), beyond_budget),
    "TLS: no TLS": handshake(says(b"220 canary ESMTP\r\n")),
    "TLS: plain HTTP": handshake(says(refusal(400) + length(6) + b"canary")),
    "TLS: alert": handshake(says(b"\x15\x03\x03\0\x02\x02\x28")),
    "TLS: closed in the handshake": handshake(says(HALF_A_HANDSHAKE)),
    "TLS: reset in the handshake": handshake(resets_after(HALF_A_HANDSHAKE)),
    "TLS: half a handshake": handshake(hangs_after(HALF_A_HANDSHAKE), endless),
    "TLS: handshake of 1 byte per 10 ms": handshake(
        drips(b"\x16\x03\x03\x40\0\x02\0\x3f\0\x03\x03", b"c", pause_seconds=0.01), endless
    ),
}


@pytest.mark.parametrize("row", WIRE.values(), ids=WIRE)
async def test_wire(row: Row, caplog: pytest.LogCaptureFixture) -> None:
    """A fault has the outcome of its row: error, attempts, time; no connection is left, nothing is shown."""
    caplog.set_level(logging.DEBUG)
    async with RawServer(row.script, reads_first=row.reads_first) as server:
        outcome = await request(row, server.port)
        await server.clients_left()

    check(row, outcome)
    assert (row.posts, row.connections) == (len(server.requests), server.connections)
    assert "canary" not in caplog.text
