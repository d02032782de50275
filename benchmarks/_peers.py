"""Adapters of this package and its peers. Rule: each is used as its current documentation says, by public names only.

An adapter opens a client on our server, and returns the call that a program makes before each request. Packages are
imported when a client is opened. README names the page that each adapter follows, and its version.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from importlib.metadata import distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs

from ._server import CLIENT_ID, CLIENT_SECRET, Server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

__all__ = ["MISSING", "OURS", "OURS_ON_HTTPX", "PEERS", "SAFE", "Client", "Get", "Peer", "versions"]

_SCOPE = "https://benchmark.invalid/.default"
_TENANT = "benchmark"

Get = Callable[[str], Coroutine[Any, Any, bytes]]


@attrs.frozen
class Client:
    """An open client.

    Attributes:
        get_token: the call that precedes each request, in the program or in the peer's own session.
        get: an authorised GET of a URL, by the peer's own way; None if it has none.
    """

    get_token: Callable[[], Coroutine[Any, Any, object]]
    get: Get | None = None


@attrs.frozen
class Peer:
    """A package that gets tokens.

    Attributes:
        name: its name on PyPI.
        module: the import of a program.
        open: opens a client on a server.
        open_shared: the same, with tokens in a directory that processes share; None if it has no such cache.
        stack: the HTTP client of its `get`; empty if it has none.
        due: a lifetime in seconds, and the seconds after which such a token is due by the peer's own rule.
        is_async: whether its callers wait without blocking the event loop.
    """

    name: str
    module: str
    open: Callable[[Server], AbstractAsyncContextManager[Client]]
    open_shared: Callable[[Server, Path], AbstractAsyncContextManager[Client]] | None = None
    stack: Literal["aiohttp", "httpx", ""] = ""
    due: tuple[int, float] | None = None
    is_async: bool = True


def get_by(session: Any) -> Get:
    """Return a GET by an aiohttp session."""

    async def get(url: str) -> bytes:
        async with session.get(url, raise_for_status=True) as response:
            body: bytes = await response.read()
            return body

    return get


def get_by_httpx(client: Any) -> Get:
    """Return a GET by an asyncio client of httpx or httpx2."""

    async def get(url: str) -> bytes:
        body: bytes = (await client.get(url)).raise_for_status().content
        return body

    return get


def _serve_api_at_once(httpx: Any, server: Server) -> Any:
    """Return a transport of httpx or httpx2 that sends token requests, and responds to API requests itself."""

    class Transport(httpx.AsyncHTTPTransport):  # type: ignore[misc] # either library's
        async def handle_async_request(self, request: Any) -> Any:
            if not str(request.url).startswith(server.base_url):
                return await super().handle_async_request(request)
            return httpx.Response(200 if "Authorization" in request.headers else 401, request=request)

    return Transport()


@asynccontextmanager
async def _open_ours(server: Server, directory: Path | None = None) -> AsyncGenerator[Client]:
    import aiohttp

    from simplestore_async import BearerAuthMiddleware, FileTokenCache, TokenProvider

    cache = None if directory is None else FileTokenCache(directory)
    async with TokenProvider(server.credentials, cache=cache) as provider:
        bearer = BearerAuthMiddleware(provider, origins=server.root)
        async with aiohttp.ClientSession(middlewares=[bearer]) as session:
            yield Client(provider.get_token, get_by(session))


@asynccontextmanager
async def _open_azure_credential(server: Server, **options: object) -> AsyncGenerator[Any]:
    import aiohttp
    from azure.core.pipeline.transport import AioHttpTransport
    from azure.identity.aio import ClientSecretCredential

    # Its own `connection_verify` would build an SSL context for each request, which public certificates do not need.
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=server.ca_file))
    async with (
        aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
        ) as session,
        ClientSecretCredential(
            _TENANT,
            CLIENT_ID,
            CLIENT_SECRET,
            authority=server.https_root,
            disable_instance_discovery=True,
            transport=AioHttpTransport(session=session, session_owner=False),
            **options,
        ) as credential,
    ):
        yield credential


@asynccontextmanager
async def _open_azure_identity(server: Server, directory: Path | None = None) -> AsyncGenerator[Client]:
    from azure.identity import TokenCachePersistenceOptions

    options: dict[str, object] = {}
    if directory is not None:
        # An absolute path as name replaces the directory in the home directory.
        name = str(directory / "azure-identity")
        options["cache_persistence_options"] = TokenCachePersistenceOptions(name=name, allow_unencrypted_storage=True)
    async with _open_azure_credential(server, **options) as credential:
        yield Client(lambda: credential.get_token(_SCOPE))


@asynccontextmanager
async def _open_azure_core(server: Server) -> AsyncGenerator[Client]:
    from azure.core.pipeline import AsyncPipeline, PipelineContext, PipelineRequest
    from azure.core.pipeline.policies import AsyncBearerTokenCredentialPolicy
    from azure.core.pipeline.transport import AioHttpTransport
    from azure.core.rest import HttpRequest

    async with _open_azure_credential(server) as credential:
        policy = AsyncBearerTokenCredentialPolicy(credential, _SCOPE)
        async with AioHttpTransport() as transport, AsyncPipeline(transport, [policy]) as pipeline:
            request = PipelineRequest(HttpRequest("GET", server.https_root), PipelineContext(transport))

            async def get(url: str) -> bytes:
                result = await pipeline.run(HttpRequest("GET", url), enforce_https=False)
                body: bytes = await result.http_response.read()
                return body

            yield Client(lambda: policy.on_request(request), get)


@asynccontextmanager
async def _open_google_auth(server: Server) -> AsyncGenerator[Client]:
    from google.auth.aio.transport import Request, Response
    from google.auth.aio.transport.sessions import AsyncAuthorizedSession
    from google.oauth2.service_account import Credentials

    class AtOnce(Request, Response):  # type: ignore[misc] # untyped
        """A transport that responds to API requests itself; token requests do not use it."""

        status_code = 200
        headers: Mapping[str, str] = {}

        async def __call__(self, *_: object, **__: object) -> Response:
            return self

        async def read(self) -> bytes:
            return b""

        async def content(self, _chunk_size: int) -> AsyncGenerator[bytes]:
            yield b""

        async def close(self) -> None:
            pass

    credentials = Credentials.from_service_account_file(server.service_account_file, scopes=[_SCOPE])
    session, alone = AsyncAuthorizedSession(credentials), AsyncAuthorizedSession(credentials, AtOnce())

    async def get(url: str) -> bytes:
        response = await session.request("GET", url)
        body: bytes = await response.read()
        await response.close()
        return body

    try:
        yield Client(lambda: alone.request("GET", server.base_url), get)
    finally:
        await session.close()
        await alone.close()


@asynccontextmanager
async def _open_gcloud(server: Server) -> AsyncGenerator[Client]:
    import aiohttp
    from gcloud.aio.auth import Token

    async with aiohttp.ClientSession() as session:
        token = Token(server.service_account_file, session, [_SCOPE])

        async def get(url: str) -> bytes:
            # As the package's own clients (gcloud-aio-storage and the like) do.
            headers = {"Authorization": f"Bearer {await token.get()}"}
            async with await token.session.get(url, headers=headers) as response:
                body: bytes = await response.read()
                return body

        yield Client(token.get, get)


@asynccontextmanager
async def _open_authlib(server: Server) -> AsyncGenerator[Client]:
    from authlib.integrations.httpx_client import AsyncOAuth2Client

    # It only renews tokens; with an expired one its own lock governs the first request, too.
    expired = {"access_token": "none", "token_type": "Bearer", "expires_at": 1}
    async with AsyncOAuth2Client(
        CLIENT_ID,
        CLIENT_SECRET,
        token_endpoint=server.token_url,
        grant_type="client_credentials",
        token=expired,
    ) as client:

        async def get_token() -> object:
            await client.ensure_active_token(client.token)
            return client.token

        yield Client(get_token, get_by_httpx(client))


@asynccontextmanager
async def _open_aiohttp_oauth2_client(server: Server) -> AsyncGenerator[Client]:
    import aiohttp
    from aiohttp_oauth2_client.grant.client_credentials import ClientCredentialsGrant
    from aiohttp_oauth2_client.middleware import OAuth2Middleware

    async with (
        ClientCredentialsGrant(server.token_url, CLIENT_ID, CLIENT_SECRET) as grant,
        aiohttp.ClientSession(middlewares=[OAuth2Middleware(grant)]) as session,
    ):
        yield Client(grant.prepare_headers, get_by(session))


@asynccontextmanager
async def _open_idu_service_auth(server: Server) -> AsyncGenerator[Client]:
    import aiohttp
    from idu_service_auth import KeycloakTokenClient, KeycloakTokenConfig

    config = KeycloakTokenConfig(server.root, _TENANT, CLIENT_ID, CLIENT_SECRET)
    async with aiohttp.ClientSession() as session, KeycloakTokenClient(config, session=session) as client:

        async def get(url: str) -> bytes:
            async with session.get(url, headers=await client.get_authorization_headers()) as response:
                return await response.read()

        yield Client(client.get_access_token, get)


@asynccontextmanager
async def _open_httpx_auth(server: Server, directory: Path | None = None) -> AsyncGenerator[Client]:
    import httpx
    from httpx_auth import JsonTokenFileCache, OAuth2, OAuth2ClientCredentials, TokenMemoryCache

    with httpx.Client() as token_client:
        # Its cache is shared by the whole process: a new one isolates this client.
        OAuth2.token_cache = JsonTokenFileCache(directory / "httpx-auth.json") if directory else TokenMemoryCache()
        auth = OAuth2ClientCredentials(server.token_url, CLIENT_ID, CLIENT_SECRET, client=token_client)
        request = httpx.Request("GET", server.base_url)

        async def get_token() -> object:
            return next(auth.auth_flow(request)).headers["Authorization"]

        async with httpx.AsyncClient(auth=auth) as client:
            yield Client(get_token, get_by_httpx(client))


@asynccontextmanager
async def _open_httpx_oauth2_flows(server: Server) -> AsyncGenerator[Client]:
    import httpx
    from httpx_oauth2_flows import Auth, ClientCredentialsClientSecretPostAuth, ClientCredentialsFlow

    secret = ClientCredentialsClientSecretPostAuth(client_secret=CLIENT_SECRET)
    auth = Auth(ClientCredentialsFlow(auth_server=f"{server.root}/{_TENANT}/v2.0", client_id=CLIENT_ID, auth=secret))
    async with httpx.AsyncClient(auth=auth) as client:
        request = client.build_request("GET", server.base_url)  # its timeout is the margin of a renewal

        async def get_token() -> object:
            async with aclosing(auth.async_auth_flow(request)) as flow:
                return (await anext(flow)).headers["Authorization"]

        yield Client(get_token, get_by_httpx(client))


@asynccontextmanager
async def _open_mcp(server: Server) -> AsyncGenerator[Client]:
    import httpx2
    from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider

    class Storage:
        """Memory, as in its documentation's example."""

        tokens: Any = None

        async def get_tokens(self) -> Any:
            return self.tokens

        async def set_tokens(self, tokens: Any) -> None:
            self.tokens = tokens

        async def get_client_info(self) -> None:
            return None

        async def set_client_info(self, client_info: object) -> None:
            pass

    def provide() -> Any:
        return ClientCredentialsOAuthProvider(
            server.base_url, Storage(), CLIENT_ID, CLIENT_SECRET, issuer=f"{server.root}/"
        )

    async with (
        httpx2.AsyncClient(auth=provide()) as client,
        httpx2.AsyncClient(auth=provide(), transport=_serve_api_at_once(httpx2, server)) as alone,
    ):
        yield Client(lambda: alone.get(server.base_url), get_by_httpx(client))


