"""`open_session()`: sources of tokens, addresses, TLS, connectors, middlewares and other options of aiohttp."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from simplestore_async import MemoryTokenCache, RenewalPolicy, TokenProvider, open_session
from simplestore_async.errors import ConfigurationError, TokenEndpointError
from simplestore_async.events import TokenReceived
from simplestore_async.sandbox import Response
from tests.support.api_requests import OneToken, get
from tests.support.resolver import LocalResolver
from tests.support.tls import private_ca

if TYPE_CHECKING:
    from simplestore_async.events import Event
    from simplestore_async.sandbox import Sandbox
    from tests.support.servers import ApiServer


def name_everything(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    for name, value in sandbox.environment.items():
        monkeypatch.setenv(name, value)


def api_tokens(sandbox: Sandbox) -> list[int | None]:
    return [request.token_number for request in sandbox.api.requests]


class TestSource:
    @pytest.mark.parametrize("named", ["environment", "argument"])
    async def test_environment(self, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
        """Without arguments everything comes from the environment, and a base URL that is passed takes precedence."""
        name_everything(monkeypatch, sandbox)
        base_url = sandbox.base_url if named == "argument" else None
        if base_url:
            monkeypatch.setenv("SIMPLESTORE_BASE_URL", "https://api.example")
        async with open_session(base_url=base_url) as session:
            status = await get(session, "items")

        assert (200, ["/api/items"]) == (status, [request.path for request in sandbox.api.requests])

    async def test_credentials(self, sandbox: Sandbox) -> None:
        """From credentials a provider is created with the given cache, policy and listener."""
        cache, credentials = MemoryTokenCache(), sandbox.credentials
        events: list[Event] = []
        options: dict[str, Any] = {"base_url": sandbox.base_url, "cache": cache, "on_event": events.append}
        sandbox.fail_next(1)
        async with open_session(credentials, policy=RenewalPolicy(budget_seconds=0.1), **options) as session:
            with pytest.raises(TokenEndpointError, match="503"):
                await session.get("items")
        async with open_session(credentials, **options) as session:
            await get(session, "items")

        assert 2 == sandbox.counters.token_requests
        assert await cache.get(credentials.cache_key) is not None
        assert ["endpoint"] == [event.source for event in events if isinstance(event, TokenReceived)]

    async def test_origins_and_environment(
        self, sandbox: Sandbox, api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`origins` replaces the environment's base URL, unless the credentials also come from the environment."""
        name_everything(monkeypatch, sandbox)
        for credentials in (sandbox.credentials, None):
            async with open_session(credentials, origins=api_server.url) as session:
                for url in (f"{sandbox.base_url}items", f"{api_server.url}/items"):
                    await get(session, url)

        assert [None, 2] == api_tokens(sandbox)
        assert [True, True] == [token is not None for token in api_server.tokens]

    async def test_provider(self, sandbox: Sandbox) -> None:
        """Sessions may share a provider, which stays open when they close."""
        async with TokenProvider(sandbox.credentials) as provider:
            for _ in range(2):
                async with open_session(provider, base_url=sandbox.base_url) as session:
                    await get(session, "items")
            await provider.get_token()

        assert [1, 1, 1] == [request.token_number for request in sandbox.requests]

    @pytest.mark.parametrize(
        "options", [{"cache": MemoryTokenCache()}, {"policy": RenewalPolicy()}, {"on_event": print}]
    )
    async def test_provider_options(self, options: dict[str, Any]) -> None:
        """Arguments for a provider are refused if a source is passed."""
        with pytest.raises(ConfigurationError) as caught:
            open_session(OneToken(), base_url="https://api.example", **options)

        assert [caught.value.field] == list(options)

    @pytest.mark.parametrize("source", ["secret", 5, OneToken])
    @pytest.mark.parametrize("base_url", ["https://api.example", None])
    async def test_wrong_source(self, source: Any, base_url: str | None) -> None:
        """Any other source is refused without showing its value."""
        with pytest.raises(ConfigurationError, match=r"open_session\(ClientCredentials\(|pass an instance") as caught:
            open_session(source, base_url=base_url)

        assert "source" == caught.value.field
        assert "secret" not in str(caught.value).replace("client_secret", "")


