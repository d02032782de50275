"""`simplestore_async.sandbox`, seen by a plain HTTP client."""

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
        """The documented POST gets the three documented fields, and no cache may keep them."""
        async with Sandbox() as sandbox:
            status, headers, content = await ask(client, sandbox)

        assert 200 == status
        assert {"access_token", "expires_in", "token_type"} == content.keys()
        assert (3600, "Bearer") == (content["expires_in"], content["token_type"])
        assert "no-store" == headers["Cache-Control"]
        assert Counters(token_requests=1, tokens_issued=1) == sandbox.counters

    async def test_every_token_is_new(self, client: aiohttp.ClientSession) -> None:
        """No two responses hold the same token."""
        async with Sandbox() as sandbox:
            assert 20 == len({(await bearer(client, sandbox))["Authorization"] for _ in range(20)})

    @pytest.mark.parametrize("field", ["client_id", "client_secret"])
    async def test_wrong_client(self, client: aiohttp.ClientSession, field: str) -> None:
        """A wrong id and a wrong secret get the same response: 400 invalid_client with a title."""
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
    )
    async def test_malformed_request(self, client: aiohttp.ClientSession, options: dict[str, Any]) -> None:
        """An undocumented request is refused: query, JSON, other types, missing and repeated fields."""
        async with Sandbox() as sandbox:
            status, _, content = await ask(client, sandbox, **options)

        assert (400, "invalid_request") == (status, content["error"])
        assert SECRET not in str(content)
        assert Counters(token_requests=1, refusals=1) == sandbox.counters

    async def test_other_grant(self, client: aiohttp.ClientSession) -> None:
        """Only client_credentials is a grant here."""
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
        """Id and secret with reserved characters arrive intact in the form and, form-encoded, in Basic."""
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
    )
    async def test_wrong_basic(self, client: aiohttp.ClientSession, headers: dict[str, str]) -> None:
        """A client that fails in the Authorization header gets 401 and a challenge (RFC 6749 5.2)."""
        async with Sandbox() as sandbox:
            form = {"grant_type": "client_credentials"}
            status, reply_headers, content = await ask(client, sandbox, data=form, headers=headers)

        assert (401, "invalid_client") == (status, content["error"])
        assert reply_headers["WWW-Authenticate"].startswith("Basic ")
        assert 1 == sandbox.counters.refusals


class TestApi:
    async def test_echo(self, client: aiohttp.ClientSession) -> None:
        """An authorised request is echoed whole, with its token masked."""
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
        """A body that is not UTF-8 is returned as base64, and marked so; its size is not limited."""
        body = b"\xff" * (3 << 20)
        async with Sandbox() as sandbox:
            headers = await bearer(client, sandbox)
            _, _, content = await send(client, "POST", sandbox.base_url, data=io.BytesIO(body), headers=headers)

        assert content["is_base64"]
        assert body == base64.b64decode(content["body"])

    @pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
    async def test_every_method(self, client: aiohttp.ClientSession, method: str) -> None:
        """Every method is authorised alike."""
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
    )
    async def test_unauthorized(self, client: aiohttp.ClientSession, headers: dict[str, str], challenge: str) -> None:
        """Without a valid token: 401, with an error code only if one was sent (RFC 6750 3.1)."""
        async with Sandbox() as sandbox:
            status, reply_headers, _ = await send(client, "GET", sandbox.base_url, headers=headers)

        assert (401, challenge) == (status, reply_headers["WWW-Authenticate"])
        assert Counters(api_requests=1, unauthorized=1) == sandbox.counters

    async def test_token_in_query(self, client: aiohttp.ClientSession) -> None:
        """A token in the query is none (RFC 9700 4.3.2)."""
        async with Sandbox() as sandbox:
            token = (await bearer(client, sandbox))["Authorization"].removeprefix("Bearer ")
            status, _, _ = await send(client, "GET", sandbox.base_url, params={"access_token": token})

        assert 401 == status


