"""Sandbox: the token endpoint, the API, tokens and contexts as a plain HTTP client sees them."""

from __future__ import annotations

import asyncio
import base64
import io
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pytest

from simplestore_async.sandbox import Counters, Late, Sandbox
from tests.support.sandbox_client import FORM, FORM_TYPE, ID, SECRET, ask, basic, bearer, call, send

if TYPE_CHECKING:
    import aiohttp

    from tests.support.clocks import FakeClock

AWKWARD = '+&=%: "é'
GRANT = {"grant_type": "client_credentials"}
MALFORMED: dict[str, dict[str, Any]] = {
    "query only": {"params": FORM, "data": b"", "headers": FORM_TYPE},
    "secret in query": {"params": {"client_secret": SECRET}},
    "other query": {"params": {"tenant": "x"}},
    "JSON": {"data": None, "json": FORM},
    "text": {"data": urlencode(FORM).encode(), "headers": {"Content-Type": "text/plain"}},
    "empty": {"data": b"", "headers": FORM_TYPE},
    "not UTF-8": {"data": b"\xff\xfe", "headers": FORM_TYPE},
    "not percent": {"data": urlencode(FORM).encode() + b"&client_id=%ff", "headers": FORM_TYPE},
    "id twice": {"data": urlencode(FORM).encode() + b"&client_id=" + ID.encode(), "headers": FORM_TYPE},
    "many fields": {"data": "&".join(f"field{n}=x" for n in range(200)).encode(), "headers": FORM_TYPE},
    "no grant": {"data": FORM | {"grant_type": ""}},
    "no id": {"data": FORM | {"client_id": ""}},
    "no secret": {"data": FORM | {"client_secret": ""}},
    "two methods": {"data": FORM, "headers": basic(ID, SECRET)},
    "other grant": {"data": FORM | {"grant_type": "password"}},
}


class TestTokenEndpoint:
    async def test_documented_exchange(self, client: aiohttp.ClientSession, sandbox: Sandbox) -> None:
        """Each documented POST gets the three documented fields, with a new token and `Cache-Control: no-store`."""
        status, headers, content = await ask(client, sandbox)
        _, _, second = await ask(client, sandbox)

        assert 200 == status
        assert {"access_token", "expires_in", "token_type"} == content.keys()
        assert (3600, "Bearer") == (content["expires_in"], content["token_type"])
        assert "no-store" == headers["Cache-Control"]
        assert content["access_token"] != second["access_token"]
        assert Counters(token_requests=2, tokens_issued=2) == sandbox.counters

    @pytest.mark.parametrize("field", ["client_id", "client_secret"])
    async def test_wrong_client(self, client: aiohttp.ClientSession, sandbox: Sandbox, field: str) -> None:
        """A wrong id or secret gets 400 invalid_client with a title."""
        status, headers, content = await ask(client, sandbox, data=FORM | {field: "wrong"})

        assert (400, "invalid_client") == (status, content["error"])
        assert {"error", "title"} == content.keys()
        assert "no-store" == headers["Cache-Control"]
        assert Counters(token_requests=1, refusals=1) == sandbox.counters

    @pytest.mark.parametrize("options", MALFORMED.values(), ids=MALFORMED)
    async def test_malformed_request(
        self, client: aiohttp.ClientSession, sandbox: Sandbox, options: dict[str, Any]
    ) -> None:
        """A request that is not the documented one is refused with invalid_request or unsupported_grant_type."""
        status, _, content = await ask(client, sandbox, **options)

        error = "unsupported_grant_type" if options is MALFORMED["other grant"] else "invalid_request"
        assert (400, error) == (status, content["error"])
        assert SECRET not in str(content)
        assert Counters(token_requests=1, refusals=1) == sandbox.counters

    async def test_other_method(self, client: aiohttp.ClientSession, sandbox: Sandbox) -> None:
        """Only POST is allowed."""
        status, headers, _ = await send(client, "GET", sandbox.token_url)
        assert (405, "POST") == (status, headers["Allow"])
        assert 1 == sandbox.counters.refusals

    async def test_awkward_characters(self, client: aiohttp.ClientSession) -> None:
        """Id and secret with reserved characters are accepted in the form and, percent-encoded, in the header."""
        form = GRANT | {"client_id": AWKWARD, "client_secret": AWKWARD * 2}
        headers = basic(AWKWARD, AWKWARD * 2, encode=lambda text: quote(text, safe=""))
        async with Sandbox(client_id=AWKWARD, client_secret=AWKWARD * 2) as sandbox:
            assert 200 == (await ask(client, sandbox, data=form))[0]
            assert 200 == (await ask(client, sandbox, data=GRANT, headers=headers))[0]

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
    async def test_wrong_basic(self, client: aiohttp.ClientSession, sandbox: Sandbox, headers: dict[str, str]) -> None:
        """A wrong client in the Authorization header gets 401 and a challenge (RFC 6749 §5.2)."""
        status, response_headers, content = await ask(client, sandbox, data=GRANT, headers=headers)

        assert (401, "invalid_client") == (status, content["error"])
        assert response_headers["WWW-Authenticate"].startswith("Basic ")
        assert 1 == sandbox.counters.refusals

    async def test_latency(self, client: aiohttp.ClientSession, sandbox: Sandbox) -> None:
        """Latency delays every response of the token endpoint, in addition to a fault, and none of the API."""
        headers = await bearer(client, sandbox)
        sandbox.latency_seconds = 0.05
        sandbox.fail_next(1)
        sandbox.fail_next(1, Late(0.05))
        loop = asyncio.get_running_loop()
        for least_seconds in (0.049, 0.098):  # uvloop's clock has whole milliseconds
            started_at = loop.time()
            await ask(client, sandbox)
            assert loop.time() - started_at >= least_seconds

        sandbox.latency_seconds = 3600
        async with asyncio.timeout(60):
            assert 200 == await call(client, sandbox, headers)


