"""`TokenEndpoint`: attempts, the pauses between them, and the end of the budget."""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise
from typing import TYPE_CHECKING

import aiohttp
import attrs
import pytest
from aiohttp import web

from simplestore_async import ClientCredentials, RetryPolicy, TokenEndpoint
from simplestore_async.errors import (
    TokenEndpointError,
    TokenTimeoutError,
    TokenTransportError,
)
from tests.support.clocks import FakeClock
from tests.support.production import CREDENTIALS, run
from tests.support.raw_server import RawServer
from tests.support.resolver import LocalResolver
from tests.support.servers import SECRET, TokenServer
from tests.support.token_requests import (
    CLOSED,
    GRANT,
    failure,
    raw_credentials,
    raw_endpoint,
)
from tests.support.virtual_wire import Reply, VirtualEndpoint
from tests.support.wire_faults import JSON_HEAD, everything_shown, hangs_after, says, shows_secret

if TYPE_CHECKING:
    from tests.support.virtual_loop import VirtualLoop


@pytest.fixture
def impatient(quick: RetryPolicy) -> RetryPolicy:
    """One attempt, for servers that never finish: it costs its whole time."""
    return attrs.evolve(quick, attempts=1, attempt_seconds=0.2)


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


def posting_times(policy: RetryPolicy, *replies: Reply) -> list[float]:
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


class TestAttempts:
    async def test_passing_failure(self, token_server: TokenServer, quick: RetryPolicy) -> None:
        """500, 500, 200: three POSTs and a token."""
        token_server.replies = [500, 500]
        token = await token_server.endpoint(policy=quick).request_token()

        assert "canary-token-1" == token.value
        assert 3 == len(token_server.requests)

    @pytest.mark.parametrize("attempts", [1, 2, 3, 4])
    async def test_attempts_end(self, token_server: TokenServer, quick: RetryPolicy, attempts: int) -> None:
        """After the policy's number of attempts the last one's error is raised."""
        token_server.replies = [*[503] * (attempts - 1), 502]
        error = await failure(token_server.endpoint(policy=attrs.evolve(quick, attempts=attempts)))

        assert isinstance(error, TokenEndpointError)
        assert (502, True) == (error.status, error.retryable)
        assert attempts == len(token_server.requests)

    @pytest.mark.parametrize("status", [408, 429, 500, 501, 502, 503, 504, 599])
    async def test_retried_status(self, token_server: TokenServer, quick: RetryPolicy, status: int) -> None:
        """408, 429 and every 5xx are tried again."""
        token_server.replies = [status]
        token = await token_server.endpoint(policy=quick).request_token()

        assert "canary-token-1" == token.value
        assert 2 == len(token_server.requests)

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 407, 409, 410, 421, 422, 425, 428, 430, 451, 499])
    async def test_refusal(self, token_server: TokenServer, quick: RetryPolicy, status: int) -> None:
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
        await token_server.endpoint(policy=RetryPolicy(retry_seconds=0.1)).request_token()

        first, second = gaps(times)
        assert first >= 0.05
        assert second >= 0.1

    @pytest.mark.parametrize("status", [429, 503])
    async def test_retry_after_seconds(self, token_server: TokenServer, quick: RetryPolicy, status: int) -> None:
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
        await token_server.endpoint(policy=RetryPolicy(retry_seconds=0.2)).request_token()

        (gap,) = gaps(times)
        assert gap >= 0.1

    async def test_retry_after_date(self, quick: RetryPolicy) -> None:
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

    async def test_retry_after_date_by_the_servers_clock(self, token_server: TokenServer) -> None:
        """A server whose clock is a year off is waited for as long as it means."""
        headers = {"Date": "Tue, 14 Nov 2023 22:13:20 GMT", "Retry-After": "Tue, 14 Nov 2023 22:13:50 GMT"}
        token_server.replies = [web.Response(status=503, headers=headers)]
        error = await failure(token_server.endpoint(policy=RetryPolicy(budget_seconds=20)))

        assert isinstance(error, TokenEndpointError)
        assert 30 == error.retry_after
        assert 1 == len(token_server.requests)

    @pytest.mark.parametrize(("retry_after", "budget_seconds"), [(3600, 30), (31, 30), (3, 2.5), (1, 1)])
    async def test_retry_after_beyond_budget(
        self, token_server: TokenServer, retry_after: float, budget_seconds: float
    ) -> None:
        """A Retry-After that exceeds what is left of the budget fails at once and is readable."""
        token_server.replies = [web.Response(status=429, headers={"Retry-After": str(retry_after)})]
        started_at = asyncio.get_running_loop().time()
        error = await failure(token_server.endpoint(policy=RetryPolicy(budget_seconds=budget_seconds)))

        assert isinstance(error, TokenEndpointError)
        assert (429, retry_after) == (error.status, error.retry_after)
        assert 1 == len(token_server.requests)
        assert asyncio.get_running_loop().time() < started_at + budget_seconds

    @pytest.mark.parametrize(("retry_after", "posted_at"), [("29.5", [0, 29.5]), ("30", [0])])
    def test_retry_after_to_the_end_of_the_budget(self, retry_after: str, posted_at: list[float]) -> None:
        """A Retry-After that ends with the budget fails at once: nothing is left for another attempt."""
        busy = Reply(429, headers={"Retry-After": retry_after})

        assert posted_at == posting_times(RetryPolicy(budget_seconds=30), busy, busy)

    def test_pauses_end(self) -> None:
        """The pause between attempts is at most retry_seconds, doubled each time, if nobody asks for a longer one."""
        first, second = gaps(posting_times(RetryPolicy(retry_seconds=0.25), *[Reply(503)] * 3))

        assert 0.125 <= first <= 0.25
        assert 0.25 <= second <= 0.5

    async def test_pause_beyond_deadline(self, token_server: TokenServer) -> None:
        """A pause that would outlast the deadline is not begun."""
        token_server.replies = [503]
        endpoint = token_server.endpoint(policy=RetryPolicy(retry_seconds=20))
        deadline = asyncio.get_running_loop().time() + 9
        with pytest.raises(TokenEndpointError, match="status 503"):
            async with asyncio.timeout(60):
                await endpoint.fetch(deadline=deadline, may_retry=lambda: True)

        assert 1 == len(token_server.requests)

    async def test_deadline_has_passed(self, token_server: TokenServer) -> None:
        """Past the deadline nothing is sent."""
        endpoint = token_server.endpoint()
        deadline = asyncio.get_running_loop().time() - 1
        with pytest.raises(TokenTimeoutError, match=r"no complete response within 0 s$"):
            await endpoint.fetch(deadline=deadline, may_retry=lambda: True)

        assert [] == token_server.requests

    @pytest.mark.parametrize("answers", [[False], [True, False], [True, True, True]])
    async def test_may_retry(self, token_server: TokenServer, quick: RetryPolicy, answers: list[bool]) -> None:
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


