"""Sandbox: the token endpoint and the API as a plain HTTP client sees them."""

from __future__ import annotations

import asyncio
import base64
import io
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import aiohttp
import attrs
import pytest

from simplestore_async.sandbox import Counters, Sandbox, Status
from tests.support.sandbox_client import FORM, FORM_TYPE, ID, SECRET, HandClock, ask, basic, bearer, send

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

AWKWARD = '+&=%: "é'


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


class TestTokenEndpoint:
    async def test_documented_exchange(self, client: aiohttp.ClientSession) -> None:
        """The documented POST gets the three documented fields with `Cache-Control: no-store`."""
        async with Sandbox() as sandbox:
            status, headers, content = await ask(client, sandbox)

        assert 200 == status
        assert {"access_token", "expires_in", "token_type"} == content.keys()
        assert (3600, "Bearer") == (content["expires_in"], content["token_type"])
        assert "no-store" == headers["Cache-Control"]
        assert Counters(token_requests=1, tokens_issued=1) == sandbox.counters

    async def test_tokens_are_unique(self, client: aiohttp.ClientSession) -> None:
        """Every response has a new token."""
        async with Sandbox() as sandbox:
            assert 20 == len({(await bearer(client, sandbox))["Authorization"] for _ in range(20)})

    @pytest.mark.parametrize("field", ["client_id", "client_secret"])
    async def test_wrong_client(self, client: aiohttp.ClientSession, field: str) -> None:
        """A wrong id or secret gets 400 invalid_client with a title."""
        async with Sandbox() as sandbox:
            status, headers, content = await ask(client, sandbox, data=FORM | {field: "wrong"})

        assert (400, "invalid_client") == (status, content["error"])
        assert {"error", "title"} == content.keys()
        assert "no-store" == headers["Cache-Control"]
        assert Counters(token_requests=1, refusals=1) == sandbox.counters

    @pytest.mark.parametrize(
        "options",
        [
            {"params": FORM, "data": b"", "headers": FORM_TYPE},
            {"params": {"client_secret": SECRET}},
            {"params": {"tenant": "x"}},
            {"data": None, "json": FORM},
            {"data": urlencode(FORM).encode(), "headers": {"Content-Type": "text/plain"}},
            {"data": b"", "headers": FORM_TYPE},
            {"data": b"\xff\xfe", "headers": FORM_TYPE},
            {"data": urlencode(FORM).encode() + b"&client_id=%ff", "headers": FORM_TYPE},
            {"data": urlencode(FORM).encode() + b"&client_id=" + ID.encode(), "headers": FORM_TYPE},
            {"data": "&".join(f"field{n}=x" for n in range(200)).encode(), "headers": FORM_TYPE},
            {"data": FORM | {"grant_type": ""}},
            {"data": FORM | {"client_id": ""}},
            {"data": FORM | {"client_secret": ""}},
            {"data": FORM, "headers": basic(ID, SECRET)},
        ],
        ids=[
            *("query only", "secret in query", "other query", "JSON", "text", "empty", "not UTF-8", "not percent"),
            *("id twice", "many fields", "no grant", "no id", "no secret", "two methods"),
        ],
    )
    async def test_malformed_request(self, client: aiohttp.ClientSession, options: dict[str, Any]) -> None:
        """A request that is not the documented one is refused with invalid_request."""
        async with Sandbox() as sandbox:
            status, _, content = await ask(client, sandbox, **options)

        assert (400, "invalid_request") == (status, content["error"])
        assert SECRET not in str(content)
        assert Counters(token_requests=1, refusals=1) == sandbox.counters

    async def test_other_grant(self, client: aiohttp.ClientSession) -> None:
        """Any other grant than client_credentials is refused."""
        async with Sandbox() as sandbox:
            status, _, content = await ask(client, sandbox, data=FORM | {"grant_type": "password"})

        assert (400, "unsupported_grant_type") == (status, content["error"])

    async def test_other_method(self, client: aiohttp.ClientSession) -> None:
        """Only POST is allowed."""
        async with Sandbox() as sandbox:
            status, headers, _ = await send(client, "GET", sandbox.token_url)

        assert (405, "POST") == (status, headers["Allow"])
        assert 1 == sandbox.counters.refusals

    async def test_awkward_characters(self, client: aiohttp.ClientSession) -> None:
        """Id and secret with reserved characters are accepted in the form and, percent-encoded, in the header."""
        async with Sandbox(client_id=AWKWARD, client_secret=AWKWARD * 2) as sandbox:
            form = {"grant_type": "client_credentials"}
            in_form, _, _ = await ask(client, sandbox, data=form | {"client_id": AWKWARD, "client_secret": AWKWARD * 2})
            headers = basic(AWKWARD, AWKWARD * 2, encode=lambda text: quote(text, safe=""))
            in_header, _, _ = await ask(client, sandbox, data=form, headers=headers)

        assert (200, 200) == (in_form, in_header)

    @pytest.mark.parametrize(
        "headers",
        [
            basic(ID, "wrong"),
            basic("wrong", SECRET),
            basic(ID, "%ff", encode=str),
            {"Authorization": "Basic ?"},
            {"Authorization": "Bearer x"},
        ],
        ids=["secret", "id", "not percent", "not base64", "Bearer"],
    )
    async def test_wrong_basic(self, client: aiohttp.ClientSession, headers: dict[str, str]) -> None:
        """A wrong client in the Authorization header gets 401 and a challenge (RFC 6749 §5.2)."""
        async with Sandbox() as sandbox:
            form = {"grant_type": "client_credentials"}
            status, response_headers, content = await ask(client, sandbox, data=form, headers=headers)

        assert (401, "invalid_client") == (status, content["error"])
        assert response_headers["WWW-Authenticate"].startswith("Basic ")
        assert 1 == sandbox.counters.refusals


