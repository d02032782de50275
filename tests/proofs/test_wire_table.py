"""Faults of the wire in a token request: a table of servers that break HTTP or TLS, and of outcomes.

Each row allows three attempts. Each ends in time, with an error of the package or a token; no connection stays open,
and no part of the request or the response is shown. How a complete response is parsed is tested in `test_response`.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import errno
import gzip
import inspect
import logging
import os
import ssl
import warnings
from collections.abc import Callable
from typing import Any, Final

import aiohttp
import attrs
import pytest

from simplestore_async import AccessToken, ClientCredentials, RetryPolicy, TokenEndpoint
from simplestore_async.errors import (
    TokenEndpointError,
    TokenError,
    TokenResponseError,
    TokenTimeoutError,
    TokenTransportError,
)
from tests.support.raw_server import RawServer, Script
from tests.support.servers import SECRET
from tests.support.tls import authority, client_context, loopback_context, server_context, stranger
from tests.support.tracebacks import everything_shown
from tests.support.wire_faults import (
    GRANT,
    JSON_HEAD,
    hangs_after,
    length,
    relays_to,
    repeats,
    resets_after,
    says,
    shows_secret,
)

# The policy of a request, and the seconds within which it must end.
Bound = tuple[RetryPolicy, float]
AT_ONCE: Final = RetryPolicy(retry_seconds=0.01, attempt_seconds=10, budget_seconds=30), 10.0
"""The fault ends each attempt: all of them together take less than the time limit of one."""
BY_ATTEMPTS: Final = RetryPolicy(attempts=2, retry_seconds=0.01, attempt_seconds=0.25, budget_seconds=6), 6.0
"""Each attempt times out; all of them together take less than the budget."""
BY_BUDGET: Final = RetryPolicy(retry_seconds=0.01, attempt_seconds=60, budget_seconds=0.2), 2.2
"""The budget ends before the first attempt times out; a busy machine may add two seconds."""


@attrs.frozen(kw_only=True)
class Row:
    """A fault and its outcome, which without an error is a token."""

    script: Script
    error: type[TokenError] | None = None
    problem: str = ""  # the end of the message
    status: int | None = None
    retryable: bool = False
    attempts: int = 1  # each makes one connection
    has_post: bool = True
    bound: Bound = AT_ONCE
    scheme: str = "http"
    reads_first: bool = True
    make_server_context: Callable[[], ssl.SSLContext] = loopback_context
    make_ssl: Callable[[], ssl.SSLContext | aiohttp.Fingerprint | None] = client_context


def granted(script: Script, **columns: Any) -> Row:
    """A harmless fault: the first response has a token."""
    return Row(script=script, **columns)


def broken(script: Script, problem: str, **columns: Any) -> Row:
    """Three attempts without a complete response."""
    defaults: dict[str, Any] = {"error": TokenTransportError, "retryable": True, "attempts": 3}
    return Row(script=script, problem=problem, **defaults | columns)


def endless(script: Script, **columns: Any) -> Row:
    """Two attempts that time out."""
    defaults: dict[str, Any] = {"error": TokenTimeoutError, "attempts": 2, "bound": BY_ATTEMPTS}
    return broken(script, "no complete response within 0.25 s", **defaults | columns)


def beyond_budget(script: Script, **columns: Any) -> Row:
    """One attempt that ends with the budget."""
    return broken(script, " s", **{"error": TokenTimeoutError, "attempts": 1, "bound": BY_BUDGET} | columns)


def no_token(script: Script, problem: str, **columns: Any) -> Row:
    """Three complete 200 responses without a token."""
    return broken(script, f"token request failed: status 200, but {problem}", error=TokenResponseError, **columns)


def strange(status: int, script: Script, problem: str) -> Row:
    """A terminal status that is neither a token nor a refusal."""
    return Row(script=script, error=TokenResponseError, problem=f"token request failed: status {status}, but {problem}")


def refused(status: int, script: Script, **columns: Any) -> Row:
    """A terminal refusal with its status."""
    problem = f"token request failed: status {status}"
    return Row(script=script, error=TokenEndpointError, status=status, problem=problem, **columns)


def handshake(script: Script, make: Callable[..., Row] | None = None) -> Row:
    """A script without TLS instead of a handshake; no request is sent."""
    columns: dict[str, Any] = {"scheme": "https", "reads_first": False, "has_post": False}
    return make(script, **columns) if make else broken(script, "", **columns)


def untrusted(make_server_context: Callable[[], ssl.SSLContext], reason: str, make_ssl: Any = client_context) -> Row:
    """An untrusted certificate: a terminal error, and no request is sent."""
    return Row(
        script=says(REPLY),
        error=TokenTransportError,
        problem=f" failed: the certificate is not trusted ({reason})",
        has_post=False,
        scheme="https",
        make_server_context=make_server_context,
        make_ssl=make_ssl,
    )


def over_tls(row: Row) -> Row:
    """Return the row with a successful handshake before its fault."""
    return attrs.evolve(row, scheme="https")


def no_handshake(make_server_context: Callable[[], ssl.SSLContext]) -> Row:
    return over_tls(broken(says(REPLY), "", has_post=False, make_server_context=make_server_context))


CLOSED: Final = "the connection was closed before the response was complete"
NO_HTTP: Final = "the response is not HTTP"
NO_JSON: Final = "it is not JSON"
TOO_LONG: Final = "it is longer than 128 KiB"
# The event loop of Windows reports a reset as end of file.
RESET: Final = CLOSED if os.name == "nt" else os.strerror(errno.ECONNRESET)

# Everything that is sent contains "canary", and nothing shown may contain it.
TOKEN: Final = "canary-token"
UNTIL_CLOSED: Final = JSON_HEAD + b"X-Request-Id: canary\r\n\r\n"
GZIP: Final = JSON_HEAD + b"Content-Encoding: gzip\r\n\r\n"
CHUNKED: Final = JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNK: Final = b"%x\r\n%s\r\n" % (len(GRANT), GRANT)
REPLY: Final = JSON_HEAD + length(len(GRANT)) + GRANT


def refusal(status: int, header: bytes = b"X-Request-Id: canary") -> bytes:
    """Return a head."""
    return b"HTTP/1.1 %d canary\r\n%s\r\n" % (status, header)


def many_headers(script: Script) -> Row:
    """Headers without end, whose number this version of aiohttp limits or not."""
    has_limit = "max_headers" in inspect.signature(aiohttp.ClientSession).parameters
    return broken(script, NO_HTTP) if has_limit else endless(script)


HALF_A_HANDSHAKE: Final = b"\x16\x03\x03\0\x7a\x02\0\0\x76\x03\x03canary"
LOUD: Final = b"canary" * 10_000
WIRE: Final[dict[str, Row]] = {
    # Reset; before the request, either writing or reading fails
    "reset before the request": broken(resets_after(), "", reads_first=False, has_post=False),
    "reset before the head": broken(resets_after(), RESET),
    "reset in the head": broken(resets_after(b"HTTP/1.1 200 canary\r\nContent-"), RESET),
    "reset in the body": broken(resets_after(JSON_HEAD + length(99) + GRANT), CLOSED),
    # aiohttp takes a reset for the end of such a body: JSON shows whether it is complete.
    "reset in a body without length": no_token(resets_after(UNTIL_CLOSED + GRANT[:-1]), NO_JSON),
    "reset before the last chunk": broken(resets_after(CHUNKED + CHUNK), CLOSED),
    "reset in a refusal": broken(resets_after(refusal(400) + length(99) + b'{"error": "canary'), CLOSED),
    "reset after the body": granted(resets_after(REPLY)),
    "reset after the last chunk": granted(resets_after(CHUNKED + CHUNK + b"0\r\n\r\n")),
    # Closed
    "closed before the request": broken(says(), "", reads_first=False, has_post=False),
    "closed before the head": broken(says(), CLOSED),
    "closed in the head": broken(says(b"HTTP/1.1 200 canary\r\nContent-"), CLOSED),
    "closed in a chunk": broken(says(CHUNKED + b"99\r\n" + GRANT), CLOSED),
    # Content-Length
    "long Content-Length": broken(says(JSON_HEAD + length(len(GRANT) + 1) + GRANT), CLOSED),
    "short Content-Length": no_token(says(JSON_HEAD + length(40), GRANT), NO_JSON),
    "short Content-Length, all at once": broken(says(JSON_HEAD + length(40) + GRANT), NO_HTTP),
    "Content-Length above 64 bits": broken(says(JSON_HEAD + length("9" * 40) + GRANT), NO_HTTP),
    "two Content-Lengths": broken(says(JSON_HEAD + b"Content-Length: 76\r\n" + length(77) + GRANT), NO_HTTP),
    # Chunks
    "bad chunk": broken(says(CHUNKED + b"zz\r\ncanary"), NO_HTTP),
    # aiohttp's C parser does not end the body here.
    "bad second chunk": endless(says(CHUNKED + b"2\r\n{ \r\n", b"zz\r\ncanary")),
    "chunk longer than its size": broken(says(CHUNKED + b"5\r\n" + GRANT + b"\r\n0\r\n\r\n"), NO_HTTP),
    "bad trailer": broken(says(CHUNKED + CHUNK + b"0\r\n\0canary\r\n\r\n"), NO_HTTP),
    # Slow
    "silence": endless(hangs_after()),
    "half a body": endless(hangs_after(JSON_HEAD + length(99) + GRANT)),
    "no last chunk, left open": endless(hangs_after(CHUNKED + CHUNK)),
    "half a body, long attempts": beyond_budget(hangs_after(JSON_HEAD + length(99) + GRANT)),
    "body of 1 byte per second, long attempts": beyond_budget(repeats(UNTIL_CLOSED, b" ", pause_seconds=1)),
    "head of 1 byte per 10 ms": endless(repeats(JSON_HEAD + b"X: ", b"c", pause_seconds=0.01)),
    "body of 1 byte per 10 ms": endless(repeats(UNTIL_CLOSED, b" ", pause_seconds=0.01)),
    "refusal of 1 byte per 10 ms": endless(repeats(refusal(401) + b"\r\n", b" ", pause_seconds=0.01)),
    # Endless
    "endless interim responses": endless(repeats(b"", b"HTTP/1.1 100 canary\r\n\r\n")),
    "endless status line": broken(repeats(b"HTTP/1.1 200 ", LOUD), NO_HTTP),
    "endless header": broken(repeats(JSON_HEAD + b"X: ", LOUD), NO_HTTP),
    "endless headers": many_headers(repeats(JSON_HEAD, b"X: canary\r\n" * 1000)),
    "endless trailers": many_headers(repeats(CHUNKED + CHUNK + b"0\r\n", b"X: canary\r\n" * 1000)),
    "endless chunk extension": endless(repeats(CHUNKED + b"1;", LOUD)),
    "endless body": no_token(repeats(UNTIL_CLOSED, b" " * 60_000), TOO_LONG),
    "endless chunks": no_token(repeats(CHUNKED, b"4000\r\n" + b" " * 0x4000 + b"\r\n"), TOO_LONG),
    "endless refusal": refused(400, repeats(refusal(400) + b"\r\n", LOUD)),
    "endless server error": refused(500, repeats(refusal(500) + b"\r\n", LOUD), retryable=True, attempts=3),
    "endless redirect": refused(307, repeats(refusal(307, b"Location: /connect/token") + b"\r\n", LOUD)),
    "2 MiB": no_token(says(JSON_HEAD + length(2 << 20), GRANT.ljust(2 << 20)), TOO_LONG),
    # Compression that was not requested
    "gzip bomb": no_token(says(GZIP, gzip.compress(bytes(16 << 20))), TOO_LONG),
    "cut gzip": no_token(says(GZIP, gzip.compress(GRANT)[:60]), NO_JSON),
    "no gzip": granted(says(GZIP, GRANT)),
    # Not HTTP
    "NULs": broken(says(bytes(1000)), NO_HTTP),
    "HTTP/0.9: HTML": broken(says(b"<html>canary</html>\r\n"), NO_HTTP),
    "HTTP/0.9: noise, left open": broken(hangs_after(bytes(range(256)) * 20), NO_HTTP),
    "HTTP/2": broken(says(REPLY.replace(b"/1.1", b"/2")), NO_HTTP),
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
    "999": refused(999, says(refusal(999) + length(0)), retryable=True, attempts=3),
    "redirect to no address": refused(307, says(refusal(307, b"Location: http://[canary") + length(0))),
    "Retry-After of an hour": refused(503, says(refusal(503, b"Retry-After: 3600") + length(0)), retryable=True),
    # Odd but harmless
    "one byte at a time": granted(says(*[bytes([byte]) for byte in REPLY])),
    "early hints": granted(says(b"HTTP/1.1 103 canary\r\nLink: canary\r\n\r\n", REPLY)),
    "empty lines before the head": granted(says(b"\r\n\r\n" + REPLY)),
    "response before the request was read": granted(says(REPLY), reads_first=False, has_post=False),
    "second response": granted(says(REPLY, refusal(400) + length(0))),
    # Broken handshakes
    "TLS: closed at once": handshake(says()),
    "TLS: reset at once": handshake(resets_after()),
    "TLS: silence": handshake(hangs_after(), endless),
    "TLS: silence, long attempts": handshake(hangs_after(), beyond_budget),
    "TLS: no TLS": handshake(says(b"220 canary ESMTP\r\n")),
    "TLS: half a handshake": handshake(hangs_after(HALF_A_HANDSHAKE), endless),
}


def dated(*, days: float) -> ssl.SSLContext:
    """Return a context whose certificate is valid for one day, *days* from now."""
    start = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
    end = start + dt.timedelta(days=1)
    return server_context(authority().issue_cert("127.0.0.1", not_before=start, not_after=end))


def old_context() -> ssl.SSLContext:
    """Return a context for TLS 1.1 only."""
    context = loopback_context()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"ssl\.TLSVersion\.TLSv1_1 is deprecated", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def demanding_context(version: ssl.TLSVersion) -> ssl.SSLContext:
    """Return a context that requires a client certificate."""
    context = loopback_context(needs_certificate=True)
    context.maximum_version = version
    return context


# OpenSSL 3.6 has a longer text.
CLOCK: Final = " or the system clock is incorrect" * (ssl.OPENSSL_VERSION_INFO >= (3, 6))
UNKNOWN: Final = "unable to get local issuer certificate"
TLS: Final[dict[str, Row]] = {
    # Certificates
    "expired": untrusted(lambda: dated(days=-2), "certificate has expired"),
    "not yet valid": untrusted(lambda: dated(days=2), f"certificate is not yet valid{CLOCK}"),
    "wrong host": untrusted(
        lambda: server_context(authority().issue_cert("token.example")),
        "IP address mismatch, certificate is not valid for '127.0.0.1'.",
    ),
    "self-signed": untrusted(server_context, "self-signed certificate", lambda: None),
    "private authority that was not passed": untrusted(loopback_context, UNKNOWN, lambda: None),
    "another authority": untrusted(lambda: server_context(stranger().issue_cert("127.0.0.1")), UNKNOWN),
    "wrong fingerprint": untrusted(
        loopback_context, "ServerFingerprintMismatch", lambda: aiohttp.Fingerprint(bytes(32))
    ),
    # Versions and certificates of clients
    "old version": no_handshake(old_context),
    "client certificate required, TLS 1.2": no_handshake(lambda: demanding_context(ssl.TLSVersion.TLSv1_2)),
    "client certificate required, TLS 1.3": no_handshake(lambda: demanding_context(ssl.TLSVersion.TLSv1_3)),
    "plain http to a TLS port": broken(says(REPLY), "", has_post=False),
    # After the handshake
    "cut before the head": over_tls(broken(resets_after(), "")),
    "cut in the body": over_tls(broken(resets_after(JSON_HEAD + length(99) + GRANT), CLOSED)),
    "cut in a body without length": over_tls(no_token(resets_after(UNTIL_CLOSED + GRANT[:-1]), NO_JSON)),
    "half a body": over_tls(endless(hangs_after(JSON_HEAD + length(99) + GRANT))),
    "endless body": over_tls(no_token(repeats(UNTIL_CLOSED, b" " * 60_000), TOO_LONG)),
}


async def check(row: Row, server: RawServer, front: RawServer, caplog: pytest.LogCaptureFixture) -> None:
    """Send a token request to *front*; it must end in time, as the row says, and show nothing."""
    caplog.set_level(logging.DEBUG)
    url = f"{row.scheme}://127.0.0.1:{front.port}/connect/token?tenant=7"
    credentials = ClientCredentials(client_id="app", client_secret=SECRET, token_url=url)
    policy, seconds = row.bound
    endpoint = TokenEndpoint(credentials, policy=policy, ssl=row.make_ssl() if row.scheme == "https" else None)
    outcome: AccessToken | TokenError
    try:
        async with asyncio.timeout(seconds):
            outcome = await endpoint.request_token()
    except TokenError as error:
        outcome = error
    await front.clients_left()

    assert (row.attempts * row.has_post, row.attempts) == (len(server.requests), front.connections)
    assert "canary" not in caplog.text
    if row.error is None:
        assert isinstance(outcome, AccessToken)
        assert TOKEN == outcome.value
        assert "canary" not in repr(outcome)
        return
    assert row.error is type(outcome)
    assert isinstance(outcome, TokenError)
    assert row.retryable is outcome.retryable
    assert row.status == getattr(outcome, "status", None)
    assert outcome.problem.endswith(row.problem)
    assert "tenant" not in str(outcome)
    assert (None, None) == (outcome.__cause__, outcome.__context__)
    shown = everything_shown(outcome)
    assert "canary" not in shown
    assert not shows_secret(shown)


@pytest.mark.parametrize("row", WIRE.values(), ids=WIRE)
async def test_wire(row: Row, caplog: pytest.LogCaptureFixture) -> None:
    """A fault has the error, attempts and time of its row, leaves no connection, and shows nothing."""
    async with RawServer(row.script, reads_first=row.reads_first) as server:
        await check(row, server, server, caplog)


@pytest.mark.parametrize("row", TLS.values(), ids=TLS)
async def test_tls(row: Row, caplog: pytest.LogCaptureFixture) -> None:
    """A fault of TLS has the outcome of its row, and an untrusted server gets no request."""
    async with (
        RawServer(row.script, ssl_context=row.make_server_context()) as server,
        RawServer(relays_to(server.port), reads_first=False) as front,
    ):
        await check(row, server, front, caplog)