class TestFaults:
    async def test_silence_is_tried_again(self, impatient: RetryPolicy) -> None:
        """An attempt that timed out is followed by others."""
        async with RawServer(hangs_after()) as server:
            error = await failure(raw_endpoint(server, policy=attrs.evolve(impatient, attempts=2)))

            assert TokenTimeoutError is type(error)
            assert 2 == len(server.requests)

    async def test_budget(self) -> None:
        """The budget ends an attempt that would still have time, and no other follows."""
        policy = RetryPolicy(retry_seconds=0.01, attempt_seconds=60, budget_seconds=0.2)
        async with RawServer(hangs_after(JSON_HEAD + b"Content-Length: 99\r\n\r\n{")) as server:
            error = await failure(raw_endpoint(server, policy=policy))
            await server.clients_left()

            assert TokenTimeoutError is type(error)
            assert 1 == len(server.requests)

    async def test_budget_is_what_ended_it(self) -> None:
        """The message does not claim that the endpoint had attempt_seconds when the budget gave it less."""
        policy = RetryPolicy(attempt_seconds=60, budget_seconds=0.1)
        async with RawServer(hangs_after()) as server:
            error = await failure(raw_endpoint(server, policy=policy))

        assert re.search(r"no complete response within 0\.(1|0\d+) s$", str(error))

    async def test_refused(self, token_server: TokenServer, quick: RetryPolicy) -> None:
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
        assert 2 == question.times_asked

    async def test_refused_says_so(self, quick: RetryPolicy) -> None:
        """The error says what the system says of a refused connection, not only that there was no other outcome."""
        async with RawServer(says()) as server:
            endpoint = raw_endpoint(server, policy=quick)

        assert "refused" in str(await failure(endpoint))

    async def test_unknown_host(self, quick: RetryPolicy) -> None:
        """A host that DNS does not know is a TokenTransportError, after all attempts."""
        credentials = ClientCredentials(client_id="app", client_secret=SECRET, token_url="https://token.invalid/")
        resolver = LocalResolver(knows_hosts=False)
        async with aiohttp.TCPConnector(resolver=resolver) as connector:
            error = await failure(TokenEndpoint(credentials, policy=quick, connector=connector))

        assert TokenTransportError is type(error)
        assert error.retryable
        assert (
            "token request to https://token.invalid/ failed: "
            "cannot connect to token.invalid:443 (Name or service not known)" == str(error)
        )
        assert not shows_secret(everything_shown(error))
        assert ["token.invalid"] * 3 == resolver.hosts

    async def test_query_is_not_shown(self, quick: RetryPolicy) -> None:
        """An error names the token URL without its query."""
        async with RawServer(says()) as server:
            credentials = raw_credentials(server, token_url=f"{server.token_url}?key=hunter2")
            error = await failure(TokenEndpoint(credentials, policy=quick))

            assert f"token request to {server.token_url} failed: {CLOSED}" == str(error)