class TestApi:
    async def test_echo(self, client: aiohttp.ClientSession) -> None:
        """A request with a valid token is echoed, with the token masked."""
        async with Sandbox() as sandbox:
            headers = await bearer(client, sandbox) | {"X-Trace": "7"}
            url = sandbox.base_url + "orders/1"
            params = [("a", "1"), ("a", "2"), ("b", "é")]
            status, _, content = await send(client, "PUT", url, params=params, data="tiës", headers=headers)

        assert 200 == status
        assert ("PUT", "/api/orders/1") == (content["method"], content["path"])
        assert {"a": ["1", "2"], "b": "é"} == content["query"]
        assert ("tiës", False) == (content["body"], content["is_base64"])
        assert ("7", "Bearer ***") == (content["headers"]["X-Trace"], content["headers"]["Authorization"])
        assert headers["Authorization"].removeprefix("Bearer ") not in str(content)
        assert Counters(token_requests=1, tokens_issued=1, api_requests=1) == sandbox.counters

    async def test_binary_body(self, client: aiohttp.ClientSession) -> None:
        """A body that is not UTF-8 is echoed as base64, with no limit of its size."""
        body = b"\xff" * (3 << 20)
        async with Sandbox() as sandbox:
            headers = await bearer(client, sandbox)
            _, _, content = await send(client, "POST", sandbox.base_url, data=io.BytesIO(body), headers=headers)

        assert content["is_base64"]
        assert body == base64.b64decode(content["body"])

    @pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
    async def test_every_method(self, client: aiohttp.ClientSession, method: str) -> None:
        """Every method and path needs a valid token."""
        async with Sandbox() as sandbox:
            headers = await bearer(client, sandbox)
            for url in (sandbox.base_url, sandbox.base_url + "a/b"):
                async with client.request(method, url, headers=headers) as response:
                    assert 200 == response.status
                async with client.request(method, url) as response:
                    assert 401 == response.status

    @pytest.mark.parametrize(
        ("headers", "challenge"),
        [
            ({}, "Bearer"),
            ({"Authorization": "Basic eDp5"}, "Bearer"),
            ({"Authorization": "Bearer unknown"}, 'Bearer error="invalid_token"'),
            ({"Authorization": "Bearer"}, 'Bearer error="invalid_token"'),
        ],
        ids=["nothing", "Basic", "unknown token", "no token"],
    )
    async def test_unauthorized(self, client: aiohttp.ClientSession, headers: dict[str, str], challenge: str) -> None:
        """Without a valid token the response is 401, with an error code only if a token was sent (RFC 6750 §3.1)."""
        async with Sandbox() as sandbox:
            status, response_headers, _ = await send(client, "GET", sandbox.base_url, headers=headers)

        assert (401, challenge) == (status, response_headers["WWW-Authenticate"])
        assert Counters(api_requests=1, unauthorized=1) == sandbox.counters

    async def test_token_in_query(self, client: aiohttp.ClientSession) -> None:
        """A token in the query is not accepted (RFC 9700 §4.3.2)."""
        async with Sandbox() as sandbox:
            token = (await bearer(client, sandbox))["Authorization"].removeprefix("Bearer ")
            status, _, _ = await send(client, "GET", sandbox.base_url, params={"access_token": token})

        assert 401 == status


