"""Fuzzed responses raise only a `TokenError`, which shows no secret."""

from __future__ import annotations

import asyncio
import json
import re
from math import inf
from string import ascii_letters, digits
from typing import Final

from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from simplestore_async import AccessToken, ClientCredentials, RetryPolicy, TokenEndpoint
from simplestore_async._core.challenge import is_token_rejected
from simplestore_async._core.redaction import RedactedStr
from simplestore_async._core.token import LONGEST_LIFETIME_SECONDS, is_visible_ascii
from simplestore_async._core.wire import Exchange
from simplestore_async.errors import TokenError
from tests.support.fuzzing import CREDENTIALS, FUZZ, SECRET, SLOWER, bodies, texts
from tests.support.raw_server import RawServer
from tests.support.tracebacks import everything_shown
from tests.support.wire_faults import GRANT, says

header_texts: Final = texts(st.characters(max_codepoint=0xFF, exclude_characters="\r\n\0"))
dates: Final = st.sampled_from(
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 99999 08:49:37 GMT", "Fri, 31 Dec 9999 23:59:59 -2359", "0"]
)
response_headers: Final = st.dictionaries(
    st.sampled_from(["Content-Encoding", "Content-Type", "Retry-After", "Date", "WWW-Authenticate"]),
    header_texts | dates | st.sampled_from(["gzip", "deflate", "identity", "9" * 5000]) | st.integers().map(str),
)


@FUZZ
@given(st.integers(100, 999) | st.just(200), response_headers, bodies, st.floats(0, 1e11))
@example(300, {"Retry-After": "0\x1f"}, b"", 0.0)
def test_response(status: int, headers: dict[str, str], body: bytes, now: float) -> None:
    """A complete response is a token that can be sent, or a `TokenError`."""
    exchange = Exchange(CREDENTIALS, RedactedStr(SECRET))

    outcome = exchange.parse_response(status, CIMultiDict(headers), body, issued_at=now, now=now)

    if isinstance(outcome, AccessToken):
        assert 200 <= status < 300
        assert is_visible_ascii(outcome.value)
        assert 0 < outcome.expires_at - outcome.issued_at <= LONGEST_LIFETIME_SECONDS + 0.001
    else:
        assert isinstance(outcome, TokenError)
        assert SECRET not in everything_shown(outcome)
        assert 0 <= (getattr(outcome, "retry_after", None) or 0) < inf


@FUZZ
@given(texts(ascii_letters + digits, min_size=4).filter(lambda text: text not in {"error", "title"}), bodies)
def test_echoed_secret(secret: str, body: bytes) -> None:
    """The error of a response that quotes the secret does not contain it, whatever the secret."""
    secret += "Canary"
    exchange = Exchange(CREDENTIALS, RedactedStr(secret))
    quoting = json.dumps({"error": "server_error", "error_description": f"{secret}{body!r}{secret}"}).encode()

    assert secret not in str(exchange.parse_response(400, CIMultiDict(), quoting, issued_at=0.0, now=0.0))


lines: Final = st.one_of(
    st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.0 503 x", b"HTTP/1.1 100 Continue", b"4", b"0", b"", b"", GRANT]),
    st.sampled_from([b"Transfer-Encoding: chunked", b"Content-Length: 76", b"Content-Type: application/json"]),
    st.sampled_from([b"Content-Encoding: gzip", b"Connection: keep-alive"]),
    st.binary(max_size=20),
)
raw_responses: Final = st.one_of(
    st.lists(lines, max_size=12).map(b"\r\n".join),
    st.lists(lines, max_size=12).map(lambda rest: b"\r\n".join([b"HTTP/1.1 200 OK", *rest])),
    bodies.map(lambda body: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)),
    st.binary(),
)


@SLOWER
@given(st.lists(raw_responses, min_size=1, max_size=3))
def test_raw_response(parts: list[bytes]) -> None:
    """For any bytes, a token request ends in time with a token or a `TokenError`, and closes its connection."""

    async def request() -> None:
        async with RawServer(says(*parts)) as server:
            credentials = ClientCredentials(client_id="app", client_secret=SECRET, token_url=server.token_url)
            endpoint = TokenEndpoint(credentials, policy=RetryPolicy(attempts=1, attempt_seconds=0.5))
            try:
                outcome: AccessToken | TokenError = await endpoint.request_token()
            except TokenError as error:
                outcome = error
            await server.clients_left()
        if isinstance(outcome, AccessToken):
            assert is_visible_ascii(outcome.value)
        else:
            assert not re.search("canary-(secret|token)", everything_shown(outcome))

    asyncio.run(request())


challenges: Final = st.one_of(
    header_texts,
    st.lists(st.sampled_from(["Bearer", "Basic", *' ,="\\\t', "error", "invalid_token", 'error="']), max_size=200).map(
        "".join
    ),
    st.sampled_from(["Bearer " + "error=" * 5000, 'Bearer realm="' + "\\" * 20_000, "Bearer" + " " * 20_000 + "x"]),
)


@FUZZ
@given(st.integers(100, 599), st.lists(challenges, max_size=3))
def test_challenge(status: int, values: list[str]) -> None:
    """Any WWW-Authenticate of an API can be read, and only a 4xx rejects the token."""
    assert is_token_rejected(status, values) <= (400 <= status < 500)
