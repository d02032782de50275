"""`open_session()`: what it makes, what it takes from the caller, and that it closes what it made."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
import pytest
from aiohttp import web

from simplestore_async import (
    AccessToken,
    MemoryTokenCache,
    RenewalPolicy,
    TokenProvider,
    open_session,
)
from simplestore_async.errors import ConfigurationError, ProviderClosedError, TokenTransportError
from simplestore_async.events import TokenReceived
from tests.support.api_servers import ConnectProxy, LocalResolver, private_ca
from tests.support.servers import SECRET, ApiServer, TokenServer

if TYPE_CHECKING:
    from simplestore_async.events import Event

T = TypeVar("T")


class OneToken:
    """A token source of a user's own."""

    async def get_token(self) -> AccessToken:
        return AccessToken("own-token", issued_at=0, expires_at=3600)

    def invalidate(self, token: AccessToken) -> bool:
        return False


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that names no credentials and no proxies."""
    for name in ("CLIENT_ID", "CLIENT_SECRET", "CLIENT_SECRET_FILE", "TOKEN_URL", "SCOPE", "BASE_URL"):
        monkeypatch.delenv(f"SIMPLESTORE_{name}", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def name_credentials(environment: pytest.MonkeyPatch, token_server: TokenServer) -> None:
    environment.setenv("SIMPLESTORE_CLIENT_ID", "app")
    environment.setenv("SIMPLESTORE_CLIENT_SECRET", SECRET)
    environment.setenv("SIMPLESTORE_TOKEN_URL", token_server.token_url)


async def get(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(url) as response:
        return response.status


class TestSource:
    async def test_environment(
        self, token_server: TokenServer, api_server: ApiServer, environment: pytest.MonkeyPatch
    ) -> None:
        """Without arguments, credentials and base URL come from the environment."""
        name_credentials(environment, token_server)
        environment.setenv("SIMPLESTORE_BASE_URL", api_server.url)
        async with open_session() as session:
            status = await get(session, "items")

        assert (200, ["/items"]) == (status, [request.path for request in api_server.requests])
        assert (["canary-token-1"], SECRET) == (api_server.tokens, token_server.requests[0].form["client_secret"])

    async def test_argument_beats_environment(
        self, token_server: TokenServer, api_server: ApiServer, environment: pytest.MonkeyPatch
    ) -> None:
        """A base URL that is passed stands in for the one that the environment names."""
        name_credentials(environment, token_server)
        environment.setenv("SIMPLESTORE_BASE_URL", "https://api.example")
        async with open_session(base_url=api_server.url) as session:
            await get(session, "items")

        assert ["canary-token-1"] == api_server.tokens

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

    async def test_base_url_from_environment(
        self, token_server: TokenServer, api_server: ApiServer, environment: pytest.MonkeyPatch
    ) -> None:
        """With credentials of one's own the base URL may still come from the environment."""
        environment.setenv("SIMPLESTORE_BASE_URL", api_server.url)
        async with open_session(token_server.credentials()) as session:
            await get(session, "items")

        assert ["canary-token-1"] == api_server.tokens

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

    async def test_provider(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """A provider may be shared among sessions; it stays open when they close."""
        async with token_server.provider() as provider:
            for _ in range(2):
                async with open_session(provider, base_url=api_server.url) as session:
                    await get(session, "items")
            await provider.get_token()

        assert (["canary-token-1"] * 2, 1) == (api_server.tokens, len(token_server.requests))

    async def test_own_source(self, api_server: ApiServer) -> None:
        """Any object with the two methods of `TokenSource` will do."""
        async with open_session(OneToken(), base_url=api_server.url) as session:
            await get(session, "items")

        assert ["own-token"] == api_server.tokens

    @pytest.mark.parametrize(
        "options", [{"cache": MemoryTokenCache()}, {"policy": RenewalPolicy()}, {"on_event": print}]
    )
    async def test_provider_options(self, api_server: ApiServer, options: dict[str, Any]) -> None:
        """What belongs to a provider is refused beside one, not ignored."""
        with pytest.raises(ConfigurationError, match=r"^cache, policy and on_event belong to the TokenProvider"):
            async with open_session(OneToken(), base_url=api_server.url, **options):
                pass

    @pytest.mark.parametrize("source", ["secret", 5, {}])
    async def test_wrong_source(self, source: Any) -> None:
        """Anything else is refused by the name of its type, and its value is not shown."""
        with pytest.raises(
            ConfigurationError, match=f"get_token and invalidate, which {type(source).__name__} has not$"
        ):
            async with open_session(source, base_url="https://api.example"):
                pass

    async def test_no_credentials(self) -> None:
        """Without arguments and environment the error says which variables to set."""
        with pytest.raises(
            ConfigurationError,
            match=r"^SIMPLESTORE_CLIENT_ID and SIMPLESTORE_CLIENT_SECRET are not set; copy from the Control",
        ):
            async with open_session():
                pass


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
            ConfigurationError, match=r"^base_url is not set: pass it, set SIMPLESTORE_BASE_URL, or name .* origins$"
        ):
            async with open_session(token_server.credentials(), **options):
                pass

    async def test_nothing_in_environment(self, token_server: TokenServer, environment: pytest.MonkeyPatch) -> None:
        """An empty SIMPLESTORE_BASE_URL counts as unset."""
        name_credentials(environment, token_server)
        environment.setenv("SIMPLESTORE_BASE_URL", "")
        with pytest.raises(ConfigurationError, match="set SIMPLESTORE_BASE_URL"):
            async with open_session():
                pass

    @pytest.mark.parametrize(
        ("base_url", "problem"),
        [
            ("api.example", "https://"),
            ("http://api.example", "plain http"),
            ("https://me:hunter2@api.example", "user name or password"),
            ("https://api.example/v1?x=1", "query"),
            ("https://api.example/v1#x", "fragment"),
            (5, "str or yarl.URL"),
        ],
    )
    async def test_wrong_base_url(self, token_server: TokenServer, base_url: Any, problem: str) -> None:
        """A base URL that cannot be right is refused by its name."""
        with pytest.raises(ConfigurationError, match=f"^base_url .*{problem}") as caught:
            async with open_session(token_server.credentials(), base_url=base_url):
                pass

        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize("base_url", ["api.example", "https://api.example/v1?x=1", "https://*.example"])
    async def test_wrong_base_url_in_environment(
        self, token_server: TokenServer, environment: pytest.MonkeyPatch, base_url: str
    ) -> None:
        """If it came from the environment, the error names the variable, not an argument that nobody passed."""
        name_credentials(environment, token_server)
        environment.setenv("SIMPLESTORE_BASE_URL", base_url)
        with pytest.raises(ConfigurationError, match=r"^SIMPLESTORE_BASE_URL must"):
            async with open_session():
                pass

    async def test_wrong_origin(self, token_server: TokenServer) -> None:
        """An origin with a path is refused, whatever the base URL."""
        with pytest.raises(ConfigurationError, match=r"^origins must have scheme, host and port only"):
            async with open_session(
                token_server.credentials(), base_url="https://api.example", origins=["https://files.example/x"]
            ):
                pass

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


