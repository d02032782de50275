"""`TokenEndpoint` against real servers on loopback."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import errno
import gzip
import json
import logging
import os
import re
import ssl
import threading
import tracemalloc
import zlib
from hashlib import sha256
from importlib.metadata import version
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlencode

import aiohttp
import attrs
import pytest
from aiohttp import web
from yarl import URL

from simplestore_async import AccessToken, ClientCredentials, RenewalPolicy, SecretFile, TokenEndpoint
from simplestore_async._core.clock import SYSTEM_CLOCK
from simplestore_async.errors import (
    ConfigurationError,
    InvalidClientError,
    TokenEndpointError,
    TokenError,
    TokenResponseError,
    TokenTimeoutError,
    TokenTransportError,
)
from tests.support.clocks import FakeClock
from tests.support.production import CREDENTIALS, run
from tests.support.servers import SECRET, TokenServer
from tests.support.virtual_wire import Reply, VirtualEndpoint
from tests.support.wire_faults import (
    JSON_HEAD,
    LoopbackResolver,
    RawServer,
    authority,
    client_context,
    everything_shown,
    hangs_after,
    repeats,
    resets_after,
    says,
    server_context,
    shows_secret,
    tunnels_to,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.support.virtual_loop import VirtualLoop
    from tests.support.wire_faults import Script

GRANT = b'{"access_token": "canary-token", "expires_in": 3600, "token_type": "Bearer"}'
CLOSED = "the connection was closed before the answer was complete"
NO_HTTP = "the answer is not HTTP"
RESET = os.strerror(errno.ECONNRESET)
"""`Connection reset by peer`, in the system's words."""
UNTRUSTED_TAIL = ". For a private CA pass ssl=ssl.create_default_context(cafile=…)"


@pytest.fixture
def impatient(quick: RenewalPolicy) -> RenewalPolicy:
    """One attempt, for servers that never finish: it costs its whole time."""
    return attrs.evolve(quick, attempts=1, attempt_seconds=0.2)


async def failure(endpoint: TokenEndpoint) -> TokenError:
    """Return the error of a request, which must come soon and bring no other error along."""
    with pytest.raises(TokenError) as caught:
        async with asyncio.timeout(5):
            await endpoint.request_token()
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)
    return caught.value


def raw_endpoint(server: RawServer, **options: Any) -> TokenEndpoint:
    return TokenEndpoint(raw_credentials(server), **options)


def raw_credentials(server: RawServer, **changes: Any) -> ClientCredentials:
    return ClientCredentials(**{"client_id": "app", "client_secret": SECRET, "token_url": server.token_url} | changes)


def arrivals(server: TokenServer) -> list[float]:
    """Return a list that gets the loop's time of each request."""
    times: list[float] = []
    handler = server.handler

    async def note(request: web.Request) -> web.StreamResponse:
        times.append(asyncio.get_running_loop().time())
        return await handler(request)

    server.handler = note
    return times


class Question:
    """Whether there may be a further attempt: yes, each time it is asked."""

    def __init__(self) -> None:
        self.times_asked = 0

    def __call__(self) -> bool:
        self.times_asked += 1
        return True


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


def posting_times(policy: RenewalPolicy, *replies: Reply) -> list[float]:
    """Return the seconds, on virtual time, from the call of a request that fails to each of its POSTs."""
    unread = list(replies)
    times: list[float] = []

    async def simulate(loop: VirtualLoop) -> None:
        started_at = loop.time()

        async def answer() -> Reply:
            times.append(loop.time() - started_at)
            return unread.pop(0)

        with pytest.raises(TokenEndpointError):
            await VirtualEndpoint(CREDENTIALS, policy=policy, answer=answer).request_token()

    run(simulate, seed=0)
    return times


class TestExchange:
    # case 21
    async def test_documented_request(self) -> None:
        """The request is the documented one, byte for byte, and holds nothing else."""
        async with RawServer(says(JSON_HEAD + b"Content-Length: %d\r\n\r\n" % len(GRANT), GRANT)) as server:
            token = await raw_endpoint(server).request_token()
            await server.clients_left()

            fields = {"grant_type": "client_credentials", "client_id": "app", "client_secret": SECRET}
            body = urlencode(fields)
            headers = {
                f"Host: 127.0.0.1:{server.port}",
                "Accept: application/json",
                "Accept-Encoding: identity",
                "Connection: close",
                f"Content-Length: {len(body)}",
                "Content-Type: application/x-www-form-urlencoded",
                f"User-Agent: simplestore-async/{version('simplestore-async')}",
            }
            (request,) = server.requests
            head, _, sent_body = request.decode().partition("\r\n\r\n")
            start, *sent_headers = head.split("\r\n")

        assert "POST /connect/token HTTP/1.1" == start
        assert sorted(headers) == sorted(sent_headers)
        assert body == sent_body
        assert "canary-token" == token.value

    # case 32
    async def test_secret_in_form(self, token_server: TokenServer) -> None:
        """A secret of reserved characters arrives intact in the form, and in nothing but the form."""
        await token_server.endpoint().request_token()

        (request,) = token_server.requests
        fields = {"grant_type": "client_credentials", "client_id": "app", "client_secret": SECRET}
        assert list(fields.items()) == list(request.form.items())
        assert ("/connect/token", "") == (request.path, request.query)
        assert not shows_secret(str(request.headers))

    # case 32
    async def test_secret_in_header(self, token_server: TokenServer) -> None:
        """Under client_secret_basic id and secret arrive form-encoded inside base64, and nowhere else."""
        client_id = 'app:+&=%"é'
        credentials = token_server.credentials(client_id=client_id, auth_method="client_secret_basic")
        await token_server.endpoint(credentials=credentials).request_token()

        (request,) = token_server.requests
        scheme, _, encoded = request.headers["Authorization"].partition(" ")
        pair = base64.b64decode(encoded).decode()
        assert "Basic" == scheme
        assert [client_id, SECRET] == [unquote(part) for part in pair.split(":")]
        assert "+" not in pair
        assert {"grant_type": "client_credentials"} == request.form
        assert "" == request.query

    async def test_further_fields(self, token_server: TokenServer) -> None:
        """Scope and extra parameters follow the documented fields; the path and query of the token URL are kept."""
        credentials = token_server.credentials(
            token_url=f"{token_server.url}/a%2Fb?tenant=7", scope="read write", extra_parameters={"audience": "é"}
        )
        await token_server.endpoint(credentials=credentials).request_token()

        (request,) = token_server.requests
        assert ["grant_type", "client_id", "client_secret", "scope", "audience"] == list(request.form)
        assert ("read write", "é") == (request.form["scope"], request.form["audience"])
        assert ("/a/b", "tenant=7") == (request.path, request.query)

    async def test_no_cookies(self, token_server: TokenServer) -> None:
        """A cookie that the endpoint sets is never sent back, over a borrowed connector neither."""
        reply = web.json_response({"error": "busy"}, status=503, headers={"Set-Cookie": "session=1; Path=/"})
        token_server.replies = [reply]
        async with aiohttp.TCPConnector() as connector:
            endpoint = token_server.endpoint(connector=connector, policy=RenewalPolicy(retry_seconds=0.01))
            await endpoint.request_token()
            await endpoint.request_token()

        assert [None] * 3 == [request.headers.get("Cookie") for request in token_server.requests]

    async def test_each_attempt_its_connection(self, quick: RenewalPolicy) -> None:
        """No attempt reuses a connection that the endpoint may be about to close."""
        reply = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"
        async with RawServer(hangs_after(reply)) as server:
            await failure(raw_endpoint(server, policy=quick))
            await server.clients_left()

            assert (3, 3) == (server.connections, len(server.requests))


class TestArguments:
    def test_defaults(self) -> None:
        """The default policy and the machine's clock are used unless others are given."""
        credentials = ClientCredentials(client_id="app", client_secret=SECRET)
        endpoint = TokenEndpoint(credentials)

        assert (credentials, RenewalPolicy()) == (endpoint.credentials, endpoint.policy)
        assert SYSTEM_CLOCK is endpoint.clock

    def test_not_credentials(self) -> None:
        """Anything but ClientCredentials is a ConfigurationError that names the type, never the value."""
        wrong: Any = SECRET
        with pytest.raises(ConfigurationError) as caught:
            TokenEndpoint(wrong)

        assert "credentials must be ClientCredentials, not str" == str(caught.value)

    # case 62
    @pytest.mark.parametrize("wrong", [False, True, "ca.pem"])
    def test_checking_cannot_be_turned_off(self, wrong: Any) -> None:
        """`ssl=False` and whatever else is no context is a ConfigurationError that says what to pass."""
        with pytest.raises(ConfigurationError, match=r"^ssl must be .*create_default_context.* always checked$"):
            TokenEndpoint(ClientCredentials(client_id="app", client_secret=SECRET), ssl=wrong)

    # case 62
    @pytest.mark.parametrize(
        "wrong",
        ["", "proxy.example:3128", "socks5://u:hunter2@proxy.example", "http://", "http://u:hunter2@[::1", 5, URL()],
    )
    def test_proxy_is_no_url(self, wrong: Any) -> None:
        """A proxy that is not the URL of an HTTP proxy is a ConfigurationError without its text."""
        with pytest.raises(ConfigurationError) as caught:
            TokenEndpoint(ClientCredentials(client_id="app", client_secret=SECRET), proxy=wrong)

        expected = "proxy must be the URL of an HTTP proxy, such as http://proxy.example.com:3128"
        assert expected == str(caught.value)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