@asynccontextmanager
async def _open_openfga(server: Server) -> AsyncGenerator[Client]:
    from openfga_sdk import ClientConfiguration
    from openfga_sdk.credentials import CredentialConfiguration, Credentials
    from openfga_sdk.oauth2 import OAuth2Client
    from openfga_sdk.rest import RESTClientObject

    settings = CredentialConfiguration(
        client_id=CLIENT_ID, client_secret=CLIENT_SECRET, api_issuer=server.token_url, api_audience=_TENANT
    )
    credentials = Credentials(method="client_credentials", configuration=settings)
    configuration = ClientConfiguration(api_url=server.root, credentials=credentials)
    oauth, rest = OAuth2Client(credentials, configuration), RESTClientObject(configuration)
    try:
        yield Client(lambda: oauth.get_authentication_header(rest))
    finally:
        await rest.close()


@asynccontextmanager
async def _open_ours_on_httpx(server: Server) -> AsyncGenerator[Client]:
    from simplestore_async import TokenProvider
    from simplestore_async.httpx import open_client

    async with (
        TokenProvider(server.credentials) as provider,
        open_client(provider, base_url=server.base_url) as client,
    ):
        yield Client(provider.get_token, get_by_httpx(client))


@asynccontextmanager
async def _open_safe(server: Server) -> AsyncGenerator[Client]:
    import aiohttp

    async with aiohttp.ClientSession() as session:
        form = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        loop = asyncio.get_running_loop()
        token, expires_at, renewal = "", 0.0, None
        waiters: set[asyncio.Future[None]] = set()

        async def renew() -> None:
            nonlocal token, expires_at
            async with session.post(server.token_url, data=form) as response:
                reply = await response.json()
            token, expires_at = f"Bearer {reply['access_token']}", loop.time() + reply["expires_in"] - 60

        def settle(task: asyncio.Task[None]) -> None:
            error = RuntimeError("closed") if task.cancelled() else task.exception()
            for waiter in tuple(waiters):
                if not waiter.done():
                    if error is None:
                        waiter.set_result(None)
                    else:
                        waiter.set_exception(error)

        async def get_token() -> str:
            nonlocal renewal
            if loop.time() >= expires_at:
                if renewal is None or renewal.done():
                    renewal = asyncio.create_task(renew())
                    renewal.add_done_callback(settle)
                waiter = loop.create_future()
                waiters.add(waiter)
                try:
                    await waiter
                finally:
                    waiters.discard(waiter)
            return token

        try:
            yield Client(get_token)
        finally:
            if renewal is not None:
                renewal.cancel()