class TestSurroundings:
    # case 62
    async def test_private_ca(self) -> None:
        """`ssl` lets a private CA vouch for both the API and the token endpoint."""
        server_ssl = private_ca().server
        async with (
            TokenServer(ssl_context=server_ssl) as token_server,
            ApiServer(ssl_context=server_ssl) as api_server,
            open_session(token_server.credentials(), base_url=api_server.url, ssl=private_ca().client) as session,
        ):
            assert 200 == await get(session, "items")

    # case 62
    @pytest.mark.parametrize("untrusted", ["token", "api"])
    async def test_unknown_ca(self, token_server: TokenServer, api_server: ApiServer, untrusted: str) -> None:
        """Without it either is refused, and the API sees no request."""
        server_ssl = private_ca().server
        async with (
            TokenServer(ssl_context=server_ssl) as secure_token_server,
            ApiServer(ssl_context=server_ssl) as secure_api_server,
        ):
            token = secure_token_server if untrusted == "token" else token_server
            api = secure_api_server if untrusted == "api" else api_server
            async with open_session(token.credentials(), base_url=api.url) as session:
                with pytest.raises((aiohttp.ClientConnectorCertificateError, TokenTransportError)):
                    await session.get("items")

            assert [] == api.requests

    # case 62
    @pytest.mark.parametrize("where", ["argument", "environment"])
    async def test_proxy(self, environment: pytest.MonkeyPatch, where: str) -> None:
        """`proxy`, or `trust_env` and the environment, lead both through tunnels that show neither secret nor token."""
        server_ssl = private_ca().server
        async with (
            TokenServer(ssl_context=server_ssl) as token_server,
            ApiServer(ssl_context=server_ssl) as api_server,
            ConnectProxy({"token.example:443": token_server.port, "api.example:443": api_server.port}) as proxy,
        ):
            environment.setenv("https_proxy", proxy.url)
            async with open_session(
                token_server.credentials(token_url="https://token.example/connect/token"),
                base_url="https://api.example",
                ssl=private_ca().client,
                proxy=proxy.url if where == "argument" else None,
                trust_env=where == "environment",
            ) as session:
                assert 200 == await get(session, "items")

            assert {"token.example:443", "api.example:443"} == proxy.targets
            assert (1, ["canary-token-1"]) == (len(token_server.requests), api_server.tokens)
            assert b"canary" not in proxy.seen

    # case 62
    async def test_proxy_not_asked_for(
        self, token_server: TokenServer, api_server: ApiServer, environment: pytest.MonkeyPatch
    ) -> None:
        """Without `trust_env` the environment's proxy is not used."""
        async with ConnectProxy() as proxy:
            environment.setenv("http_proxy", proxy.url)
            environment.setenv("https_proxy", proxy.url)
            async with open_session(token_server.credentials(), base_url=api_server.url) as session:
                assert 200 == await get(session, "items")

            assert [] == proxy.heads

    async def test_proxy_for_plain_http(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """A proxy is refused at once for a token endpoint of plain http, and says so."""
        with pytest.raises(ConfigurationError, match=r"^token_url uses plain http.*proxy"):
            async with open_session(
                token_server.credentials(), base_url=api_server.url, proxy="http://proxy.example:3128"
            ):
                pass

    @pytest.mark.parametrize("has_ssl", [False, True])
    async def test_own_connector(self, token_server: TokenServer, api_server: ApiServer, *, has_ssl: bool) -> None:
        """The caller's connector is used, with or without `ssl`; it stays open if the caller says that it owns it."""
        async with aiohttp.TCPConnector(resolver=LocalResolver()) as connector:
            async with open_session(
                token_server.credentials(),
                base_url=f"http://api.example:{api_server.port}",
                allow_insecure_http=True,
                ssl=private_ca().client if has_ssl else None,
                connector=connector,
                connector_owner=False,
            ) as session:
                await get(session, "items")
                assert session.connector is connector

            assert not connector.closed
        assert ["canary-token-1"] == api_server.tokens

    # case 62
    async def test_callers_own(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """The caller's headers, cookies, content type and other options govern the API, and never the token request."""
        async with open_session(
            token_server.credentials(),
            base_url=api_server.url,
            headers={"X-Tag": "mine", "Content-Type": "application/json", "Authorization": "Basic mine"},
            cookies={"session": "mine"},
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            raise_for_status=True,
            json_serialize=lambda _: '"mine"',
            timeout=aiohttp.ClientTimeout(total=5),
        ) as session:
            token_server.replies += [503]
            async with session.post("items", json={}) as response:
                assert 200 == response.status

        api_request = api_server.requests[0]
        assert ("mine", "session=mine", b'"mine"') == (
            api_request.headers["X-Tag"],
            api_request.headers["Cookie"],
            api_request.body,
        )
        token_requests = [str(dict(request.headers)) + str(request.body) for request in token_server.requests]
        assert ([False] * 2, 2) == (["mine" in each for each in token_requests], len(token_requests))
        assert ["application/x-www-form-urlencoded"] * 2 == [
            each.headers["Content-Type"] for each in token_server.requests
        ]

    async def test_callers_middlewares(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """The caller's own middlewares run outside ours, in their order, once for a replayed request."""
        seen: list[str] = []

        def named(name: str) -> aiohttp.ClientMiddlewareType:
            async def middleware(
                request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
            ) -> aiohttp.ClientResponse:
                seen.append(f"{name} {request.headers.get('Authorization')}")
                return await handler(request)

            return middleware

        api_server.rejected.add("canary-token-1")
        async with open_session(
            token_server.credentials(), base_url=api_server.url, middlewares=[named("outer"), named("inner")]
        ) as session:
            await get(session, "items")

        assert (["outer None", "inner None"], 2) == (seen, len(api_server.requests))

    @pytest.mark.parametrize("middlewares", [(), [], None])
    async def test_no_middlewares(self, token_server: TokenServer, api_server: ApiServer, middlewares: Any) -> None:
        """No middlewares of one's own leave ours in place."""
        async with open_session(
            token_server.credentials(), base_url=api_server.url, middlewares=middlewares
        ) as session:
            await get(session, "items")

        assert ["canary-token-1"] == api_server.tokens


def alive(kind: type[T]) -> list[T]:
    return [each for each in gc.get_objects() if type(each) is kind]


class TestClosing:
    async def test_closes_session(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """Leaving the block closes the session."""
        async with open_session(token_server.credentials(), base_url=api_server.url) as session:
            await get(session, "items")

        assert session.closed

    @pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
    async def test_exception(
        self, token_server: TokenServer, api_server: ApiServer, error: type[BaseException]
    ) -> None:
        """An exception leaves the block as it is, and closes the session no less."""
        sessions: list[aiohttp.ClientSession] = []

        async def fail() -> None:
            async with open_session(token_server.credentials(), base_url=api_server.url) as session:
                sessions.append(session)
                await get(session, "items")
                raise error

        with pytest.raises(error):
            await fail()

        assert [True] == [session.closed for session in sessions]

    async def test_closes_provider(self, token_server: TokenServer, api_server: ApiServer) -> None:
        """Leaving the block closes the provider that was made for it: requests that wait for a token are told."""
        token_server.gate.clear()
        async with open_session(token_server.credentials(), base_url=api_server.url) as session:
            request = asyncio.create_task(get(session, "items"))
            await token_server.arrived.wait()
        with pytest.raises(ProviderClosedError):
            await request
        token_server.gate.set()

        assert [] == api_server.requests

    @pytest.mark.parametrize("has_ssl", [False, True])
    @pytest.mark.parametrize(
        "option",
        [
            {"no_such_option": 1},
            {"timeout": "soon"},
            {"headers": 5},
            {"trace_configs": [object()]},
            {"middlewares": 5},
            {"connector": object()},
        ],
    )
    async def test_wrong_option(self, token_server: TokenServer, option: dict[str, Any], *, has_ssl: bool) -> None:
        """An option that `aiohttp.ClientSession` refuses is refused its way, and nothing stays open."""
        connectors, providers = alive(aiohttp.TCPConnector), alive(TokenProvider)
        with pytest.raises((TypeError, ValueError, AttributeError)) as caught:
            async with open_session(
                token_server.credentials(),
                base_url="https://api.example",
                ssl=private_ca().client if has_ssl else None,
                **option,
            ):
                pass
        left_open = [each for each in alive(aiohttp.TCPConnector) if each not in connectors and not each.closed]
        for connector in left_open:
            await connector.close()

        assert [] == left_open
        for provider in alive(TokenProvider):
            if provider not in providers:
                with pytest.raises(ProviderClosedError):
                    await provider.get_token()
        del caught  # its traceback held all of this

    async def test_wrong_option_with_provider(self, token_server: TokenServer) -> None:
        """So it is beside a provider of the caller's, which stays open."""
        async with token_server.provider() as provider:
            with pytest.raises(TypeError, match="no_such_option"):
                async with open_session(provider, base_url="https://api.example", no_such_option=1):
                    pass
            token = await provider.get_token()

        assert "canary-token-1" == token.value
