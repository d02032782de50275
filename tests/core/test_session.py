"""`open_session()`: where credentials and addresses come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from simplestore_async import MemoryTokenCache, RenewalPolicy, TokenProvider, open_session
from simplestore_async.errors import ConfigurationError
from simplestore_async.events import TokenReceived
from tests.support.api_requests import OneToken
from tests.support.resolver import LocalResolver
from tests.support.servers import ApiServer, TokenServer
from tests.support.sessions import clear_environment, get, name_credentials

if TYPE_CHECKING:
    from simplestore_async.events import Event
    from simplestore_async.sandbox import Sandbox


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that names no credentials and no proxies."""
    clear_environment(monkeypatch)
    return monkeypatch


class TestSource:
    async def test_environment(self, sandbox: Sandbox, environment: pytest.MonkeyPatch) -> None:
        """Without arguments, credentials and base URL come from the environment."""
        for name, value in sandbox.environment.items():
            environment.setenv(name, value)
        async with open_session() as session:
            status = await get(session, "items")

        assert (200, ["/api/items"]) == (status, [request.path for request in sandbox.api.requests])

    async def test_argument_beats_environment(self, sandbox: Sandbox, environment: pytest.MonkeyPatch) -> None:
        """A base URL that is passed stands in for the one that the environment names."""
        for name, value in sandbox.environment.items():
            environment.setenv(name, value)
        environment.setenv("SIMPLESTORE_BASE_URL", "https://api.example")
        async with open_session(base_url=sandbox.base_url) as session:
            await get(session, "items")

        assert [1] == [request.token_number for request in sandbox.api.requests]

    async def test_credentials(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """Credentials make a provider, with the cache, policy and listener that are passed along."""
        cache, policy = MemoryTokenCache(), RenewalPolicy(budget_seconds=0.4)
        events: list[Event] = []
        credentials = token_server.credentials()
        token_server.replies.append(503)
        async with open_session(
            credentials, base_url=api_server.url, cache=cache, policy=policy, on_event=events.append
        ) as session:
            with pytest.raises(Exception, match="503"):
                await session.get("/")
        async with open_session(credentials, base_url=api_server.url, cache=cache, on_event=events.append) as session:
            await get(session, "/")

        assert 2 == len(token_server.requests)
        assert await cache.get(credentials.cache_key) is not None
        assert ["endpoint"] == [event.source for event in events if isinstance(event, TokenReceived)]

    async def test_base_url_from_environment(self, sandbox: Sandbox, environment: pytest.MonkeyPatch) -> None:
        """With credentials of one's own the base URL may still come from the environment."""
        environment.setenv("SIMPLESTORE_BASE_URL", sandbox.base_url)
        async with open_session(sandbox.credentials) as session:
            await get(session, "items")

        assert [1] == [request.token_number for request in sandbox.api.requests]

    async def test_environment_beside_origins(
        self, token_server: TokenServer, api_server: ApiServer, environment: pytest.MonkeyPatch
    ) -> None:
        """With credentials and origins of one's own the environment's base URL gets no token."""
        async with ApiServer() as named:
            environment.setenv("SIMPLESTORE_BASE_URL", api_server.url)
            async with open_session(token_server.credentials(), origins=named.url) as session:
                for server in (api_server, named):
                    await get(session, f"{server.url}/items")

            assert ([None], ["canary-token-1"]) == (api_server.tokens, named.tokens)

    async def test_origins_beside_environment(
        self, token_server: TokenServer, api_server: ApiServer, environment: pytest.MonkeyPatch
    ) -> None:
        """With credentials from the environment its base URL is used, and further origins get the token too."""
        name_credentials(environment, token_server)
        environment.setenv("SIMPLESTORE_BASE_URL", api_server.url)
        async with ApiServer() as files:
            async with open_session(origins=files.url) as session:
                for url in ("items", f"{files.url}/items"):
                    await get(session, url)

            assert (["canary-token-1"], ["canary-token-1"]) == (api_server.tokens, files.tokens)

    async def test_provider(self, sandbox: Sandbox) -> None:
        """A provider may be shared among sessions; it stays open when they close."""
        async with TokenProvider(sandbox.credentials) as provider:
            for _ in range(2):
                async with open_session(provider, base_url=sandbox.base_url) as session:
                    await get(session, "items")
            await provider.get_token()

        assert [1, 1, 1] == [request.token_number for request in sandbox.requests]

    async def test_own_source(self, api_server: ApiServer) -> None:
        """Any object with the two methods of `TokenSource` will do."""
        async with open_session(OneToken(), base_url=api_server.url) as session:
            await get(session, "items")

        assert ["own-token"] == api_server.tokens

    @pytest.mark.parametrize(
        "options", [{"cache": MemoryTokenCache()}, {"policy": RenewalPolicy()}, {"on_event": print}]
    )
    async def test_provider_options(self, api_server: ApiServer, options: dict[str, Any]) -> None:
        """Arguments of a provider are refused next to one, not ignored."""
        with pytest.raises(ConfigurationError) as caught:
            open_session(OneToken(), base_url=api_server.url, **options)

        assert [caught.value.field] == list(options)

    @pytest.mark.parametrize("source", ["secret", 5, {}, OneToken])
    @pytest.mark.parametrize("base_url", ["https://api.example", None])
    async def test_wrong_source(self, source: Any, base_url: str | None) -> None:
        """Anything else is refused by the name of its type, and its value is not shown."""
        with pytest.raises(ConfigurationError, match=r"open_session\(ClientCredentials\(|pass an instance") as caught:
            open_session(source, base_url=base_url)

        assert "source" == caught.value.field
        assert "secret" not in str(caught.value).replace("client_secret", "")

    async def test_no_credentials(self) -> None:
        """Without arguments and environment the error names the variables."""
        with pytest.raises(ConfigurationError, match="SIMPLESTORE_CLIENT_ID"):
            open_session()


class TestAddresses:
    @pytest.mark.parametrize("path", ["/v1/shop", "/v1/shop/"])
    async def test_path(self, token_server: TokenServer, api_server: ApiServer, path: str) -> None:
        """A base URL may have a path, with or without a slash at its end; relative URLs go below it."""
        async with open_session(token_server.credentials(), base_url=api_server.url + path) as session:
            for url in ("items/1", "/items", "?page=2", f"{api_server.url}/other"):
                await get(session, url)

        assert ["/v1/shop/items/1", "/items", "/v1/shop/", "/other"] == [each.path for each in api_server.requests]
        assert ["canary-token-1"] * 4 == api_server.tokens

    async def test_escaped_path(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """An escape in the base URL's path reaches the API as it is."""
        paths: list[str] = []

        async def keep_raw_path(request: web.Request) -> web.StreamResponse:
            paths.append(request.raw_path)
            return web.Response()

        api_server.handler = keep_raw_path
        async with open_session(token_server.credentials(), base_url=f"{api_server.url}/a%2Fb%2520c") as session:
            await get(session, "items")

        assert ["/a%2Fb%2520c/items"] == paths

    @pytest.mark.parametrize("as_list", [False, True])
    async def test_origins(self, token_server: TokenServer, api_server: ApiServer, *, as_list: bool) -> None:
        """Further origins get the token, and no other."""
        async with ApiServer() as files, ApiServer() as other:
            origins = [files.url] if as_list else files.url
            async with open_session(token_server.credentials(), base_url=api_server.url, origins=origins) as session:
                for server in (api_server, files, other):
                    await get(session, f"{server.url}/")

            assert [["canary-token-1"], ["canary-token-1"], [None]] == [
                server.tokens for server in (api_server, files, other)
            ]

    async def test_origins_only(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """A base URL is not needed where origins are named."""
        async with open_session(token_server.credentials(), origins=api_server.url) as session:
            await get(session, f"{api_server.url}/items")

        assert ["canary-token-1"] == api_server.tokens

    @pytest.mark.parametrize("options", [{}, {"base_url": None, "origins": []}, {"origins": iter(())}])
    async def test_nothing_named(self, token_server: TokenServer, options: dict[str, Any]) -> None:
        """A session that would never use its token is refused, with the three ways out."""
        with pytest.raises(
            ConfigurationError, match=r"pass it, set SIMPLESTORE_BASE_URL, or name .* origins$"
        ) as caught:
            open_session(token_server.credentials(), **options)

        assert "base_url" == caught.value.field

    async def test_nothing_in_environment(self, token_server: TokenServer, environment: pytest.MonkeyPatch) -> None:
        """An empty SIMPLESTORE_BASE_URL counts as unset."""
        name_credentials(environment, token_server)
        environment.setenv("SIMPLESTORE_BASE_URL", "")
        with pytest.raises(ConfigurationError, match="set SIMPLESTORE_BASE_URL"):
            open_session()

    @pytest.mark.parametrize(
        "base_url", ["http://api.example", "https://me:hunter2@api.example", "https://api.example/?x=1", 5]
    )
    async def test_wrong_base_url(self, token_server: TokenServer, base_url: Any) -> None:
        """A base URL that cannot be right is refused by its name, and no password is repeated."""
        with pytest.raises(ConfigurationError, match=r"^base_url ") as caught:
            open_session(token_server.credentials(), base_url=base_url)

        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize("base_url", ["api.example", "https://api.example/v1?x=1", "https://*.example"])
    async def test_wrong_base_url_in_environment(
        self, token_server: TokenServer, environment: pytest.MonkeyPatch, base_url: str
    ) -> None:
        """If it came from the environment, the error names the variable."""
        name_credentials(environment, token_server)
        environment.setenv("SIMPLESTORE_BASE_URL", base_url)
        with pytest.raises(ConfigurationError, match=r"^SIMPLESTORE_BASE_URL "):
            open_session()

    async def test_wrong_origin(self, token_server: TokenServer) -> None:
        """An origin with a path is refused, with any base URL."""
        with pytest.raises(ConfigurationError, match=r"^origins "):
            open_session(
                token_server.credentials(), base_url="https://api.example", origins=["https://files.example/x"]
            )

    async def test_insecure(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """Plain http to another machine needs `allow_insecure_http=True`."""
        async with open_session(
            token_server.credentials(),
            base_url=f"http://api.example:{api_server.port}",
            allow_insecure_http=True,
            connector=aiohttp.TCPConnector(resolver=LocalResolver()),
        ) as session:
            await get(session, "items")

        assert ["canary-token-1"] == api_server.tokens