class TestAddresses:
    @pytest.mark.parametrize("path", ["/v1/a%2Fb%2520c", "/v1/a%2Fb%2520c/"])
    async def test_path(self, api_server: ApiServer, path: str) -> None:
        """A base URL may have a path, with or without a trailing slash, and relative URLs are resolved below it."""
        paths: list[str] = []

        async def keep_raw_path(request: web.Request) -> web.StreamResponse:
            paths.append(request.raw_path)
            return web.Response()

        api_server.handler = keep_raw_path
        async with open_session(OneToken(), base_url=api_server.url + path) as session:
            for url in ("items/1", "/items", "?page=2", f"{api_server.url}/other"):
                await get(session, url)

        assert ["/v1/a%2Fb%2520c/items/1", "/items", "/v1/a%2Fb%2520c/?page=2", "/other"] == paths
        assert ["own-token"] * 4 == api_server.tokens

    @pytest.mark.parametrize("options", [{}, {"base_url": None, "origins": []}, {"origins": iter(())}])
    async def test_nothing_named(self, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
        """Without a base URL or origins the session is refused with a hint, and an empty variable counts as unset."""
        monkeypatch.setenv("SIMPLESTORE_BASE_URL", "")
        with pytest.raises(
            ConfigurationError, match=r"pass it, set SIMPLESTORE_BASE_URL, or name .* origins$"
        ) as caught:
            open_session(OneToken(), **options)

        assert "base_url" == caught.value.field

    @pytest.mark.parametrize(
        ("field", "url"),
        [
            ("base_url", "http://api.example"),
            ("base_url", "https://me:hunter2@api.example"),
            ("base_url", "https://api.example/?x=1"),
            ("base_url", 5),
            ("origins", "https://files.example/x"),
        ],
    )
    async def test_wrong_address(self, field: str, url: Any) -> None:
        """A wrong address is refused by its argument's name without showing a password."""
        with pytest.raises(ConfigurationError, match=f"^{field} ") as caught:
            open_session(OneToken(), **{"base_url": "https://api.example", field: url})

        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize("base_url", ["api.example", "https://api.example/v1?x=1"])
    async def test_wrong_base_url_in_environment(
        self, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, base_url: str
    ) -> None:
        """The error of a wrong base URL from the environment names the variable."""
        name_everything(monkeypatch, sandbox)
        monkeypatch.setenv("SIMPLESTORE_BASE_URL", base_url)
        with pytest.raises(ConfigurationError, match=r"^SIMPLESTORE_BASE_URL "):
            open_session()


async def test_own_connector(api_server: ApiServer) -> None:
    """The caller's connector is used and, with `connector_owner=False`, stays open."""
    async with aiohttp.TCPConnector(resolver=LocalResolver(), ssl=private_ca().client) as connector:
        async with open_session(
            OneToken(),
            base_url=f"http://api.example:{api_server.port}",
            allow_insecure_http=True,
            ssl=private_ca().client,
            connector=connector,
            connector_owner=False,
        ) as session:
            await get(session, "items")
            assert session.connector is connector

        assert not connector.closed
    assert ["own-token"] == api_server.tokens


@pytest.mark.parametrize(
    ("ssl", "connector_ssl", "field"),
    [
        (private_ca().client, True, "ssl"),
        (aiohttp.Fingerprint(bytes(32)), private_ca().client, "ssl"),
        (aiohttp.Fingerprint(bytes(32)), aiohttp.Fingerprint(bytes(32)), "ssl"),
        (None, False, "connector's ssl"),
        (False, None, "ssl"),
    ],
    ids=["context", "fingerprint and context", "two fingerprints", "connector without verification", "off"],
)
async def test_contradiction(ssl: Any, connector_ssl: Any, field: str) -> None:
    """A TLS setting that would have no effect, or disables verification, is refused."""
    connector = None if connector_ssl is None else aiohttp.TCPConnector(ssl=connector_ssl)
    with pytest.raises(ConfigurationError) as caught:
        open_session(OneToken(), base_url="https://api.example", ssl=ssl, connector=connector)
    if connector is not None:
        await connector.close()

    assert field == caught.value.field


async def test_is_rejected(sandbox: Sandbox) -> None:
    """`is_rejected` recognises the API's own way to reject a token."""
    sandbox.api.fail_next(1, Response(419))
    async with open_session(
        sandbox.credentials, base_url=sandbox.base_url, is_rejected=lambda status, _: status == 419
    ) as session:
        assert 200 == await get(session, "items")


async def test_client_options(sandbox: Sandbox) -> None:
    """Headers, cookies and other options apply to API requests and never to the token request."""

    class Request(aiohttp.ClientRequest):
        def update_auto_headers(self, skip_auto_headers: Any) -> None:
            super().update_auto_headers(skip_auto_headers)
            self.headers["X-Class"] = "mine"

    sandbox.fail_next(1)
    async with open_session(
        sandbox.credentials,
        base_url=sandbox.base_url,
        headers={"X-Tag": "mine", "Content-Type": "application/json", "Authorization": "Basic mine"},
        cookies={"session": "mine"},
        cookie_jar=aiohttp.CookieJar(unsafe=True),
        raise_for_status=True,
        json_serialize=lambda _: '"mine"',
        timeout=aiohttp.ClientTimeout(total=5),
        request_class=Request,
    ) as session:
        await (await session.post("items", json={})).read()

    (sent,) = sandbox.api.requests
    assert ["mine", "mine", "session=mine"] == [sent.headers[name] for name in ("X-Tag", "X-Class", "Cookie")]
    assert b'"mine"' == sent.body
    for request in sandbox.token_endpoint.requests:
        assert "application/x-www-form-urlencoded" == request.headers["Content-Type"]
        assert "mine" not in f"{dict(request.headers)} {request.body!r}"


async def test_callers_middlewares(sandbox: Sandbox) -> None:
    """The caller's middlewares run in order, outside of `BearerAuthMiddleware` and once for a replayed request."""
    seen: list[str] = []

    def named(name: str) -> aiohttp.ClientMiddlewareType:
        async def middleware(
            request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            seen.append(f"{name} {request.headers.get('Authorization')}")
            return await handler(request)

        return middleware

    sandbox.reject_next(1)
    async with open_session(
        sandbox.credentials, base_url=sandbox.base_url, middlewares=[named("outer"), named("inner")]
    ) as session:
        await get(session, "items")

    assert (["outer None", "inner None"], 2) == (seen, len(sandbox.api.requests))