class TestLife:
    async def test_expiry(self, client: aiohttp.ClientSession) -> None:
        """A token is valid for exactly its lifetime on the sandbox's clock and is then forgotten."""
        clock = HandClock()
        async with Sandbox(lifetime_seconds=20, clock=clock) as sandbox:
            headers = await bearer(client, sandbox)
            statuses = []
            for seconds in (0, 19.99, 0.01):
                clock.advance(seconds)
                statuses.append((await send(client, "GET", sandbox.base_url, headers=headers))[0])
            await bearer(client, sandbox)

            assert [200, 200, 401] == statuses
            assert 1 == len(sandbox._server.tokens._tokens)

    async def test_lifetime_may_change(self, client: aiohttp.ClientSession) -> None:
        """A changed lifetime applies to later tokens, not to issued ones."""
        clock = HandClock()
        async with Sandbox(lifetime_seconds=20, clock=clock) as sandbox:
            old = await bearer(client, sandbox)
            sandbox.lifetime_seconds = 5
            _, _, content = await ask(client, sandbox)
            clock.advance(10)
            new = {"Authorization": f"Bearer {content['access_token']}"}

            assert 5 == content["expires_in"]
            assert 200 == (await send(client, "GET", sandbox.base_url, headers=old))[0]
            assert 401 == (await send(client, "GET", sandbox.base_url, headers=new))[0]

    async def test_revoke_all(self, client: aiohttp.ClientSession) -> None:
        """revoke_all() revokes issued tokens, not later ones."""
        async with Sandbox() as sandbox:
            old = await bearer(client, sandbox)
            sandbox.revoke_all()
            new = await bearer(client, sandbox)

            assert 401 == (await send(client, "GET", sandbox.base_url, headers=old))[0]
            assert 200 == (await send(client, "GET", sandbox.base_url, headers=new))[0]

    async def test_sandboxes_are_independent(self, client: aiohttp.ClientSession) -> None:
        """Several sandboxes run at once, and each rejects the tokens of the others."""
        async with Sandbox() as one, Sandbox() as two:
            headers = await bearer(client, one)

            assert one.token_url != two.token_url
            assert 200 == (await send(client, "GET", one.base_url, headers=headers))[0]
            assert 401 == (await send(client, "GET", two.base_url, headers=headers))[0]


