"""Rows of the tables of wire faults: a server's script and the outcome of a token request."""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import ssl
import zlib
from collections.abc import Callable
from typing import Any, Final

import aiohttp
import attrs

from simplestore_async import AccessToken, ClientCredentials, RetryPolicy, TokenEndpoint
from simplestore_async.errors import (
    TokenEndpointError,
    TokenError,
    TokenResponseError,
    TokenTimeoutError,
    TokenTransportError,
)
from tests.support.raw_server import Script
from tests.support.servers import SECRET
from tests.support.tls import client_context, loopback_context
from tests.support.tracebacks import everything_shown
from tests.support.wire_faults import JSON_HEAD, says, shows_secret


@attrs.frozen
class Bound:
    """The policy of a request, and the seconds within which it must end."""

    policy: RetryPolicy
    seconds: float


def bound(seconds: float, *, attempt_seconds: float, budget_seconds: float, attempts: int = 3) -> Bound:
    policy = RetryPolicy(
        attempts=attempts, retry_seconds=0.01, attempt_seconds=attempt_seconds, budget_seconds=budget_seconds
    )
    return Bound(policy, seconds)


SLACK_SECONDS: Final = 2
"""The delay that a busy machine may add to an exhausted budget."""

AT_ONCE: Final = bound(10, attempt_seconds=10, budget_seconds=30)
"""The fault ends each attempt: all of them together take less than the time limit of one."""
BY_ATTEMPTS: Final = bound(6, attempts=2, attempt_seconds=0.25, budget_seconds=6)
"""Each attempt times out; all of them together take less than the budget."""
BY_BUDGET: Final = bound(0.2 + SLACK_SECONDS, attempt_seconds=60, budget_seconds=0.2)
"""The budget ends before the first attempt times out."""


@attrs.frozen(kw_only=True)
class Row:
    """A fault and its outcome, which without an error is a token."""

    script: Script
    error: type[TokenError] | None = None
    problem: str = ""  # the end of the message
    status: int | None = None
    retryable: bool = False
    posts: int = 1
    connections: int = 1
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
    defaults: dict[str, Any] = {"error": TokenTransportError, "retryable": True, "posts": 3, "connections": 3}
    return Row(script=script, problem=problem, **defaults | columns)


def endless(script: Script, **columns: Any) -> Row:
    """Two attempts that time out."""
    defaults: dict[str, Any] = {"error": TokenTimeoutError, "posts": 2, "connections": 2, "bound": BY_ATTEMPTS}
    return broken(script, "no complete response within 0.25 s", **defaults | columns)


def beyond_budget(script: Script, **columns: Any) -> Row:
    """One attempt that ends with the budget."""
    defaults: dict[str, Any] = {"error": TokenTimeoutError, "retryable": True, "bound": BY_BUDGET}
    return Row(script=script, problem=" s", **defaults | columns)


def no_token(script: Script, problem: str, **columns: Any) -> Row:
    """Three complete 200 responses without a token."""
    return broken(script, f"token request failed: status 200, but {problem}", error=TokenResponseError, **columns)


def final(script: Script, problem: str) -> Row:
    """A complete 200 response that is a terminal error."""
    return no_token(script, problem, retryable=False, posts=1, connections=1)


def strange(status: int, script: Script, problem: str) -> Row:
    """A terminal status that is neither a token nor a refusal."""
    return Row(script=script, error=TokenResponseError, problem=f"token request failed: status {status}, but {problem}")


def refused(status: int, script: Script, **columns: Any) -> Row:
    """A terminal refusal with its status."""
    problem = f"token request failed: status {status}"
    return Row(script=script, error=TokenEndpointError, status=status, problem=problem, **columns)


def handshake(script: Script, make: Callable[..., Row] | None = None) -> Row:
    """A script without TLS instead of a handshake; no request is sent."""
    columns: dict[str, Any] = {"scheme": "https", "reads_first": False, "posts": 0}
    return make(script, **columns) if make else broken(script, "", **columns)


def untrusted(
    make_server_context: Callable[[], ssl.SSLContext],
    reason: str,
    make_ssl: Callable[[], ssl.SSLContext | aiohttp.Fingerprint | None] = client_context,
) -> Row:
    """An untrusted certificate: a terminal error, and no request is sent."""
    return Row(
        script=says(REPLY),
        error=TokenTransportError,
        problem=f" failed: the certificate is not trusted ({reason})",
        posts=0,
        scheme="https",
        make_server_context=make_server_context,
        make_ssl=make_ssl,
    )


CLOSED: Final = "the connection was closed before the response was complete"
NO_HTTP: Final = "the response is not HTTP"
NO_JSON: Final = "it is not JSON"
TOO_LONG: Final = "it is longer than 128 KiB"
NOT_VISIBLE: Final = "access_token is empty or not visible ASCII (RFC 6749 A.12)"
NOT_FINITE: Final = "expires_in is not a finite number of seconds"
# The event loop of Windows reports a reset as end of file.
RESET: Final = CLOSED if os.name == "nt" else os.strerror(errno.ECONNRESET)

# Everything that is sent contains "canary", and nothing shown may contain it.
TOKEN: Final = "canary-token"
GRANT: Final = b'{"access_token": "canary-token", "expires_in": 3600, "token_type": "Bearer"}'
UNTIL_CLOSED: Final = JSON_HEAD + b"X-Request-Id: canary\r\n\r\n"
CHUNKED: Final = JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
GRANT_AS_CHUNK: Final = b"%x\r\n%s\r\n" % (len(GRANT), GRANT)


def length(count: object) -> bytes:
    """Return the header and the end of the head."""
    return f"Content-Length: {count}\r\n\r\n".encode()


REPLY: Final = JSON_HEAD + length(len(GRANT)) + GRANT


def grant(member: bytes) -> bytes:
    """Return a response with another `expires_in`."""
    return UNTIL_CLOSED + GRANT.replace(b"3600", member)


def refusal(status: int, header: bytes = b"X-Request-Id: canary") -> bytes:
    """Return a head."""
    return b"HTTP/1.1 %d canary\r\n%s\r\n" % (status, header)


BOMB: Final = zlib.compress(bytes(16 << 20))
"""About 16 KiB that decompress to 16 MiB."""
NESTED: Final = b'{"canary":' * 10_000
LIMITS_HEADERS: Final = "max_headers" in inspect.signature(aiohttp.ClientSession).parameters
"""Whether this version of aiohttp limits the number of headers."""


def many_headers(script: Script) -> Row:
    return broken(script, NO_HTTP) if LIMITS_HEADERS else endless(script)


async def request(row: Row, port: int) -> AccessToken | TokenError:
    """Return the outcome of the request, which must end in time."""
    url = f"{row.scheme}://127.0.0.1:{port}/connect/token?tenant=7"
    credentials = ClientCredentials(client_id="app", client_secret=SECRET, token_url=url)
    make_ssl = row.make_ssl if row.scheme == "https" else lambda: None
    endpoint = TokenEndpoint(credentials, policy=row.bound.policy, ssl=make_ssl())
    try:
        async with asyncio.timeout(row.bound.seconds):
            return await endpoint.request_token()
    except TokenError as error:
        return error


def check(row: Row, outcome: AccessToken | TokenError) -> None:
    """Check that the outcome matches the row and shows no secret."""
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