OURS = Peer("simplestore-async", "simplestore_async", _open_ours, open_shared=_open_ours, stack="aiohttp", due=(20, 17))

_PEERS = (
    Peer("azure-identity", "azure.identity.aio", _open_azure_identity, open_shared=_open_azure_identity),
    Peer("azure-core", "azure.core.pipeline.policies", _open_azure_core, stack="aiohttp"),
    Peer("google-auth", "google.auth.aio.transport.sessions", _open_google_auth, stack="aiohttp", due=(227, 3)),
    Peer("gcloud-aio-auth", "gcloud.aio.auth", _open_gcloud, stack="aiohttp", due=(8, 5)),
    Peer("Authlib", "authlib.integrations.httpx_client", _open_authlib, stack="httpx", due=(62, 3)),
    Peer(
        "aiohttp-oauth2-client",
        "aiohttp_oauth2_client.middleware",
        _open_aiohttp_oauth2_client,
        stack="aiohttp",
        due=(32, 3),
    ),
    Peer("idu-service-auth", "idu_service_auth", _open_idu_service_auth, stack="aiohttp", due=(15, 12)),
    Peer(
        "httpx-auth",
        "httpx_auth",
        _open_httpx_auth,
        open_shared=_open_httpx_auth,
        stack="httpx",
        due=(32, 3),
        is_async=False,
    ),
    Peer("httpx-oauth2-flows", "httpx_oauth2_flows", _open_httpx_oauth2_flows, stack="httpx", due=(10, 6)),
    Peer("mcp", "mcp.client.auth.extensions.client_credentials", _open_mcp, stack="httpx", due=(4, 5)),
    Peer("openfga-sdk", "openfga_sdk.oauth2", _open_openfga),
)
# Not a peer; the hand-written alternative, without retries, caches, redaction or early renewal.
SAFE = Peer("the least that is safe", "aiohttp", _open_safe)
OURS_ON_HTTPX = Peer("simplestore-async", "simplestore_async.httpx", _open_ours_on_httpx, stack="httpx")
# Dependencies of this package and its peers.
_PACKAGES = ("aiohttp", "attrs", "cattrs", "cryptography", "httpx", "httpx2", "msal-extensions", "uvloop", "yarl")


def versions() -> dict[str, str]:
    """Return the version of each package that the figures depend on, as far as it is installed."""
    names = (OURS.name, *(peer.name for peer in _PEERS), *_PACKAGES)
    return {name: version(name) for name in names if any(distributions(name=name))}


PEERS: Mapping[str, Peer] = {peer.name: peer for peer in _PEERS if peer.name in versions()}
MISSING = [peer.name for peer in _PEERS if peer.name not in PEERS]