class TestAttempts:
    # case 29
    async def test_passing_failure(self, token_server: TokenServer, quick: RenewalPolicy) -> None:
        """500, 500, 200: three POSTs and a token."""
        token_server.replies = [500, 500]
        token = await token_server.endpoint(policy=quick).request_token()

        assert "canary-token-1" == token.value
        assert 3 == len(token_server.requests)

    # case 29
    @pytest.mark.parametrize("attempts", [1, 2, 3, 4])
    async def test_attempts_end(self, token_server: TokenServer, quick: RenewalPolicy, attempts: int) -> None:
        """After the policy's number of attempts the last one's error is raised."""
        token_server.replies = [*[503] * (attempts - 1), 502]
        error = await failure(token_server.endpoint(policy=attrs.evolve(quick, attempts=attempts)))

        assert isinstance(error, TokenEndpointError)
        assert (502, True) == (error.status, error.retryable)
        assert attempts == len(token_server.requests)

    @pytest.mark.parametrize("status", [408, 429, 500, 501, 502, 503, 504, 599])
    async def test_retried_status(self, token_server: TokenServer, quick: RenewalPolicy, status: int) -> None:
        """408, 429 and every 5xx are tried again."""
        token_server.replies = [status]
        token = await token_server.endpoint(policy=quick).request_token()

        assert "canary-token-1" == token.value
        assert 2 == len(token_server.requests)

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 407, 409, 410, 421, 422, 425, 428, 430, 451, 499])
    async def test_refusal(self, token_server: TokenServer, quick: RenewalPolicy, status: int) -> None:
        """Any other 4xx is final: one POST, and Retry-After changes nothing."""
        token_server.replies = [web.Response(status=status, headers={"Retry-After": "0"})]
        error = await failure(token_server.endpoint(policy=quick))

        assert TokenEndpointError is type(error)
        assert (status, False, 0) == (error.status, error.retryable, error.retry_after)
        assert 1 == len(token_server.requests)

    async def test_pauses(self, token_server: TokenServer) -> None:
        """The pause between attempts is at least half of retry_seconds, and doubles."""
        times = arrivals(token_server)
        token_server.replies = [500, 500]
        await token_server.endpoint(policy=RenewalPolicy(retry_seconds=0.1)).request_token()

        first, second = gaps(times)
        assert first >= 0.05
        assert second >= 0.1

    # case 29
    @pytest.mark.parametrize("status", [429, 503])
    async def test_retry_after_seconds(self, token_server: TokenServer, quick: RenewalPolicy, status: int) -> None:
        """Retry-After in seconds is waited for."""
        times = arrivals(token_server)
        token_server.replies = [web.Response(status=status, headers={"Retry-After": "0.2"})]
        await token_server.endpoint(policy=quick).request_token()

        (gap,) = gaps(times)
        assert gap >= 0.2

    @pytest.mark.parametrize("retry_after", ["0", "0.01"])
    async def test_retry_after_is_a_minimum(self, token_server: TokenServer, retry_after: str) -> None:
        """A Retry-After below the policy's own pause does not shorten it."""
        times = arrivals(token_server)
        token_server.replies = [web.Response(status=429, headers={"Retry-After": retry_after})]
        await token_server.endpoint(policy=RenewalPolicy(retry_seconds=0.2)).request_token()

        (gap,) = gaps(times)
        assert gap >= 0.1

    # case 29
    async def test_retry_after_date(self, quick: RenewalPolicy) -> None:
        """Retry-After as an HTTP-date is waited for; without a Date it is read by our own clock."""
        times: list[float] = []
        until = b"Tue, 14 Nov 2023 22:13:20 GMT"
        busy = says(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nRetry-After: %s\r\n\r\n" % until)

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            times.append(asyncio.get_running_loop().time())
            await (busy if len(times) == 1 else says(JSON_HEAD + b"\r\n" + GRANT))(reader, writer)

        async with RawServer(script) as server:
            clock = FakeClock(wall=1_700_000_000 - 0.2)
            await raw_endpoint(server, policy=quick, clock=clock).request_token()

        (gap,) = gaps(times)
        assert gap >= 0.2 - 1e-6  # what a float of this size leaves of 0.2

    # case 29
    async def test_retry_after_date_by_the_servers_clock(self, token_server: TokenServer) -> None:
        """A server whose clock is a year off is waited for as long as it means."""
        headers = {"Date": "Tue, 14 Nov 2023 22:13:20 GMT", "Retry-After": "Tue, 14 Nov 2023 22:13:50 GMT"}
        token_server.replies = [web.Response(status=503, headers=headers)]
        error = await failure(token_server.endpoint(policy=RenewalPolicy(budget_seconds=20)))

        assert isinstance(error, TokenEndpointError)
        assert 30 == error.retry_after
        assert 1 == len(token_server.requests)

    # case 29
    @pytest.mark.parametrize(("retry_after", "budget_seconds"), [(3600, 30), (31, 30), (3, 2.5), (1, 1)])
    async def test_retry_after_beyond_budget(
        self, token_server: TokenServer, retry_after: float, budget_seconds: float
    ) -> None:
        """A Retry-After that exceeds what is left of the budget fails at once and is readable."""
        token_server.replies = [web.Response(status=429, headers={"Retry-After": str(retry_after)})]
        started_at = asyncio.get_running_loop().time()
        error = await failure(token_server.endpoint(policy=RenewalPolicy(budget_seconds=budget_seconds)))

        assert isinstance(error, TokenEndpointError)
        assert (429, retry_after) == (error.status, error.retry_after)
        assert 1 == len(token_server.requests)
        assert asyncio.get_running_loop().time() < started_at + budget_seconds

    # case 29
    @pytest.mark.parametrize(("retry_after", "posted_at"), [("29.5", [0, 29.5]), ("30", [0])])
    def test_retry_after_to_the_end_of_the_budget(self, retry_after: str, posted_at: list[float]) -> None:
        """A Retry-After that ends with the budget fails at once: nothing is left for another attempt."""
        busy = Reply(429, headers={"Retry-After": retry_after})

        assert posted_at == posting_times(RenewalPolicy(budget_seconds=30), busy, busy)

    def test_pauses_end(self) -> None:
        """The pause between attempts is at most retry_seconds, doubled each time, if nobody asks for a longer one."""
        first, second = gaps(posting_times(RenewalPolicy(retry_seconds=0.25), *[Reply(503)] * 3))

        assert 0.125 <= first <= 0.25
        assert 0.25 <= second <= 0.5

    async def test_pause_beyond_deadline(self, token_server: TokenServer) -> None:
        """A pause that would outlast the deadline is not begun."""
        token_server.replies = [503]
        endpoint = token_server.endpoint(policy=RenewalPolicy(retry_seconds=20))
        deadline = asyncio.get_running_loop().time() + 9
        with pytest.raises(TokenEndpointError, match="answered 503"):
            async with asyncio.timeout(5):
                await endpoint.fetch(deadline=deadline, may_retry=lambda: True)

        assert 1 == len(token_server.requests)

    async def test_deadline_has_passed(self, token_server: TokenServer) -> None:
        """Past the deadline nothing is sent."""
        endpoint = token_server.endpoint()
        deadline = asyncio.get_running_loop().time() - 1
        with pytest.raises(TokenTimeoutError, match=r"no complete answer within 0 s$"):
            await endpoint.fetch(deadline=deadline, may_retry=lambda: True)

        assert [] == token_server.requests

    @pytest.mark.parametrize("answers", [[False], [True, False], [True, True, True]])
    async def test_may_retry(self, token_server: TokenServer, quick: RenewalPolicy, answers: list[bool]) -> None:
        """Before each further attempt the caller is asked whether it may be made."""
        token_server.replies = [500] * 3
        attempts = len(answers)
        endpoint = token_server.endpoint(policy=quick)
        deadline = asyncio.get_running_loop().time() + 5
        with pytest.raises(TokenEndpointError):
            await endpoint.fetch(deadline=deadline, may_retry=lambda: answers.pop(0))

        assert attempts == len(token_server.requests)

    async def test_success_asks_nothing(self, token_server: TokenServer) -> None:
        """A first attempt that succeeds, or is refused for good, does not ask whether there may be another."""
        question = Question()
        token_server.replies = [{"access_token": "a"}, 400]
        deadline = asyncio.get_running_loop().time() + 5
        await token_server.endpoint().fetch(deadline=deadline, may_retry=question)
        with pytest.raises(TokenEndpointError):
            await token_server.endpoint().fetch(deadline=deadline, may_retry=question)

        assert 0 == question.times_asked


BROKEN: list[Any] = [
    pytest.param(says(), CLOSED, id="closed at once"),
    pytest.param(says(b"HTTP/1.1 200 OK\r\nContent-"), CLOSED, id="closed in head"),
    pytest.param(says(JSON_HEAD + b"Content-Length: 77\r\n\r\n", GRANT[:-1]), CLOSED, id="long Content-Length"),
    pytest.param(says(JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"), CLOSED, id="closed in chunk"),
    pytest.param(
        says(JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(GRANT), GRANT)),
        CLOSED,
        id="closed before the last chunk",
    ),
    pytest.param(says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 9\r\n\r\n", b"{"), CLOSED, id="closed in refusal"),
    pytest.param(resets_after(), RESET, id="reset before head"),
    pytest.param(resets_after(b"HTTP/1.1 200 OK\r\nContent-"), RESET, id="reset in head"),
    pytest.param(resets_after(JSON_HEAD + b"Content-Length: 99\r\n\r\n{"), CLOSED, id="reset in body"),
    pytest.param(says(b"HTTP/1.1 hello\r\n\r\n"), NO_HTTP, id="status line"),
    pytest.param(says(b"HTTP/7.7 200 OK\r\n\r\n"), NO_HTTP, id="version"),
    pytest.param(says(b"<html>hello</html>\r\n"), NO_HTTP, id="HTTP 0.9"),
    pytest.param(says(GRANT), NO_HTTP, id="no head"),
    pytest.param(says(JSON_HEAD + b"X: " + b"a" * 100_000 + b"\r\n\r\n"), NO_HTTP, id="long header"),
    pytest.param(repeats(JSON_HEAD + b"X: ", b"a" * 65536), NO_HTTP, id="endless header"),
    pytest.param(says(JSON_HEAD + b"Content-Length: ten\r\n\r\n", GRANT), NO_HTTP, id="Content-Length is no number"),
    pytest.param(says(JSON_HEAD + b"Content-Length: -5\r\n\r\n", GRANT), NO_HTTP, id="negative Content-Length"),
    pytest.param(
        says(JSON_HEAD + b"Content-Length: 76\r\nContent-Length: 77\r\n\r\n", GRANT), NO_HTTP, id="two Content-Lengths"
    ),
    pytest.param(says(JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nab"), NO_HTTP, id="bad chunk"),
]

ENDLESS: list[Any] = [
    pytest.param(hangs_after(), id="silence"),
    pytest.param(hangs_after(b"HTTP/1.1 200 OK\r\n"), id="half a head"),
    pytest.param(hangs_after(JSON_HEAD + b"Content-Length: 99\r\n\r\n{"), id="half a body"),
    pytest.param(repeats(b"HTTP/1.1 200 OK\r\n", b"X", pause_seconds=0.01), id="dripping head"),
    pytest.param(repeats(JSON_HEAD + b"\r\n", b" ", pause_seconds=0.01), id="dripping body"),
    pytest.param(repeats(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), id="endless interim replies"),
]


# About 16 KiB that open to 16 MiB.
BOMB = zlib.compress(bytes(16 << 20))

UNUSABLE: list[Any] = [
    pytest.param(says(JSON_HEAD + b"Content-Length: 0\r\n\r\n"), "it is not JSON", id="empty"),
    pytest.param(
        says(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", b"<html>hello</html>"), "it is not JSON", id="HTML"
    ),
    pytest.param(
        says(JSON_HEAD + b"Content-Length: 40\r\n\r\n", GRANT[:40]), "it is not JSON", id="cut JSON, complete reply"
    ),
    pytest.param(says(JSON_HEAD + b"Content-Length: 40\r\n\r\n", GRANT), "it is not JSON", id="short Content-Length"),
    pytest.param(repeats(JSON_HEAD + b"\r\n", b" " * 65536), "it is longer than 1 MiB", id="endless body"),
    pytest.param(
        repeats(JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"4000\r\n" + b" " * 0x4000 + b"\r\n"),
        "it is longer than 1 MiB",
        id="endless chunks",
    ),
    pytest.param(says(JSON_HEAD + b"\r\n", GRANT + b" " * (2 << 20)), "it is longer than 1 MiB", id="2 MiB"),
    pytest.param(says(JSON_HEAD + b"\r\n", GRANT.ljust((1 << 20) + 1)), "it is longer than 1 MiB", id="1 MiB and 1"),
    pytest.param(
        says(JSON_HEAD + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(GRANT.ljust((1 << 20) + 1))),
        "it is longer than 1 MiB",
        id="gzip that opens to 1 MiB and 1",
    ),
    pytest.param(
        says(JSON_HEAD + b"Content-Encoding: deflate\r\n\r\n", BOMB),
        "it is longer than 1 MiB",
        id="deflate bomb",
    ),
    pytest.param(
        says(JSON_HEAD + b"Content-Encoding: gzip\r\n\r\n", GRANT), "its Content-Encoding cannot be read", id="no gzip"
    ),
    pytest.param(
        says(JSON_HEAD + b"Content-Encoding: br\r\n\r\n", GRANT), "its Content-Encoding cannot be read", id="brotli"
    ),
]


class TestFaults:
    # case 28, case 30
    @pytest.mark.parametrize(("script", "problem"), BROKEN)
    async def test_no_complete_reply(self, quick: RenewalPolicy, script: Script, problem: str) -> None:
        """What is no complete HTTP reply is tried again, and then a TokenTransportError in our own words."""
        async with RawServer(script) as server:
            error = await failure(raw_endpoint(server, policy=quick))
            await server.clients_left()

            assert TokenTransportError is type(error)
            assert error.retryable
            assert str(error).startswith(f"No token: POST {server.token_url} failed: ")
            assert str(error).endswith(problem)
            assert not shows_secret(everything_shown(error))
            assert [3, 3] == [server.connections, len(server.requests)]

    # case 30
    @pytest.mark.parametrize("script", ENDLESS)
    async def test_no_end(self, impatient: RenewalPolicy, script: Script) -> None:
        """A reply that does not end is given up after attempt_seconds: a TokenTimeoutError."""
        async with RawServer(script) as server:
            error = await failure(raw_endpoint(server, policy=impatient))
            await server.clients_left()

            assert TokenTimeoutError is type(error)
            assert isinstance(error, TimeoutError)
            assert error.retryable
            assert f"No token: POST {server.token_url} failed: no complete answer within 0.2 s" == str(error)
            assert not shows_secret(everything_shown(error))
            assert [1, 1] == [server.connections, len(server.requests)]

    # case 30
    @pytest.mark.parametrize(
        "script",
        [
            pytest.param(repeats(b"HTTP/1.1 200 OK\r\n", b"X-Filler: aaaaaaaa\r\n" * 1000), id="endless headers"),
            pytest.param(
                says(JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", b"zz\r\nab"), id="bad second chunk"
            ),
        ],
    )
    async def test_no_end_or_no_http(self, impatient: RenewalPolicy, script: Script) -> None:
        """Where aiohttp's versions differ on whether it is HTTP, it is a TokenTransportError."""
        async with RawServer(script) as server:
            error = await failure(raw_endpoint(server, policy=impatient))
            await server.clients_left()

            assert isinstance(error, TokenTransportError)
            assert error.retryable
            assert not shows_secret(everything_shown(error))
            assert [1, 1] == [server.connections, len(server.requests)]

    # case 30
    async def test_silence_is_tried_again(self, impatient: RenewalPolicy) -> None:
        """An attempt that timed out is followed by others."""
        async with RawServer(hangs_after()) as server:
            error = await failure(raw_endpoint(server, policy=attrs.evolve(impatient, attempts=2)))

            assert TokenTimeoutError is type(error)
            assert 2 == len(server.requests)

    # case 30
    async def test_budget(self) -> None:
        """The budget ends an attempt that would still have time, and no other follows."""
        policy = RenewalPolicy(retry_seconds=0.01, attempt_seconds=60, budget_seconds=0.2)
        async with RawServer(hangs_after(JSON_HEAD + b"Content-Length: 99\r\n\r\n{")) as server:
            error = await failure(raw_endpoint(server, policy=policy))
            await server.clients_left()

            assert TokenTimeoutError is type(error)
            assert 1 == len(server.requests)

    async def test_budget_is_what_ended_it(self) -> None:
        """The message does not claim that the endpoint had attempt_seconds when the budget gave it less."""
        policy = RenewalPolicy(attempt_seconds=60, budget_seconds=0.1)
        async with RawServer(hangs_after()) as server:
            error = await failure(raw_endpoint(server, policy=policy))

        assert re.search(r"no complete answer within 0\.(1|0\d+) s$", str(error))

    # case 28, case 30
    @pytest.mark.parametrize(("script", "problem"), UNUSABLE)
    async def test_unusable_reply(self, quick: RenewalPolicy, script: Script, problem: str) -> None:
        """A complete 200 that is no token is tried again, and then a TokenResponseError; memory stays bounded."""
        async with RawServer(script) as server:
            tracemalloc.start()
            try:
                error = await failure(raw_endpoint(server, policy=quick))
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            await server.clients_left()

            assert TokenResponseError is type(error)
            assert error.retryable
            assert (
                f"No token: the token endpoint answered 200, but {problem}. "
                "Is SIMPLESTORE_TOKEN_URL the token endpoint?" == str(error)
            )
            assert not shows_secret(everything_shown(error))
            assert [3, 3] == [server.connections, len(server.requests)]
            assert peak < 8 << 20

    # case 27
    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(repeats(b"HTTP/1.1 400 Bad Request\r\n\r\n", b" " * 65536), id="endless"),
            pytest.param(says(b"HTTP/1.1 400 Bad Request\r\n\r\n", b"<" * (2 << 20)), id="2 MiB"),
            pytest.param(says(b"HTTP/1.1 400 Bad Request\r\nContent-Encoding: deflate\r\n\r\n", BOMB), id="bomb"),
        ],
    )
    async def test_large_refusal(self, quick: RenewalPolicy, body: Script) -> None:
        """A refusal of any size is a TokenEndpointError with its status; the connection is not kept."""
        async with RawServer(body) as server:
            error = await failure(raw_endpoint(server, policy=quick))
            await server.clients_left()

            assert TokenEndpointError is type(error)
            assert 400 == error.status
            assert "No token: the token endpoint answered 400" == str(error)
            assert 1 == len(server.requests)

    @pytest.mark.parametrize(
        "script",
        [
            pytest.param(says(JSON_HEAD + b"\r\n", GRANT[:30], GRANT[30:]), id="until closed"),
            pytest.param(
                says(
                    JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
                    b"%x\r\n%s\r\n" % (len(GRANT), GRANT),
                    b"0\r\n\r\n",
                ),
                id="chunked",
            ),
            pytest.param(says(b"HTTP/1.0 200 OK\r\n\r\n" + GRANT), id="HTTP 1.0"),
            pytest.param(says(b"HTTP/1.1 103 Early Hints\r\n\r\n", JSON_HEAD + b"\r\n" + GRANT), id="early hints"),
            pytest.param(says(JSON_HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(GRANT)), id="gzip"),
            pytest.param(says(JSON_HEAD + b"Content-Encoding: deflate\r\n\r\n" + zlib.compress(GRANT)), id="deflate"),
            pytest.param(says(JSON_HEAD + b"\r\n", GRANT.ljust(1 << 20)), id="1 MiB"),
            pytest.param(
                says(JSON_HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(GRANT.ljust(1 << 20))),
                id="gzip that opens to 1 MiB",
            ),
        ],
    )
    async def test_odd_reply(self, script: Script) -> None:
        """A valid reply is taken however it was transferred, up to 1 MiB."""
        async with RawServer(script) as server:
            token = await raw_endpoint(server, policy=RenewalPolicy(attempts=1)).request_token()
            await server.clients_left()

            assert "canary-token" == token.value
            assert 1 == len(server.requests)

    # case 30
    async def test_refused(self, token_server: TokenServer, quick: RenewalPolicy) -> None:
        """A refused connection is a TokenTransportError, after all attempts."""
        question = Question()
        async with RawServer(says()) as server:
            endpoint = raw_endpoint(server, policy=quick)
        deadline = asyncio.get_running_loop().time() + 5
        with pytest.raises(TokenTransportError, match=r"failed: cannot connect to 127\.0\.0\.1:\d+ \(.") as caught:
            await endpoint.fetch(deadline=deadline, may_retry=question)

        assert TokenTransportError is type(caught.value)
        assert caught.value.retryable
        assert not shows_secret(everything_shown(caught.value))
        assert 3 == question.times_asked

    async def test_refused_says_so(self, quick: RenewalPolicy) -> None:
        """The error says what the system says of a refused connection, not only that there was no other outcome."""
        async with RawServer(says()) as server:
            endpoint = raw_endpoint(server, policy=quick)

        assert os.strerror(errno.ECONNREFUSED) in str(await failure(endpoint))

    # case 30
    async def test_unknown_host(self, quick: RenewalPolicy) -> None:
        """A host that DNS does not know is a TokenTransportError, after all attempts."""
        credentials = ClientCredentials(client_id="app", client_secret=SECRET, token_url="https://token.invalid/")
        resolver = LoopbackResolver(knows_hosts=False)
        async with aiohttp.TCPConnector(resolver=resolver) as connector:
            error = await failure(TokenEndpoint(credentials, policy=quick, connector=connector))

        assert TokenTransportError is type(error)
        assert error.retryable
        assert (
            "No token: POST https://token.invalid/ failed: "
            "cannot connect to token.invalid:443 (Name or service not known)" == str(error)
        )
        assert not shows_secret(everything_shown(error))
        assert ["token.invalid"] * 3 == resolver.hosts

    async def test_query_is_not_shown(self, quick: RenewalPolicy) -> None:
        """An error names the token URL without its query."""
        async with RawServer(says()) as server:
            credentials = raw_credentials(server, token_url=f"{server.token_url}?key=hunter2")
            error = await failure(TokenEndpoint(credentials, policy=quick))

            assert f"No token: POST {server.token_url} failed: {CLOSED}" == str(error)


def expired() -> ssl.SSLContext:
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    return server_context(authority().issue_cert("127.0.0.1", not_after=yesterday))


class TestTls:
    # case 62
    async def test_private_authority(self) -> None:
        """A token endpoint of a private authority is reached with its context."""
        async with TokenServer(ssl_context=server_context(authority().issue_cert("127.0.0.1"))) as server:
            token = await server.endpoint(ssl=client_context()).request_token()

        assert "canary-token-1" == token.value

    # case 62
    async def test_fingerprint(self) -> None:
        """A certificate is accepted by its fingerprint."""
        certificate = authority().issue_cert("127.0.0.1")
        digest = ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())
        async with TokenServer(ssl_context=server_context(certificate)) as server:
            token = await server.endpoint(ssl=aiohttp.Fingerprint(sha256(digest).digest())).request_token()

        assert "canary-token-1" == token.value

    # case 30
    @pytest.mark.parametrize(
        ("make_server_context", "make_ssl", "reason"),
        [
            pytest.param(
                lambda: server_context(authority().issue_cert("127.0.0.1")),
                lambda: None,
                "unable to get local issuer certificate",
                id="unknown authority",
            ),
            pytest.param(server_context, lambda: None, "self-signed certificate", id="self-signed"),
            pytest.param(expired, client_context, "certificate has expired", id="expired"),
            pytest.param(
                lambda: server_context(authority().issue_cert("token.example")),
                client_context,
                "IP address mismatch, certificate is not valid for '127.0.0.1'.",
                id="other host",
            ),
            pytest.param(
                lambda: server_context(authority().issue_cert("127.0.0.1")),
                lambda: aiohttp.Fingerprint(bytes(32)),
                "ServerFingerprintMismatch",
                id="fingerprint",
            ),
        ],
    )
    async def test_untrusted(
        self,
        quick: RenewalPolicy,
        make_server_context: Callable[[], ssl.SSLContext],
        make_ssl: Callable[[], ssl.SSLContext | aiohttp.Fingerprint | None],
        reason: str,
    ) -> None:
        """A certificate that is not trusted is final: one handshake, no request, and the error says what to pass."""
        handshakes: list[object] = []
        context = make_server_context()
        context.sni_callback = lambda *hello: handshakes.append(hello)
        async with TokenServer(ssl_context=context) as server:
            error = await failure(server.endpoint(ssl=make_ssl(), policy=quick))

            assert TokenTransportError is type(error)
            assert not error.retryable
            assert (
                f"No token: POST {server.token_url} failed: its certificate is not trusted ({reason}){UNTRUSTED_TAIL}"
                == str(error)
            )
            assert not shows_secret(everything_shown(error))
            assert 1 == len(handshakes)
            assert [] == server.requests

    async def test_borrowed_connector_does_not_turn_checking_off(self, quick: RenewalPolicy) -> None:
        """A connector made with `ssl=False` does not carry the secret to a server that nobody vouches for."""
        async with (
            TokenServer(ssl_context=server_context(authority().issue_cert("127.0.0.1"))) as server,
            aiohttp.TCPConnector(ssl=False) as connector,
        ):
            with pytest.raises(ConfigurationError, match=r"does not check certificates .*create_default_context"):
                await server.endpoint(connector=connector, policy=quick).request_token()

            assert [] == server.requests

    # case 30
    @pytest.mark.parametrize("script", [says(b"this is no TLS\r\n"), says(), resets_after()])
    async def test_failed_handshake(self, quick: RenewalPolicy, script: Script) -> None:
        """A handshake that fails, but not because of the certificate, is tried again."""
        async with RawServer(script, reads_first=False) as server:
            credentials = raw_credentials(server, token_url=f"https://127.0.0.1:{server.port}/connect/token")
            error = await failure(TokenEndpoint(credentials, policy=quick))
            await server.clients_left()

            assert TokenTransportError is type(error)
            assert error.retryable
            assert not shows_secret(everything_shown(error))
            assert 3 == server.connections

    # case 30
    async def test_endless_handshake(self, impatient: RenewalPolicy) -> None:
        """A handshake that is never answered is a TokenTimeoutError."""
        async with RawServer(hangs_after(), reads_first=False) as server:
            credentials = raw_credentials(server, token_url=f"https://127.0.0.1:{server.port}/connect/token")
            error = await failure(TokenEndpoint(credentials, policy=impatient))
            await server.clients_left()

            assert TokenTimeoutError is type(error)
            assert 1 == server.connections

    async def test_error_is_the_same_each_time(self, quick: RenewalPolicy) -> None:
        """The text of an error holds no address of an object in memory."""
        async with RawServer(says()) as server:
            credentials = raw_credentials(server, token_url=f"https://127.0.0.1:{server.port}/connect/token")
        error = await failure(TokenEndpoint(credentials, policy=quick, ssl=client_context()))

        assert " object at 0x" not in str(error)


class TestRedirect:
    # case 31
    @pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
    async def test_not_followed(self, token_server: TokenServer, quick: RenewalPolicy, status: int) -> None:
        """A redirect is a TokenEndpointError that says what to set; the other server sees nothing."""
        async with TokenServer() as other:
            token_server.replies = [web.Response(status=status, headers={"Location": other.token_url})]
            error = await failure(token_server.endpoint(policy=quick))

            assert TokenEndpointError is type(error)
            assert (status, False) == (error.status, error.retryable)
            assert (
                f"No token: the token endpoint answered {status} (a redirect, which would carry the secret "
                "elsewhere): set SIMPLESTORE_TOKEN_URL to the address itself" == str(error)
            )
            assert (1, 0) == (len(token_server.requests), len(other.requests))


class WatchedConnector(aiohttp.TCPConnector):
    """A connector that tells when it is asked for a connection."""

    def __init__(self, *, limit: int) -> None:
        super().__init__(limit=limit)
        self.asked = asyncio.Event()

    async def connect(self, *args: Any, **options: Any) -> Any:
        self.asked.set()
        return await super().connect(*args, **options)


class TestBorrowedConnector:
    # case 33
    @pytest.mark.parametrize("replies", [[], [400], [503] * 3])
    async def test_stays_open(self, token_server: TokenServer, quick: RenewalPolicy, replies: list[int]) -> None:
        """A borrowed connector of one connection serves all attempts and stays open for others, whatever came."""
        token_server.replies = list(replies)
        async with aiohttp.TCPConnector(limit=1) as connector:
            endpoint = token_server.endpoint(connector=connector, policy=quick)
            if replies:
                await failure(endpoint)
            await endpoint.request_token()

            assert not connector.closed
            async with aiohttp.ClientSession(connector=connector, connector_owner=False) as session:
                assert 200 == (await session.get(token_server.url)).status

    # case 33
    async def test_large_reply_frees_it(self) -> None:
        """An endless refusal does not keep the only connection of a borrowed connector."""
        async with (
            RawServer(repeats(b"HTTP/1.1 400 Bad Request\r\n\r\n", b" " * 65536)) as server,
            aiohttp.TCPConnector(limit=1) as connector,
        ):
            await failure(raw_endpoint(server, connector=connector))
            await failure(raw_endpoint(server, connector=connector))

            assert 2 == len(server.requests)

    # case 33
    async def test_busy(self, token_server: TokenServer) -> None:
        """While a caller's request holds the only connection the fetch waits its turn, and then works."""
        connector = WatchedConnector(limit=1)
        async with (
            connector,
            aiohttp.ClientSession(connector=connector, connector_owner=False) as session,
        ):
            token_server.gate.clear()
            busy = asyncio.create_task(session.get(token_server.url))
            await token_server.arrived.wait()
            connector.asked.clear()
            fetch = asyncio.create_task(token_server.endpoint(connector=connector).request_token())
            await connector.asked.wait()
            methods = [request.method for request in token_server.requests]
            token_server.gate.set()
            (await busy).release()

            assert "canary-token-2" == (await fetch).value
            assert ["GET"] == methods

    # case 33
    async def test_of_another_loop(self, token_server: TokenServer) -> None:
        """A connector of another event loop is a ConfigurationError, and nothing is sent."""

        async def make() -> aiohttp.TCPConnector:
            return aiohttp.TCPConnector()

        connector = await asyncio.to_thread(asyncio.run, make())
        with pytest.raises(ConfigurationError, match="belongs to another event loop"):
            await token_server.endpoint(connector=connector).request_token()

        assert [] == token_server.requests

    # case 33
    async def test_closed(self, token_server: TokenServer) -> None:
        """A closed connector is a ConfigurationError, and nothing is sent."""
        async with aiohttp.TCPConnector() as connector:
            pass
        with pytest.raises(ConfigurationError, match="is closed"):
            await token_server.endpoint(connector=connector).request_token()

        assert [] == token_server.requests


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "request_method"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.usefixtures("no_proxies")
class TestProxy:
    """The token endpoint is https://token.example; only a proxy, or `LoopbackResolver`, knows where that is."""

    USERINFO = "us%40er:hunter%3A2"
    AUTHORIZATION = b"Proxy-Authorization: Basic " + base64.b64encode(b"us@er:hunter:2")

    @pytest.fixture
    def server(self) -> TokenServer:
        return TokenServer(ssl_context=server_context(authority().issue_cert("token.example")))

    def credentials(self, server: TokenServer, *, port: int | None = None) -> ClientCredentials:
        authority = "token.example" if port is None else f"token.example:{port}"
        return server.credentials(token_url=f"https://{authority}/connect/token")

    # case 62
    @pytest.mark.parametrize("scheme", ["http", "https"])
    async def test_argument(self, server: TokenServer, scheme: str) -> None:
        """The proxy sees a CONNECT with its own user and password, and nothing of the token request."""
        tls = server_context(authority().issue_cert("127.0.0.1")) if scheme == "https" else None
        async with server, RawServer(tunnels_to(server.port), ssl_context=tls) as proxy:
            url = f"{scheme}://{self.USERINFO}@127.0.0.1:{proxy.port}"
            endpoint = server.endpoint(credentials=self.credentials(server), proxy=url, ssl=client_context())
            token = await endpoint.request_token()
            await proxy.clients_left()

            assert "canary-token-1" == token.value
            (request,) = proxy.requests
            start, *headers = request.split(b"\r\n")
            assert b"CONNECT token.example:443 HTTP/1.1" == start
            assert self.AUTHORIZATION in headers
            assert not shows_secret(request.decode())
            (posted,) = server.requests
            assert "Proxy-Authorization" not in posted.headers
            assert SECRET == posted.form["client_secret"]

    @pytest.mark.parametrize(
        ("userinfo", "pair"),
        [
            ("", None),
            ("us@", b"us:"),
            ("us:@", b"us:"),
            ("us:p%3A%C3%A9@", "us:p:é".encode()),
            ("us:a%20b+c@", b"us:a b+c"),
        ],
    )
    async def test_userinfo(self, server: TokenServer, userinfo: str, pair: bytes | None) -> None:
        """User and password of a proxy, which may be given as a yarl.URL, are decoded; without them none are sent."""
        async with server, RawServer(tunnels_to(server.port)) as proxy:
            url = URL(f"http://{userinfo}127.0.0.1:{proxy.port}")
            endpoint = server.endpoint(credentials=self.credentials(server), proxy=url, ssl=client_context())
            await endpoint.request_token()

            sent = [line for line in proxy.requests[0].split(b"\r\n") if line.startswith(b"Proxy-Authorization")]
            assert ([] if pair is None else [b"Proxy-Authorization: Basic " + base64.b64encode(pair)]) == sent

    # case 62
    @pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY"])
    async def test_environment(self, server: TokenServer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """With trust_env the proxy that the environment names is used, with its user and password."""
        async with server, RawServer(tunnels_to(server.port)) as proxy:
            monkeypatch.setenv(name, f"http://{self.USERINFO}@127.0.0.1:{proxy.port}")
            endpoint = server.endpoint(credentials=self.credentials(server), trust_env=True, ssl=client_context())
            token = await endpoint.request_token()

            assert "canary-token-1" == token.value
            assert self.AUTHORIZATION in proxy.requests[0]

    async def test_read_at_each_request(self, server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """The environment is read when a token is requested, not when the endpoint is made."""
        async with server, RawServer(tunnels_to(server.port)) as proxy:
            endpoint = server.endpoint(credentials=self.credentials(server), trust_env=True, ssl=client_context())
            monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
            await endpoint.request_token()

            assert 1 == len(proxy.requests)

    # case 62
    @pytest.mark.parametrize(
        ("options", "no_proxy", "through_proxy"),
        [
            ({"trust_env": True}, None, 1),
            ({"trust_env": True}, "other.example", 1),
            ({"trust_env": True}, "token.example", 0),
            ({"trust_env": True}, "other.example, .example", 0),
            ({"trust_env": True}, "token.example:{port}", 0),
            ({"trust_env": True}, "token.example:1", 1),
            ({"trust_env": True}, "*", 0),
            ({"trust_env": False}, None, 0),
            ({}, None, 0),
        ],
    )
    async def test_no_proxy(
        self,
        server: TokenServer,
        *,
        options: dict[str, bool],
        no_proxy: str | None,
        through_proxy: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A host that no_proxy names is reached directly; so is every host without trust_env."""
        async with (
            server,
            RawServer(tunnels_to(server.port)) as proxy,
            aiohttp.TCPConnector(resolver=LoopbackResolver()) as connector,
        ):
            monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
            if no_proxy is not None:
                monkeypatch.setenv("no_proxy", no_proxy.format(port=server.port))
            token = await server.endpoint(
                credentials=self.credentials(server, port=server.port),
                ssl=client_context(),
                connector=connector,
                **options,
            ).request_token()

            assert "canary-token-1" == token.value
            assert through_proxy == len(proxy.requests)

    async def test_argument_goes_before_environment(self, server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """A proxy argument is used whatever the environment says."""
        async with server, RawServer(tunnels_to(server.port)) as proxy:
            monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
            monkeypatch.setenv("no_proxy", "*")
            await server.endpoint(
                credentials=self.credentials(server),
                proxy=f"http://127.0.0.1:{proxy.port}",
                trust_env=True,
                ssl=client_context(),
            ).request_token()

            assert 1 == len(proxy.requests)

    # case 62
    async def test_loopback_needs_none(self, token_server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """A proxy of the environment does not catch a token endpoint on this machine."""
        async with RawServer(says()) as proxy:
            monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
            token = await token_server.endpoint(trust_env=True).request_token()

            assert "canary-token-1" == token.value
            assert 0 == proxy.connections

    # case 62
    async def test_plain_http(self, token_server: TokenServer) -> None:
        """Plain http never goes through a proxy: ConfigurationError, whoever asked for it."""
        with pytest.raises(ConfigurationError) as caught:
            token_server.endpoint(proxy="http://us:hunter2@proxy.example:3128")

        assert (
            "token_url uses plain http, which would show the secret to the proxy: use https, or leave proxy out"
            == str(caught.value)
        )

    # case 62
    async def test_plain_http_by_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Plain http to another machine is not shown to a proxy of the environment."""
        async with RawServer(says()) as proxy:
            monkeypatch.setenv("http_proxy", f"http://{self.USERINFO}@127.0.0.1:{proxy.port}")
            credentials = raw_credentials(proxy, token_url="http://token.example/", allow_insecure_http=True)
            with pytest.raises(ConfigurationError, match=r"plain http.*or leave http_proxy out$"):
                await TokenEndpoint(credentials, trust_env=True).request_token()

            assert 0 == proxy.connections

    # case 62
    @pytest.mark.parametrize("value", ["socks5://us:hunter2@127.0.0.1:9", "us:hunter2@127.0.0.1:9"])
    async def test_wrong_environment(self, server: TokenServer, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A proxy variable that is no HTTP proxy is a ConfigurationError that names it and shows no password."""
        monkeypatch.setenv("https_proxy", value)
        del value
        async with server:
            with pytest.raises(ConfigurationError, match=r"^https_proxy must be the URL of an HTTP proxy") as caught:
                await server.endpoint(credentials=self.credentials(server), trust_env=True).request_token()

        shown = everything_shown(caught.value)
        assert "hunter2" not in shown

    @pytest.mark.parametrize(
        ("script", "problem"),
        [
            (says(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"), "the proxy answered 407"),
            (says(b"HTTP/1.1 502 Bad Gateway\r\n\r\n"), "the proxy answered 502"),
            (says(b"hello\r\n"), NO_HTTP),
            (says(), CLOSED),
        ],
    )
    async def test_failing_proxy(
        self, server: TokenServer, quick: RenewalPolicy, script: Script, problem: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A proxy that opens no tunnel is a TokenTransportError; its user and password are not shown."""
        async with server, RawServer(script) as proxy:
            monkeypatch.setenv("https_proxy", f"http://{self.USERINFO}@127.0.0.1:{proxy.port}")
            endpoint = server.endpoint(credentials=self.credentials(server), trust_env=True, policy=quick)
            error = await failure(endpoint)
            await proxy.clients_left()

            assert TokenTransportError is type(error)
            assert f"No token: POST https://token.example/connect/token failed: {problem}" == str(error)
            shown = everything_shown(error)
            assert not shows_secret(shown)
            assert "hunter" not in shown
            assert self.AUTHORIZATION.decode() not in shown
            assert 3 == len(proxy.requests)

    async def test_unreachable_proxy(self, server: TokenServer, quick: RenewalPolicy) -> None:
        """A proxy that cannot be reached is a TokenTransportError without its user and password."""
        async with RawServer(says()) as proxy:
            url = f"http://{self.USERINFO}@127.0.0.1:{proxy.port}"
        endpoint = server.endpoint(credentials=self.credentials(server), proxy=url, policy=quick)
        del url
        error = await failure(endpoint)

        assert TokenTransportError is type(error)
        assert error.retryable
        assert "hunter" not in everything_shown(error)

    async def test_unreachable_proxy_is_named(self, server: TokenServer, quick: RenewalPolicy) -> None:
        """The error says that it was the proxy to which no connection could be made."""
        async with RawServer(says()) as proxy:
            url = f"http://127.0.0.1:{proxy.port}"
        error = await failure(server.endpoint(credentials=self.credentials(server), proxy=url, policy=quick))

        assert f"failed: cannot connect to the proxy 127.0.0.1:{proxy.port} (" in str(error)

    @pytest.mark.parametrize("make_ssl", [lambda: None, lambda: aiohttp.Fingerprint(bytes(32))])
    async def test_untrusted_behind_proxy(
        self,
        server: TokenServer,
        quick: RenewalPolicy,
        make_ssl: Callable[[], aiohttp.Fingerprint | None],
    ) -> None:
        """Inside the tunnel certificates and fingerprints are checked all the same."""
        async with server, RawServer(tunnels_to(server.port)) as proxy:
            endpoint = server.endpoint(
                credentials=self.credentials(server),
                proxy=f"http://127.0.0.1:{proxy.port}",
                ssl=make_ssl(),
                policy=quick,
            )
            error = await failure(endpoint)

            assert TokenTransportError is type(error)
            assert not error.retryable
            assert str(error).endswith(UNTRUSTED_TAIL)
            assert (1, 0) == (len(proxy.requests), len(server.requests))

    async def test_cancelled_in_proxy(self, server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """The traceback of a request that was cancelled at the proxy shows neither secret nor proxy password."""
        async with server, RawServer(hangs_after()) as proxy:
            monkeypatch.setenv("https_proxy", f"http://{self.USERINFO}@127.0.0.1:{proxy.port}")
            endpoint = server.endpoint(credentials=self.credentials(server), trust_env=True)
            shown = everything_shown(await cancelled(endpoint.request_token(), proxy.arrived))
            await proxy.clients_left()

        assert not shows_secret(shown)
        assert self.AUTHORIZATION.decode() not in shown
        assert "hunter" not in shown

    # case 62
    @pytest.mark.parametrize("trust_env", [True, False])
    @pytest.mark.parametrize("auth_method", ["client_secret_basic", "client_secret_post"])
    async def test_netrc(
        self,
        token_server: TokenServer,
        auth_method: str,
        *,
        trust_env: bool,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Authorization is ours or absent: netrc is never read."""
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login intruder password hunter2\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        credentials = token_server.credentials(client_secret="s", auth_method=auth_method)
        await token_server.endpoint(credentials=credentials, trust_env=trust_env).request_token()

        ours = "Basic " + base64.b64encode(b"app:s").decode()
        expected = ours if auth_method == "client_secret_basic" else None
        assert expected == token_server.requests[0].headers.get("Authorization")


def mount(folder: Path, secret: str) -> Path:
    """Put *secret* into *folder* as Kubernetes does: swap a symlink to a folder; return the secret's path."""
    version_folder = folder / f"..{secret}"
    version_folder.mkdir()
    (version_folder / "client_secret").write_text(f"{secret}\n")
    (folder / "..data_tmp").symlink_to(version_folder.name)
    (folder / "..data_tmp").rename(folder / "..data")
    path = folder / "client_secret"
    if not path.is_symlink():
        path.symlink_to("..data/client_secret")
    return path


INVALID_CLIENT = {"error": "invalid_client", "title": "Unknown client"}


class Secrets:
    """A secret that changes: each call gives the next, the last one for good. An exception is raised."""

    def __init__(self, *secrets: str | Exception) -> None:
        self.calls = 0
        self._secrets = secrets

    def __call__(self) -> str:
        secret = self._secrets[min(self.calls, len(self._secrets) - 1)]
        self.calls += 1
        if isinstance(secret, Exception):
            raise secret
        return secret


class TestSecret:
    def endpoint(self, server: TokenServer, secret: Callable[[], Any] | str, **policy: Any) -> TokenEndpoint:
        policy = {"retry_seconds": 0.001} | policy
        return server.endpoint(credentials=server.credentials(client_secret=secret), policy=RenewalPolicy(**policy))

    def sent(self, server: TokenServer) -> list[str]:
        return [request.form["client_secret"] for request in server.requests]

    def refuse(self, server: TokenServer, count: int = 1, status: int = 400) -> None:
        server.replies = [web.json_response(INVALID_CLIENT, status=status) for _ in range(count)]

    # case 63
    async def test_rotated_file(self, token_server: TokenServer, tmp_path: Path) -> None:
        """A secret file that was swapped is taken up by the next request."""
        endpoint = self.endpoint(token_server, SecretFile(mount(tmp_path, "first")))
        await endpoint.request_token()
        mount(tmp_path, "second")
        await endpoint.request_token()

        assert ["first", "second"] == self.sent(token_server)

    # case 63
    @pytest.mark.parametrize("status", [400, 401])
    async def test_rotated_in_time(self, token_server: TokenServer, tmp_path: Path, status: int) -> None:
        """A secret file that was swapped meanwhile is taken up at once after invalid_client."""
        path = mount(tmp_path, "first")
        self.refuse(token_server, status=status)
        token_server.gate.clear()
        request = asyncio.create_task(self.endpoint(token_server, SecretFile(path)).request_token())
        await token_server.arrived.wait()
        mount(tmp_path, "second")
        token_server.gate.set()

        assert "canary-token-1" == (await request).value
        assert ["first", "second"] == self.sent(token_server)

    # case 63
    async def test_unchanged(self, token_server: TokenServer) -> None:
        """A secret that is the same when asked again is not sent again: the refusal is raised."""
        secrets = Secrets("same")
        self.refuse(token_server)
        error = await failure(self.endpoint(token_server, secrets))

        assert InvalidClientError is type(error)
        assert ("Unknown client", 400) == (error.title, error.status)
        assert (2, ["same"]) == (secrets.calls, self.sent(token_server))

    # case 63
    @pytest.mark.parametrize("replies", [2, 3])
    async def test_changed_in_vain(self, token_server: TokenServer, replies: int) -> None:
        """A changed secret is tried once; if it is refused too, that is the error."""
        secrets = Secrets("first", "second", "third")
        self.refuse(token_server, replies)
        error = await failure(self.endpoint(token_server, secrets))

        assert InvalidClientError is type(error)
        assert (2, ["first", "second"]) == (secrets.calls, self.sent(token_server))

    async def test_changed_secret_gets_one_attempt(self, token_server: TokenServer) -> None:
        """A changed secret is tried once, also if that attempt fails in a way that would otherwise be tried again."""
        token_server.replies = [web.json_response(INVALID_CLIENT, status=400), 503]
        error = await failure(self.endpoint(token_server, Secrets("first", "second")))

        assert isinstance(error, TokenEndpointError)
        assert 503 == error.status
        assert ["first", "second"] == self.sent(token_server)

    async def test_literal(self, token_server: TokenServer) -> None:
        """A literal secret is not sent twice."""
        self.refuse(token_server, 2)
        error = await failure(self.endpoint(token_server, "literal"))

        assert InvalidClientError is type(error)
        assert ["literal"] == self.sent(token_server)

    @pytest.mark.parametrize("reply", [503, {}])
    async def test_passing_failure(self, token_server: TokenServer, reply: Any) -> None:
        """After a failure that says nothing of the secret it is not asked for again; all attempts use one."""
        secrets = Secrets("first", "second")
        token_server.replies = [reply] * 3
        error = await failure(self.endpoint(token_server, secrets))

        assert error.retryable
        assert (1, ["first"] * 3) == (secrets.calls, self.sent(token_server))

    async def test_refused_after_a_failure(self, token_server: TokenServer) -> None:
        """A refusal that follows upon a passing failure asks for the secret again as well."""
        secrets = Secrets("first", "second")
        token_server.replies = [503, web.json_response(INVALID_CLIENT, status=400)]
        token = await self.endpoint(token_server, secrets).request_token()

        assert "canary-token-1" == token.value
        assert ["first", "first", "second"] == self.sent(token_server)

    async def test_asynchronous(self, token_server: TokenServer) -> None:
        """An async callable is awaited."""

        async def read() -> str:
            return "async"

        await self.endpoint(token_server, read).request_token()

        assert ["async"] == self.sent(token_server)

    # case 63
    @pytest.mark.parametrize("before", [[], ["first"]])
    async def test_raises(self, token_server: TokenServer, before: list[str]) -> None:
        """A callable that raises, at first or when asked again, is a TokenError without what it said."""
        self.refuse(token_server)
        secrets = Secrets(*before, ValueError(SECRET))
        error = await failure(self.endpoint(token_server, secrets))

        assert TokenError is type(error)
        assert "the client secret cannot be read: the callable raised ValueError" == str(error)
        assert not shows_secret(everything_shown(error))
        assert before == self.sent(token_server)

    # case 63
    @pytest.mark.parametrize("before", [[], ["first"]])
    def test_slow(self, before: list[str]) -> None:
        """An async callable that never returns, at first or when asked again, is a TokenTimeoutError in the budget."""
        expected = "No token: the client_secret callable did not return before the renewal's budget ended"
        answers = list(before)
        posts: list[float] = []

        async def read() -> str:
            return answers.pop() if answers else await asyncio.Future()

        async def simulate(loop: VirtualLoop) -> float:
            began_at = loop.time()

            async def refuse() -> Reply:
                posts.append(loop.time())
                return Reply(401, json.dumps(INVALID_CLIENT).encode())

            credentials = ClientCredentials(client_id="app", client_secret=read)
            policy = RenewalPolicy(budget_seconds=10)
            with pytest.raises(TokenTimeoutError) as caught:
                await VirtualEndpoint(credentials, policy=policy, answer=refuse).request_token()
            assert expected == str(caught.value)
            return loop.time() - began_at

        assert 10 == run(simulate, seed=0)
        assert len(before) == len(posts)

    # case 63
    async def test_blocking(self, token_server: TokenServer) -> None:
        """A plain callable that blocks is off the loop, and a TokenTimeoutError in the budget."""
        returns = threading.Event()

        def read() -> str:
            returns.wait(5)
            return "late"

        try:
            error = await failure(self.endpoint(token_server, read, budget_seconds=0.05))
        finally:
            returns.set()

        assert TokenTimeoutError is type(error)
        assert [] == self.sent(token_server)

    async def test_timeout_of_its_own(self, token_server: TokenServer) -> None:
        """A callable's own TimeoutError is not taken for the end of the budget."""
        error = await failure(self.endpoint(token_server, Secrets(TimeoutError())))

        assert TokenError is type(error)
        assert str(error).endswith("the callable raised TimeoutError")


class TestTime:
    async def test_counted_from_the_request(self, token_server: TokenServer, clock: FakeClock) -> None:
        """A token's life begins when it was asked for, not when it came."""
        token_server.lifetime = 500
        token_server.gate.clear()
        endpoint = token_server.endpoint(clock=clock)
        deadline = asyncio.get_running_loop().time() + 5
        fetch = asyncio.create_task(endpoint.fetch(deadline=deadline, may_retry=lambda: True))
        await token_server.arrived.wait()
        clock.advance(100)
        token_server.gate.set()
        receipt = await fetch

        assert 1_000 == receipt.requested_at
        assert (1_700_000_000, 1_700_000_500) == (receipt.token.issued_at, receipt.token.expires_at)

    async def test_counted_from_the_attempt(
        self, token_server: TokenServer, clock: FakeClock, quick: RenewalPolicy
    ) -> None:
        """It is the attempt that brought it from which a token's life counts, not the first one."""
        token_server.replies = [503]

        def may_retry() -> bool:
            clock.advance(100)
            return True

        endpoint = token_server.endpoint(clock=clock, policy=quick)
        deadline = asyncio.get_running_loop().time() + 5
        receipt = await endpoint.fetch(deadline=deadline, may_retry=may_retry)

        assert 1_100 == receipt.requested_at
        assert 1_700_000_100 == receipt.token.issued_at

    @pytest.mark.parametrize("late", [60, 61, 1e6])
    async def test_expired_on_arrival(self, token_server: TokenServer, clock: FakeClock, late: float) -> None:
        """A token whose life has passed on its way is a TokenResponseError."""
        token_server.lifetime = 60
        error = await failure_while(token_server, clock.advance, late, clock=clock)

        assert TokenResponseError is type(error)
        assert error.retryable
        assert "No token: it was granted for 60 s, and had expired when it arrived" == str(error)
        assert not shows_secret(everything_shown(error))
        assert "canary-token" not in everything_shown(error)

    async def test_asked_again(self, token_server: TokenServer, clock: FakeClock, quick: RenewalPolicy) -> None:
        """After a token that came too late another one is asked for."""
        token_server.lifetime = 60
        token_server.gate.clear()
        request = asyncio.create_task(token_server.endpoint(clock=clock, policy=quick).request_token())
        await token_server.arrived.wait()
        clock.advance(60)
        token_server.gate.set()

        assert ("canary-token-2", 1_700_000_060) == ((await request).value, (await request).issued_at)

    @pytest.mark.parametrize("late", [0, 59.9])
    async def test_just_in_time(self, token_server: TokenServer, clock: FakeClock, late: float) -> None:
        """A token that still lives when it arrives is one."""
        token_server.lifetime = 60
        token_server.gate.clear()
        request = asyncio.create_task(token_server.endpoint(clock=clock).request_token())
        await token_server.arrived.wait()
        clock.advance(late)
        token_server.gate.set()

        assert "canary-token-1" == (await request).value

    # case 19
    @pytest.mark.parametrize("step", [-86_400, 86_400])
    async def test_wall_clock_is_stepped(self, token_server: TokenServer, clock: FakeClock, step: float) -> None:
        """A step of the wall clock neither kills nor prolongs a token on its way."""
        token_server.gate.clear()
        request = asyncio.create_task(token_server.endpoint(clock=clock).request_token())
        await token_server.arrived.wait()
        clock.step_wall(step)
        token_server.gate.set()
        token = await request

        assert (1_700_000_000, 1_700_003_600) == (token.issued_at, token.expires_at)

    @pytest.mark.parametrize(
        ("asked", "granted", "scope"),
        [
            ("", None, ()),
            ("write read", None, ("write", "read")),
            ("write read", "read", ("read",)),
            ("read", "", ()),
            ("", "b a", ("b", "a")),
        ],
    )
    async def test_scope(self, token_server: TokenServer, asked: str, granted: str | None, scope: tuple[str]) -> None:
        """The scope is what the reply grants, or what was asked for if it does not say."""
        token_server.replies = [{"access_token": "a"} | ({} if granted is None else {"scope": granted})]
        token = await token_server.endpoint(credentials=token_server.credentials(scope=asked)).request_token()

        assert AccessToken("a", issued_at=token.issued_at, expires_at=token.issued_at + 3600, scope=scope) == token


async def failure_while(
    server: TokenServer, move: Callable[[float], None], seconds: float, **options: Any
) -> TokenError:
    """Return the error of a single attempt during which *move* was called."""
    server.gate.clear()
    endpoint = server.endpoint(policy=RenewalPolicy(attempts=1), **options)
    request = asyncio.create_task(failure(endpoint))
    await server.arrived.wait()
    move(seconds)
    server.gate.set()
    return await request


async def cancelled(request: Awaitable[object], reached: asyncio.Event) -> asyncio.CancelledError:
    """Cancel *request* once *reached* is set; return what it ended with, which must be the cancellation itself."""
    task = asyncio.ensure_future(request)
    async with asyncio.timeout(5):
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
    assert task.cancelled()
    return caught.value


class TestCancellation:
    @pytest.mark.parametrize("auth_method", ["client_secret_post", "client_secret_basic"])
    @pytest.mark.parametrize(
        "parts", [(), (JSON_HEAD,), (JSON_HEAD + b"Content-Length: 99\r\n\r\n{",)], ids=["silence", "head", "body"]
    )
    async def test_during_the_reply(self, auth_method: str, parts: tuple[bytes, ...]) -> None:
        """A cancelled request ends as CancelledError, closes its connection and shows no secret."""
        reached = asyncio.Event()
        async with RawServer(hangs_after(*parts, reached=reached)) as server:
            endpoint = TokenEndpoint(raw_credentials(server, auth_method=auth_method))
            shown = everything_shown(await cancelled(endpoint.request_token(), reached))
            await server.clients_left()

        assert not shows_secret(shown)

    async def test_during_the_handshake(self) -> None:
        """A request that is cancelled while it connects closes its connection."""
        async with RawServer(hangs_after(), reads_first=False) as server:
            credentials = raw_credentials(server, token_url=f"https://127.0.0.1:{server.port}/")
            await cancelled(TokenEndpoint(credentials).request_token(), server.arrived)
            await server.clients_left()

            assert 1 == server.connections

    async def test_during_a_pause(self, token_server: TokenServer) -> None:
        """A request that is cancelled between two attempts makes no other."""
        token_server.replies = [503]
        pauses = asyncio.Event()

        def may_retry() -> bool:
            pauses.set()
            return True

        endpoint = token_server.endpoint(policy=RenewalPolicy(retry_seconds=100, budget_seconds=1000))
        deadline = asyncio.get_running_loop().time() + 1000
        await cancelled(endpoint.fetch(deadline=deadline, may_retry=may_retry), pauses)

        assert 1 == len(token_server.requests)

    async def test_during_the_secret(self, token_server: TokenServer) -> None:
        """A request that is cancelled while it asks for the secret cancels the callable, and sends nothing."""
        asked, told = asyncio.Event(), asyncio.Event()

        async def read() -> str:
            asked.set()
            try:
                return await asyncio.Future()
            except asyncio.CancelledError:
                told.set()
                raise

        credentials = token_server.credentials(client_secret=read)
        await cancelled(token_server.endpoint(credentials=credentials).request_token(), asked)

        assert told.is_set()
        assert [] == token_server.requests

    async def test_during_a_blocking_secret(self, token_server: TokenServer) -> None:
        """A request that is cancelled while a plain callable blocks ends at once."""
        loop = asyncio.get_running_loop()
        asked, returns = asyncio.Event(), threading.Event()

        def read() -> str:
            loop.call_soon_threadsafe(asked.set)
            returns.wait(5)
            return SECRET

        credentials = token_server.credentials(client_secret=read)
        try:
            await cancelled(token_server.endpoint(credentials=credentials).request_token(), asked)
        finally:
            returns.set()

        assert [] == token_server.requests

    async def test_during_a_wait_for_the_connector(self, token_server: TokenServer) -> None:
        """A request that is cancelled while it waits for a borrowed connection leaves the connector as it was."""
        connector = WatchedConnector(limit=1)
        async with (
            connector,
            aiohttp.ClientSession(connector=connector, connector_owner=False) as session,
        ):
            token_server.gate.clear()
            busy = asyncio.create_task(session.get(token_server.url))
            await token_server.arrived.wait()
            connector.asked.clear()
            endpoint = token_server.endpoint(connector=connector)
            await cancelled(endpoint.request_token(), connector.asked)
            token_server.gate.set()
            (await busy).release()
            await endpoint.request_token()

        assert ["GET", "POST"] == [request.method for request in token_server.requests]


class TestLogs:
    # case 55, case 56
    @pytest.mark.parametrize(
        ("auth_method", "is_dynamic"), [("client_secret_post", True), ("client_secret_basic", False)]
    )
    async def test_debug_mode(
        self, auth_method: str, *, is_dynamic: bool, quick: RenewalPolicy, caplog: pytest.LogCaptureFixture
    ) -> None:
        """With asyncio's debug mode and every logger at DEBUG neither secret nor token is logged, whatever comes."""
        caplog.set_level(logging.DEBUG)
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = 0  # every step of every task is logged, with its repr
        echo = web.json_response({"error": "invalid_client", "error_description": SECRET}, status=401)
        certificate = authority().issue_cert("127.0.0.1")
        async with TokenServer(ssl_context=server_context(certificate)) as server, RawServer(says()) as broken:
            server.replies = [500, echo, {"access_token": 5}]
            secret: Any = Secrets(SECRET) if is_dynamic else SECRET
            credentials = server.credentials(client_secret=secret, auth_method=auth_method)
            trusting = server.endpoint(credentials=credentials, policy=quick, ssl=client_context())
            errors = [
                await failure(trusting),
                await failure(raw_endpoint(broken, policy=quick)),
            ]
            await trusting.request_token()

        assert [InvalidClientError, TokenTransportError] == [type(error) for error in errors]
        assert not shows_secret("".join(everything_shown(error) for error in errors))
        assert "took 0.000 seconds" in caplog.text
        assert not shows_secret(caplog.text)
        assert "canary-token" not in caplog.text