class TestFaults:
    async def test_failures_queue_up(self, client: aiohttp.ClientSession) -> None:
        """Scripted failures are queued, with and without Retry-After."""
        date = "Fri, 01 Jan 2027 00:00:00 GMT"
        async with Sandbox() as sandbox:
            sandbox.fail_next(1)
            sandbox.fail_next(1, Status(500, retry_after=date))
            responses = [await ask(client, sandbox) for _ in range(3)]

        assert [503, 500, 200] == [status for status, _, _ in responses]
        assert [None, date, None] == [headers.get("Retry-After") for _, headers, _ in responses]

    @pytest.mark.parametrize("is_failing", [False, True])
    async def test_latency(self, client: aiohttp.ClientSession, *, is_failing: bool) -> None:
        """Latency delays every response of the token endpoint, even failures, and none of the API."""
        async with Sandbox() as sandbox:
            headers = await bearer(client, sandbox)
            sandbox.latency_seconds = 0.1
            if is_failing:
                sandbox.fail_next(1)
            loop = asyncio.get_running_loop()
            started_at = loop.time()
            await ask(client, sandbox)
            assert loop.time() - started_at >= 0.099  # uvloop's clock has whole milliseconds

            sandbox.latency_seconds = 3600
            async with asyncio.timeout(60):
                assert 200 == (await send(client, "GET", sandbox.base_url, headers=headers))[0]


class TestContext:
    async def test_leaves_nothing_behind(self, client: aiohttp.ClientSession) -> None:
        """Leaving the sandbox drops a delayed response, closes the port and leaves no task."""
        clock = HandClock()
        tasks = asyncio.all_tasks()
        async with asyncio.timeout(60):
            async with Sandbox(latency_seconds=3600, clock=clock) as sandbox:
                token_url = sandbox.token_url
                request = asyncio.create_task(ask(client, sandbox))
                await clock.was_read.wait()

            with pytest.raises(aiohttp.ClientConnectionError):
                await request
            with pytest.raises(aiohttp.ClientConnectorError):
                await client.get(token_url)
        assert tasks == asyncio.all_tasks()

    async def test_entered_again(self, client: aiohttp.ClientSession) -> None:
        """Counters and tokens survive leaving and re-entering the sandbox."""
        sandbox = Sandbox()
        async with sandbox:
            headers = await bearer(client, sandbox)
        async with sandbox:
            assert 200 == (await send(client, "GET", sandbox.base_url, headers=headers))[0]

        assert Counters(token_requests=1, tokens_issued=1, api_requests=1) == sandbox.counters

    @pytest.mark.parametrize("name", ["token_url", "base_url", "credentials", "environment"])
    async def test_addresses_need_a_running_sandbox(self, name: str) -> None:
        """Outside its context a sandbox has no addresses, and the error has a hint."""
        sandbox = Sandbox()
        with pytest.raises(RuntimeError, match="async with Sandbox"):
            getattr(sandbox, name)
        async with sandbox:
            assert getattr(sandbox, name)
        with pytest.raises(RuntimeError, match="async with Sandbox"):
            getattr(sandbox, name)

    async def test_credentials_and_environment(self) -> None:
        """Credentials and environment have the same client and endpoint, with the paths of SimpleStore."""
        async with Sandbox(client_id="me", client_secret="hush") as sandbox:
            assert {
                "SIMPLESTORE_CLIENT_ID": "me",
                "SIMPLESTORE_CLIENT_SECRET": "hush",
                "SIMPLESTORE_TOKEN_URL": sandbox.token_url,
                "SIMPLESTORE_BASE_URL": sandbox.base_url,
            } == sandbox.environment
            credentials = sandbox.credentials
            assert ("me", "hush") == (credentials.client_id, credentials.client_secret)
            assert sandbox.token_url == str(credentials.token_url)
            assert sandbox.token_url.endswith("/connect/token")
            assert sandbox.base_url.endswith("/api/")

    async def test_counters_are_a_snapshot(self, client: aiohttp.ClientSession) -> None:
        """`counters` is an immutable snapshot."""
        async with Sandbox() as sandbox:
            before = sandbox.counters
            await ask(client, sandbox)

        assert Counters() == before
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            before.token_requests = 5  # type: ignore[misc]  # it must fail