class TestLife:
    async def test_expiry_follows_the_clock(self, client: aiohttp.ClientSession) -> None:
        """A token lives exactly its lifetime, by the injected clock; then it is forgotten."""
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
        """A new lifetime holds for the tokens that follow, not for those that are out."""
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
        """Revoked tokens are refused at once, later ones are not."""
        async with Sandbox() as sandbox:
            old = await bearer(client, sandbox)
            sandbox.revoke_all()
            new = await bearer(client, sandbox)

            assert 401 == (await send(client, "GET", sandbox.base_url, headers=old))[0]
            assert 200 == (await send(client, "GET", sandbox.base_url, headers=new))[0]

    async def test_sandboxes_are_apart(self, client: aiohttp.ClientSession) -> None:
        """Several run at once, and the token of one is worth nothing in the other."""
        async with Sandbox() as one, Sandbox() as two:
            headers = await bearer(client, one)

            assert one.token_url != two.token_url
            assert 200 == (await send(client, "GET", one.base_url, headers=headers))[0]
            assert 401 == (await send(client, "GET", two.base_url, headers=headers))[0]


class TestFaults:
    async def test_failures_queue_up(self, client: aiohttp.ClientSession) -> None:
        """Scripted failures come one after the other, with and without Retry-After."""
        date = "Fri, 01 Jan 2027 00:00:00 GMT"
        async with Sandbox() as sandbox:
            sandbox.fail_next(1)
            sandbox.fail_next(1, Status(500, retry_after=date))
            replies = [await ask(client, sandbox) for _ in range(3)]

        assert [503, 500, 200] == [status for status, _, _ in replies]
        assert [None, date, None] == [headers.get("Retry-After") for _, headers, _ in replies]

    @pytest.mark.parametrize("is_failing", [False, True])
    async def test_latency(self, client: aiohttp.ClientSession, *, is_failing: bool) -> None:
        """Every response of the token endpoint is late, failures too, and none of the API is."""
        async with Sandbox() as sandbox:
            headers = await bearer(client, sandbox)
            sandbox.latency_seconds = 0.1
            if is_failing:
                sandbox.fail_next(1)
            loop = asyncio.get_running_loop()
            started_at = loop.time()
            await ask(client, sandbox)
            assert loop.time() - started_at >= 0.099  # uvloop's clock counts whole milliseconds

            sandbox.latency_seconds = 3600
            async with asyncio.timeout(60):
                assert 200 == (await send(client, "GET", sandbox.base_url, headers=headers))[0]


class TestContext:
    async def test_leaves_nothing_behind(self, client: aiohttp.ClientSession) -> None:
        """Leaving drops a response that is still delayed, closes the port, and leaves no task behind."""
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

    async def test_may_be_entered_again(self, client: aiohttp.ClientSession) -> None:
        """The counters and tokens of a sandbox outlive its context."""
        sandbox = Sandbox()
        async with sandbox:
            headers = await bearer(client, sandbox)
        async with sandbox:
            assert 200 == (await send(client, "GET", sandbox.base_url, headers=headers))[0]

        assert Counters(token_requests=1, tokens_issued=1, api_requests=1) == sandbox.counters

    @pytest.mark.parametrize("name", ["token_url", "base_url", "credentials", "environment"])
    async def test_addresses_need_a_running_sandbox(self, name: str) -> None:
        """Before and after its context a sandbox has no addresses; the error has a hint."""
        sandbox = Sandbox()
        with pytest.raises(RuntimeError, match="async with Sandbox"):
            getattr(sandbox, name)
        async with sandbox:
            assert getattr(sandbox, name)
        with pytest.raises(RuntimeError, match="async with Sandbox"):
            getattr(sandbox, name)

    async def test_credentials_and_environment(self) -> None:
        """Both name the same client and endpoint; the paths are those of SimpleStore."""
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

    async def test_counters_are_a_value(self, client: aiohttp.ClientSession) -> None:
        """A snapshot of the counters does not change, and cannot be changed."""
        async with Sandbox() as sandbox:
            before = sandbox.counters
            await ask(client, sandbox)

        assert Counters() == before
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            before.token_requests = 5  # type: ignore[misc]  # it must fail