class TestApi:
    async def test_echo(self, client: aiohttp.ClientSession, sandbox: Sandbox) -> None:
        """A request with a valid token is echoed, with the token masked."""
        headers = await bearer(client, sandbox) | {"X-Trace": "7"}
        params = [("a", "1"), ("a", "2"), ("b", "é")]
        url = sandbox.base_url + "orders/1"
        status, _, content = await send(client, "PUT", url, params=params, data="tiës", headers=headers)

        assert 200 == status
        assert ("PUT", "/api/orders/1") == (content["method"], content["path"])
        assert {"a": ["1", "2"], "b": "é"} == content["query"]
        assert ("tiës", False) == (content["body"], content["is_base64"])
        assert ("7", "Bearer ***") == (content["headers"]["X-Trace"], content["headers"]["Authorization"])
        assert headers["Authorization"].removeprefix("Bearer ") not in str(content)
        assert Counters(token_requests=1, tokens_issued=1, api_requests=1) == sandbox.counters

    async def test_binary_body(self, client: aiohttp.ClientSession, sandbox: Sandbox) -> None:
        """A body that is not UTF-8 is echoed as base64, with no limit of its size."""
        body = b"\xff" * (3 << 20)
        headers = await bearer(client, sandbox)
        _, _, content = await send(client, "POST", sandbox.base_url, data=io.BytesIO(body), headers=headers)
        assert content["is_base64"]
        assert body == base64.b64decode(content["body"])

    async def test_every_method(self, client: aiohttp.ClientSession, sandbox: Sandbox) -> None:
        """Every method and path needs a valid token."""
        headers = await bearer(client, sandbox)
        for method in ("GET", "HEAD", "DELETE", "PATCH", "OPTIONS", "PROPFIND"):
            for url in (sandbox.base_url, sandbox.base_url + "a/b"):
                async with client.request(method, url, headers=headers) as response:
                    assert 200 == response.status, method
                async with client.request(method, url) as response:
                    assert 401 == response.status, method

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
    async def test_unauthorized(
        self, client: aiohttp.ClientSession, sandbox: Sandbox, headers: dict[str, str], challenge: str
    ) -> None:
        """Without a valid token the response is 401, with an error code only if a token was sent (RFC 6750 §3.1)."""
        status, response_headers, _ = await send(client, "GET", sandbox.base_url, headers=headers)
        assert (401, challenge) == (status, response_headers["WWW-Authenticate"])
        assert Counters(api_requests=1, unauthorized=1) == sandbox.counters

    async def test_token_in_query(self, client: aiohttp.ClientSession, sandbox: Sandbox) -> None:
        """A token in the query is not accepted (RFC 9700 §4.3.2)."""
        token = (await bearer(client, sandbox))["Authorization"].removeprefix("Bearer ")
        status, _, _ = await send(client, "GET", sandbox.base_url, params={"access_token": token})
        assert 401 == status


class TestLife:
    async def test_expiry(self, client: aiohttp.ClientSession, sandbox: Sandbox, clock: FakeClock) -> None:
        """A token is valid for exactly the lifetime at its issue, on the sandbox's clock, and is then forgotten."""
        sandbox.lifetime_seconds = 20
        headers = await bearer(client, sandbox)
        sandbox.lifetime_seconds = 5
        assert 5 == (await ask(client, sandbox))[2]["expires_in"]
        statuses = []
        for seconds in (0, 19.99, 0.01):
            clock.advance(seconds)
            statuses.append(await call(client, sandbox, headers))
        await bearer(client, sandbox)

        assert [200, 200, 401] == statuses
        assert 1 == len(sandbox._server.tokens._tokens)

    async def test_revoke(self, client: aiohttp.ClientSession, sandbox: Sandbox, clock: FakeClock) -> None:
        """revoke() revokes only the given token and returns whether it was valid."""
        one, other = [await bearer(client, sandbox) for _ in range(2)]
        value = one["Authorization"].removeprefix("Bearer ")
        assert [True, False] == [sandbox.revoke(value) for _ in range(2)]
        assert not sandbox.revoke("unknown")
        assert [401, 200] == [await call(client, sandbox, headers) for headers in (one, other)]
        clock.advance(3600)
        assert not sandbox.revoke(other["Authorization"].removeprefix("Bearer "))


class TestContext:
    async def test_entered_again(self, client: aiohttp.ClientSession) -> None:
        """Counters and tokens survive leaving and re-entering the sandbox."""
        sandbox = Sandbox()
        await sandbox.__aexit__(None, None, None)  # has no effect
        async with sandbox:
            headers = await bearer(client, sandbox)
        async with sandbox:
            assert 200 == await call(client, sandbox, headers)
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
