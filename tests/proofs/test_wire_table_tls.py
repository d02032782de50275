"""Faults of TLS in a token request: a table of certificates, versions and faults after the handshake."""

from __future__ import annotations

import datetime as dt
import logging
import ssl
import warnings
from typing import Final

import aiohttp
import attrs
import pytest

from tests.support.raw_server import RawServer
from tests.support.tls import authority, loopback_context, server_context, stranger
from tests.support.wire_faults import JSON_HEAD, drips, hangs_after, relays_to, repeats, resets_after, says
from tests.support.wire_rows import (
    CLOSED,
    GRANT,
    NO_JSON,
    REPLY,
    TOO_LONG,
    UNTIL_CLOSED,
    Row,
    beyond_budget,
    broken,
    check,
    endless,
    granted,
    length,
    no_token,
    request,
    untrusted,
)


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


def other_ciphers() -> ssl.SSLContext:
    """Return a context whose only cipher the client does not support."""
    context = loopback_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA")
    return context


def demanding_context(version: ssl.TLSVersion) -> ssl.SSLContext:
    """Return a context that requires a client certificate."""
    context = loopback_context(needs_certificate=True)
    context.maximum_version = version
    return context


def over_tls(row: Row) -> Row:
    """Return the row with a successful handshake before its fault."""
    return attrs.evolve(row, scheme="https")


# OpenSSL 3.6 has a longer text.
NOT_YET_VALID = "certificate is not yet valid" + " or the system clock is incorrect" * (
    ssl.OPENSSL_VERSION_INFO >= (3, 6)
)

TLS: Final[dict[str, Row]] = {
    # Certificates
    "expired": untrusted(lambda: dated(days=-2), "certificate has expired"),
    "not yet valid": untrusted(lambda: dated(days=2), NOT_YET_VALID),
    "wrong host": untrusted(
        lambda: server_context(authority().issue_cert("token.example")),
        "IP address mismatch, certificate is not valid for '127.0.0.1'.",
    ),
    "no host": untrusted(server_context, "IP address mismatch, certificate is not valid for '127.0.0.1'."),
    "self-signed": untrusted(server_context, "self-signed certificate", lambda: None),
    "private authority that was not passed": untrusted(
        loopback_context, "unable to get local issuer certificate", lambda: None
    ),
    "another authority": untrusted(
        lambda: server_context(stranger().issue_cert("127.0.0.1")), "unable to get local issuer certificate"
    ),
    "wrong fingerprint": untrusted(
        loopback_context, "ServerFingerprintMismatch", lambda: aiohttp.Fingerprint(bytes(32))
    ),
    # Versions, ciphers and certificates of clients
    "old version": over_tls(broken(says(REPLY), "", posts=0, make_server_context=old_context)),
    "no common cipher": over_tls(broken(says(REPLY), "", posts=0, make_server_context=other_ciphers)),
    "client certificate required, TLS 1.2": over_tls(
        broken(says(REPLY), "", posts=0, make_server_context=lambda: demanding_context(ssl.TLSVersion.TLSv1_2))
    ),
    "client certificate required, TLS 1.3": over_tls(
        broken(says(REPLY), "", posts=0, make_server_context=lambda: demanding_context(ssl.TLSVersion.TLSv1_3))
    ),
    "plain http to a TLS port": broken(says(REPLY), "", posts=0),
    # After the handshake
    "nothing wrong": over_tls(granted(says(REPLY))),
    "cut before the head": over_tls(broken(resets_after(), "")),
    "cut in the head": over_tls(broken(resets_after(b"HTTP/1.1 200 canary\r\nContent-"), "")),
    "cut in the body": over_tls(broken(resets_after(JSON_HEAD + length(99) + GRANT), CLOSED)),
    "cut in a body without length": over_tls(no_token(resets_after(UNTIL_CLOSED + GRANT[:-1]), NO_JSON)),
    "half a body": over_tls(endless(hangs_after(JSON_HEAD + length(99) + GRANT))),
    "body of 1 byte per second, long attempts": over_tls(beyond_budget(drips(UNTIL_CLOSED, b" ", pause_seconds=1))),
    "endless body": over_tls(no_token(repeats(UNTIL_CLOSED, b" " * 60_000), TOO_LONG)),
}


@pytest.mark.parametrize("row", TLS.values(), ids=TLS)
async def test_tls(row: Row, caplog: pytest.LogCaptureFixture) -> None:
    """A fault of TLS has the outcome of its row, and an untrusted server gets no request."""
    caplog.set_level(logging.DEBUG)
    async with (
        RawServer(row.script, ssl_context=row.make_server_context()) as server,
        RawServer(relays_to(server.port), reads_first=False) as front,
    ):
        outcome = await request(row, front.port)
        await front.clients_left()

    check(row, outcome)
    assert (row.posts, row.connections) == (len(server.requests), front.connections)
    assert "canary" not in caplog.text
