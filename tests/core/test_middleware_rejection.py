"""`BearerAuthMiddleware`: rejected tokens; `BearerContract` has replays and second rejections."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import aiohttp
import pytest

from simplestore_async import AccessToken
from simplestore_async.errors import ConfigurationError, InvalidClientError, TokenError
from simplestore_async.sandbox import RejectedToken, Response, Sandbox
from tests.support.api_requests import ListSource, OneToken, fetch
from tests.support.api_servers import INVALID_TOKEN, answering, authorized_session, rejecting

if TYPE_CHECKING:
    from tests.support.clocks import FakeClock
    from tests.support.servers import ApiServer

INVALID_CLIENT = Response(400, json={"error": "invalid_client", "title": "Unknown client"})


def seen_by(sandbox: Sandbox) -> list[tuple[int | None, int | None]]:
    """Return status and token number of each API request."""
    return [(request.status, request.token_number) for request in sandbox.api.requests]


class TestRejection:
    @pytest.mark.parametrize(
        ("challenges", "requests"),
        [(["Negotiate", f'Basic realm="x", {INVALID_TOKEN}'], 2), (['Basic error="invalid_token"', "Bearer"], 1)],
        ids=["of the token", "of another scheme"],
    )
    async def test_challenges(
        self, sandbox: Sandbox, session: aiohttp.ClientSession, challenges: list[str], requests: int
    ) -> None:
        """A 403 rejects the token if any WWW-Authenticate line does, and otherwise is returned."""
        headers = [("WWW-Authenticate", challenge) for challenge in challenges]
        sandbox.api.fail_next(1, Response(403, headers=headers, body="why"))
        status, text = await fetch(session, "items")

        assert (requests, requests == 1) == (len(sandbox.api.requests), (status, text) == (403, "why"))

    async def test_failing_renewal(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        """If the renewal after a rejection fails, its error is raised and the request is not replayed."""
        await fetch(session, "items")
        sandbox.revoke_all()
        sandbox.fail_next(1, INVALID_CLIENT)
        with pytest.raises(InvalidClientError, match="Unknown client"):
            await session.get("items")

        assert [(200, 1), (401, 1)] == seen_by(sandbox)

    async def test_same_token_again(self, api_server: ApiServer) -> None:
        """A source that returns the rejected token again causes a retryable error that does not show the token."""
        api_server.rejected.add("same")
        async with authorized_session(ListSource("same", "same"), api_server.url) as session:
            with pytest.raises(TokenError, match="issued the same one again") as caught:
                await session.get(api_server.url)

        assert caught.value.retryable
        assert "'same'" not in str(caught.value)

    async def test_no_token(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        """If no token can be obtained, the request is not sent and the error is raised."""
        sandbox.fail_next(1, INVALID_CLIENT)
        with pytest.raises(InvalidClientError):
            await session.post("items", data=b"body")

        assert () == sandbox.api.requests


class TestManyRejections:
    async def test_revoked_token(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        """100 requests with one revoked token make one token request, and all succeed."""
        await fetch(session, "items")
        sandbox.revoke_all()
        with sandbox.api.hold() as held:
            requests = [asyncio.create_task(fetch(session, "items")) for _ in range(100)]
            await held.wait_for_requests(100)
        statuses = [status for status, _ in await asyncio.gather(*requests)]

        assert [200] * 100 == statuses
        assert {(200, 1): 1, (401, 1): 100, (200, 2): 100} == Counter(seen_by(sandbox))

    async def test_always_401(self, sandbox: Sandbox, session: aiohttp.ClientSession, clock: FakeClock) -> None:
        """100 requests within 5 s to an API that always returns 401 cause two token requests and no needless replay."""
        sandbox.api.fail_for(1e6, RejectedToken())
        statuses = []
        for batch in range(10):
            urls = [f"{batch}-{number}" for number in range(10)]
            statuses += [status for status, _ in await asyncio.gather(*(fetch(session, url) for url in urls))]
            clock.advance(0.49)
        in_time = sandbox.counters.token_requests
        clock.advance(0.2)
        await fetch(session, "later")

        assert [401] * 100 == statuses
        assert (2, 3) == (in_time, sandbox.counters.token_requests)
        assert {1} == set(Counter((request.path, request.token_number) for request in sandbox.api.requests).values())


class TestIsRejected:
    @pytest.mark.parametrize(("status", "has_header"), [(200, True), (419, True), (401, False)])
    async def test_rejected(self, api_server: ApiServer, status: int, has_header: bool) -> None:
        """`is_rejected` decides by status and headers, even for a 200, but cannot accept a 401."""
        api_server.rejected.add("first")
        api_server.handler = rejecting(api_server, status, *["Expired"] * has_header)
        async with authorized_session(
            ListSource("first", "second"),
            api_server.url,
            is_rejected=lambda _, headers: headers.get("www-authenticate") == "Expired",
        ) as session:
            await fetch(session, api_server.url)

        assert ["first", "second"] == api_server.tokens

    async def test_raises(self, api_server: ApiServer) -> None:
        """An exception in `is_rejected` propagates without leaking the connection."""
        api_server.handler = answering(body=bytes(1_000_000))
        async with authorized_session(
            OneToken(),
            api_server.url,
            is_rejected=lambda status, _: 1 // (status - 200) > 0,
            connector=aiohttp.TCPConnector(limit=1),
        ) as session:
            for _ in range(2):
                async with asyncio.timeout(10):
                    with pytest.raises(ZeroDivisionError):
                        await session.get(api_server.url)

    async def test_asynchronous(self, api_server: ApiServer) -> None:
        """An awaitable result is refused, since it would always be true."""
        future = asyncio.get_running_loop().create_future()
        async with authorized_session(
            OneToken(), api_server.url, is_rejected=lambda _status, _headers: future
        ) as session:
            with pytest.raises(ConfigurationError, match=r"^is_rejected must return True or False, got Future"):
                await session.get(api_server.url)


class TestAcceptance:
    @pytest.mark.parametrize("status", [302, 404, 503])
    async def test_no_acceptance(self, sandbox: Sandbox, session: aiohttp.ClientSession, status: int) -> None:
        """A redirect or an error response does not count as acceptance of a replacement, which is then not replaced."""
        sandbox.api.fail_next(2, RejectedToken())
        sandbox.api.fail_next(1, Response(status))
        sandbox.api.fail_next(1, RejectedToken())
        for expected in (401, status, 401):
            assert (expected, 2) == ((await fetch(session, "items", allow_redirects=False))[0], seen_by(sandbox)[-1][1])

    async def test_accept_is_called_once(self, api_server: ApiServer) -> None:
        """`accept()` is called once for each replacement that the API accepts."""
        accepted: list[str] = []

        class Accepting(ListSource):
            async def get_token(self) -> AccessToken:
                return tokens[0]

            def accept(self, token: AccessToken) -> None:
                accepted.append(token.value)

        tokens = [
            AccessToken(value, issued_at=0, expires_at=3600, is_replacement=value != "first")
            for value in ("first", "second", "third")
        ]
        async with authorized_session(Accepting(), api_server.url) as session:
            for _ in range(3):
                for _ in range(2):
                    await fetch(session, api_server.url)
                tokens.append(tokens.pop(0))

        assert ["second", "third"] == accepted
