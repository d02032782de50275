"""`BearerAuthMiddleware`: rejected tokens."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from simplestore_async import AccessToken, BearerAuthMiddleware
from simplestore_async.errors import ConfigurationError, InvalidClientError, SimpleStoreError, TokenError
from simplestore_async.events import RenewalFailed
from tests.support.api_requests import BEARER_1, BEARER_2, ListSource, authorizations, fetch
from tests.support.api_servers import (
    INVALID_TOKEN,
    UNAUTHORIZED,
    WireServer,
    authorized_session,
    refusing_url,
    rejecting,
)

if TYPE_CHECKING:
    from simplestore_async import RetryPolicy
    from simplestore_async.events import Event
    from tests.support.clocks import FakeClock
    from tests.support.servers import ApiServer, TokenServer

INVALID_CLIENT = {"error": "invalid_client", "title": "Unknown client"}


class TestRejection:
    @pytest.mark.parametrize(
        ("status", "challenges"),
        [
            (401, []),
            (403, [INVALID_TOKEN]),
            (403, [f'Basic realm="x", {INVALID_TOKEN}', "Negotiate"]),
        ],
    )
    async def test_renews_and_replays(
        self, token_server: TokenServer, api_server: ApiServer, status: int, challenges: list[str]
    ) -> None:
        """A rejection of the token makes one token request and one replay, whose answer the caller gets."""
        api_server.rejected.add("canary-token-1")
        api_server.handler = rejecting(api_server, status, *challenges)
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            answer = await fetch(session, f"{api_server.url}/items")

        assert (200, '{"path": "/items"}') == answer
        assert ([[BEARER_1], [BEARER_2]], 2) == (authorizations(api_server), len(token_server.requests))

    @pytest.mark.parametrize(
        ("status", "challenges"),
        [
            (403, []),
            (403, ['Basic error="invalid_token"', "Bearer"]),
            (401, ['Bearer error="insufficient_scope"']),
            (503, [INVALID_TOKEN]),
            (200, [INVALID_TOKEN]),
        ],
    )
    async def test_other_answers(
        self, token_server: TokenServer, api_server: ApiServer, status: int, challenges: list[str]
    ) -> None:
        """Any other answer reaches the caller as it is; the token is kept."""
        api_server.rejected.add("canary-token-1")
        api_server.handler = rejecting(api_server, status, *challenges, text="why")
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            answers = [await fetch(session, api_server.url) for _ in range(2)]

        assert [(status, "why")] * 2 == answers
        assert ([[BEARER_1]] * 2, 1) == (authorizations(api_server), len(token_server.requests))

    async def test_second_rejection(self, token_server: TokenServer) -> None:
        """A second 401 is returned at once, unread: its body may come later. There is no third request."""
        is_asked_for = asyncio.Event()

        async def reject(writer: asyncio.StreamWriter) -> None:
            writer.write(UNAUTHORIZED.replace(b"Length: 0", b"Length: 6"))
            if len(wire_server.requests) == 2:
                await is_asked_for.wait()
            writer.write(b"second")

        async with (
            WireServer(reject) as wire_server,
            token_server.provider() as provider,
            authorized_session(provider, wire_server.url) as session,
        ):
            wire_server.rejected |= {"canary-token-1", "canary-token-2"}
            async with asyncio.timeout(30), session.get(wire_server.url) as response:
                is_asked_for.set()
                body = await response.read()

        assert (401, b"second") == (response.status, body)
        assert (["canary-token-1", "canary-token-2"], 2) == (wire_server.tokens, len(token_server.requests))

    async def test_second_rejection_counts(self, api_server: ApiServer) -> None:
        """Both rejected tokens are reported to the source, each once, as it was sent."""
        source = ListSource("first", "second")
        api_server.rejected |= {"first", "second"}
        async with authorized_session(source, api_server.url) as session:
            await fetch(session, api_server.url)

        assert ["first", "second"] == source.invalidated

    async def test_success_is_no_rejection(self, api_server: ApiServer) -> None:
        """A token is reported to the source when it is rejected, and only then."""
        source = ListSource("first", "second")
        api_server.rejected.add("first")
        async with authorized_session(source, api_server.url) as session:
            await fetch(session, api_server.url)

        assert ["first"] == source.invalidated

    async def test_no_replacement(self, api_server: ApiServer) -> None:
        """If the source has no other token to give now, the first 401 is returned, readable."""
        source = ListSource("first", "second", may_replace=False)
        api_server.handler = rejecting(api_server, 401, text="first")
        api_server.rejected.add("first")
        async with authorized_session(source, api_server.url) as session:
            answer = await fetch(session, api_server.url)

        assert ((401, "first"), ["first"]) == (answer, api_server.tokens)

    async def test_failing_renewal(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """If the renewal after a rejection fails, its error is raised, and nothing more is sent."""
        api_server.rejected.add("canary-token-1")
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            await provider.get_token()
            token_server.replies.append(web.json_response(INVALID_CLIENT, status=400))
            with pytest.raises(InvalidClientError, match="Unknown client"):
                await session.get(api_server.url)

        assert [[BEARER_1]] == authorizations(api_server)

    async def test_barred_endpoint(
        self, token_server: TokenServer, api_server: ApiServer, clock: FakeClock, quick: RetryPolicy
    ) -> None:
        """While the token endpoint is left alone after a failure, the API's 401 is returned, readable."""
        api_server.handler = rejecting(api_server, 401, text="revoked")
        has_failed = asyncio.Event()

        def listen(event: Event) -> None:
            if isinstance(event, RenewalFailed):
                has_failed.set()

        provider = token_server.provider(clock=clock, retry=quick, on_event=listen)
        async with provider, authorized_session(provider, api_server.url) as session:
            token = await provider.get_token()
            clock.advance(token.expires_at - token.issued_at - 1)
            token_server.replies += [503] * 3
            assert token is await provider.get_token()
            await has_failed.wait()
            api_server.rejected.add("canary-token-1")
            answer = await fetch(session, api_server.url)

        assert ((401, "revoked"), [[BEARER_1]]) == (answer, authorizations(api_server))

    async def test_same_token_again(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """A source that returns the rejected token again causes an error: the request is not resent."""
        api_server.rejected.add("same")
        async with authorized_session(ListSource("same", "same"), api_server.url) as session:
            with pytest.raises(TokenError, match="issued the same one again") as caught:
                await session.get(api_server.url)

        assert (True, ["same"]) == (caught.value.retryable, api_server.tokens)
        assert "'same'" not in str(caught.value)

    async def test_no_token(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """If no token can be obtained the request is not sent, and the error is raised."""
        token_server.replies.append(web.json_response(INVALID_CLIENT, status=400))
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            with pytest.raises(InvalidClientError):
                await session.post(api_server.url, data=b"body")

        assert [] == api_server.requests

    async def test_no_endpoint(self, api_server: ApiServer, token_server: TokenServer, quick: RetryPolicy) -> None:
        """A request is not sent when the token endpoint is unreachable."""
        credentials = token_server.credentials(token_url=refusing_url())
        async with (
            token_server.provider(credentials=credentials, retry=quick) as provider,
            authorized_session(provider, api_server.url) as session,
        ):
            with pytest.raises(SimpleStoreError):
                await session.get(api_server.url)

        assert [] == api_server.requests


class TestManyRejections:
    async def test_revoked_token(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """100 requests with one revoked token, half of whose 401s come after the renewal, make one token request."""
        api_server.rejected.add("canary-token-1")
        have_arrived, may_straggle = asyncio.Event(), asyncio.Event()
        reject = api_server.handler

        async def handle(request: web.Request) -> web.StreamResponse:
            if request.headers["Authorization"] == BEARER_1:
                if len(api_server.requests) == 100:
                    have_arrived.set()
                await (may_straggle if int(request.path[1:]) % 2 else have_arrived).wait()
            return await reject(request)

        api_server.handler = handle
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            tasks = [asyncio.create_task(fetch(session, f"{api_server.url}/{number}")) for number in range(100)]
            first_half = await asyncio.gather(*tasks[::2])
            after_first_half = len(token_server.requests)
            may_straggle.set()
            second_half = await asyncio.gather(*tasks[1::2])

        assert [200] * 100 == [status for status, _ in first_half + second_half]
        assert (2, 2) == (after_first_half, len(token_server.requests))
        assert {"canary-token-1": 100, "canary-token-2": 100} == {
            token: api_server.tokens.count(token) for token in api_server.tokens
        }

    async def test_always_401(self, token_server: TokenServer, api_server: ApiServer, clock: FakeClock) -> None:
        """500 requests in under 5 s to an API that always responds 401 make two token requests, and no vain replay."""
        api_server.handler = rejecting(api_server, 401, text="never")
        api_server.rejected |= {"", *(f"canary-token-{number}" for number in range(10))}
        provider = token_server.provider(clock=clock)
        async with provider, authorized_session(provider, api_server.url) as session:
            answers = []
            for batch in range(10):
                urls = [f"{api_server.url}/{batch}-{number}" for number in range(50)]
                answers += await asyncio.gather(*(fetch(session, url) for url in urls))
                clock.advance(0.49)
            after_storm = len(token_server.requests)
            clock.advance(0.2)
            await fetch(session, f"{api_server.url}/later")

        sent: dict[str, list[str | None]] = {}
        for request, token in zip(api_server.requests, api_server.tokens, strict=True):
            sent.setdefault(request.path, []).append(token)
        assert [(401, "never")] * 500 == answers
        assert (2, 3) == (after_storm, len(token_server.requests))
        assert [] == [tokens for tokens in sent.values() if len(tokens) != len(set(tokens))]
        assert 501 == len(sent)


class TestOwnTest:
    @pytest.mark.parametrize("status", [200, 403, 419, 498, 500])
    async def test_rejected(self, token_server: TokenServer, api_server: ApiServer, status: int) -> None:
        """`is_rejected` recognises further rejections, by status and headers."""
        api_server.rejected.add("canary-token-1")
        api_server.handler = rejecting(api_server, status, "Expired")
        async with (
            token_server.provider() as provider,
            authorized_session(
                provider, api_server.url, is_rejected=lambda _, headers: headers.get("www-authenticate") == "Expired"
            ) as session,
        ):
            answer = await fetch(session, f"{api_server.url}/items")

        assert (200, '{"path": "/items"}') == answer
        assert [[BEARER_1], [BEARER_2]] == authorizations(api_server)

    async def test_adds(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """It extends the standard rejections: a 401 is one for any result."""
        api_server.rejected.add("canary-token-1")
        async with (
            token_server.provider() as provider,
            authorized_session(provider, api_server.url, is_rejected=lambda _status, _headers: False) as session,
        ):
            status, _ = await fetch(session, api_server.url)

        assert 200 == status

    async def test_raises(self, api_server: ApiServer) -> None:
        """Its own error reaches the caller, and the connection is not leaked."""
        connector = aiohttp.TCPConnector(limit=1)
        async with authorized_session(
            ListSource("first", "second"), api_server.url, is_rejected=lambda status, _: 1 // (status - 200) > 0,
            connector=connector,
        ) as session:  # fmt: skip
            for _ in range(2):
                with pytest.raises(ZeroDivisionError):
                    await session.get(api_server.url)

    async def test_asynchronous(self, api_server: ApiServer) -> None:
        """An awaitable as its result is refused: it would always be true."""
        future = asyncio.get_running_loop().create_future()
        async with authorized_session(
            ListSource("first"), api_server.url, is_rejected=lambda _status, _headers: future
        ) as session:
            with pytest.raises(ConfigurationError, match=r"^is_rejected must return True or False, got Future"):
                await session.get(api_server.url)

    @pytest.mark.parametrize("is_rejected", [5, "419", lambda status: status == 419, ListSource.get_token])
    async def test_wrong(self, is_rejected: Any) -> None:
        """Anything but a plain function of two arguments is refused at once."""
        with pytest.raises(ConfigurationError) as caught:
            BearerAuthMiddleware(ListSource(), origins="https://api.example", is_rejected=is_rejected)

        assert "is_rejected" == caught.value.field


class TestAcceptance:
    async def test_work_between_revocations(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """Tokens that work and are revoked again and again never cost a caller a 401."""
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            statuses = []
            for number in range(1, 6):
                statuses += [(await fetch(session, api_server.url))[0] for _ in range(2)]
                api_server.rejected.add(f"canary-token-{number}")

        assert [200] * 10 == statuses
        assert 5 == len(token_server.requests)

    @pytest.mark.parametrize("status", [302, 404, 429, 503])
    async def test_no_acceptance(self, token_server: TokenServer, api_server: ApiServer, status: int) -> None:
        """A redirect or an error does not count as acceptance of a token, so no renewal follows from it."""
        answer = api_server.handler
        plain = rejecting(api_server, status)
        api_server.handler = lambda request: (plain if request.path == "/plain" else answer)(request)
        api_server.rejected |= {f"canary-token-{number}" for number in range(1, 10)}
        async with token_server.provider() as provider, authorized_session(provider, api_server.url) as session:
            for path in ("", "plain", "", "plain", ""):
                await fetch(session, f"{api_server.url}/{path}", allow_redirects=False)

        assert 2 == len(token_server.requests)

    async def test_once_for_each_replacement(self, api_server: ApiServer) -> None:
        """A source with `accept` receives each replacement that the API accepts, once."""
        accepted: list[str] = []

        class Accepting(ListSource):
            async def get_token(self) -> AccessToken:
                return tokens[0]

            def accept(self, token: AccessToken) -> None:
                accepted.append(token.value)

        tokens = [AccessToken("first", issued_at=0, expires_at=3600)]
        tokens += [
            AccessToken(value, issued_at=0, expires_at=3600, is_replacement=True) for value in ("second", "third")
        ]
        async with authorized_session(Accepting(), api_server.url) as session:
            for _ in range(3):
                for _ in range(2):
                    await fetch(session, api_server.url)
                tokens.append(tokens.pop(0))

        assert ["second", "third"] == accepted
