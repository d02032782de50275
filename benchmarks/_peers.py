"""What users would pick instead. Rule: each is used as its own documentation says, on one connection pool if it may.

An adapter opens a client on our server and says what a program calls for every request. A peer needs its package only
when it is opened, so that importing this module imports none of them.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ._server import CLIENT_ID, CLIENT_SECRET, Server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

__all__ = ["MISSING", "OURS", "PEERS", "Client", "Peer", "versions"]

_SCOPE = "https://benchmark.invalid/.default"
_TENANT = "benchmark"


@attrs.frozen
class Client:
    """One open client.

    Attributes:
        get_token: what a program calls before each request, or what is called for it.
        get: an authorised GET of a URL, by the peer's own way; None if it has none on aiohttp.
    """

    get_token: Callable[[], Coroutine[Any, Any, object]]
    get: Callable[[str], Coroutine[Any, Any, bytes]] | None = None


@attrs.frozen(kw_only=True)
class Peer:
    """A package that gets tokens.

    Attributes:
        name: its name on PyPI.
        module: what a program imports.
        open: opens a client on a server.
        open_shared: the same, with the tokens in a folder that other processes share; None if it has no such cache.
        lifetime_seconds: a token that lives so long …
        due_after_seconds: … is due for renewal so long after it was issued, by the peer's own rule.
        is_async: whether it is meant for asyncio.
        note: what to know when reading its figures.
        cannot: why it cannot be pointed at a server on this machine; empty if it can.
    """

    name: str
    module: str
    open: Callable[[Server], AbstractAsyncContextManager[Client]]
    open_shared: Callable[[Server, Path], AbstractAsyncContextManager[Client]] | None = None
    lifetime_seconds: int
    due_after_seconds: float
    is_async: bool = True
    note: str = ""
    cannot: str = ""


@asynccontextmanager
async def _open_ours(server: Server, folder: Path | None = None) -> AsyncGenerator[Client]:
    import aiohttp

    from simplestore_async import BearerAuthMiddleware, FileTokenCache, TokenProvider

    cache = None if folder is None else FileTokenCache(folder)
    async with TokenProvider(server.credentials, cache=cache) as provider:
        bearer = BearerAuthMiddleware(provider, origins=server.root)
        async with aiohttp.ClientSession(middlewares=[bearer]) as session:

            async def get(url: str) -> bytes:
                async with session.get(url) as response:
                    return await response.read()

            yield Client(provider.get_token, get)


@asynccontextmanager
async def _open_azure_credential(server: Server, **options: object) -> AsyncGenerator[Any]:
    import aiohttp
    from azure.core.pipeline.transport import AioHttpTransport
    from azure.identity.aio import ClientSecretCredential

    # Its own `connection_verify` would build a context for each request; who has a public certificate pays nothing.
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
async def _open_azure_identity(server: Server, folder: Path | None = None) -> AsyncGenerator[Client]:
    from azure.identity import TokenCachePersistenceOptions

    options: dict[str, object] = {}
    if folder is not None:
        # An absolute path as the name takes the place of the folder in the home directory.
        name = str(folder / "azure-identity")
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
    import aiohttp
    from google.auth.transport._aiohttp_requests import AuthorizedSession, Request
    from google.oauth2._service_account_async import Credentials

    credentials = Credentials.from_service_account_file(server.service_account_file, scopes=[_SCOPE])
    async with (
        aiohttp.ClientSession(auto_decompress=False) as plain,
        AuthorizedSession(credentials) as session,
    ):
        request = Request(plain)

        async def get_token() -> object:
            headers: dict[str, str] = {}
            await credentials.before_request(request, "GET", server.base_url, headers)
            return headers

        async def get(url: str) -> bytes:
            async with await session.request("GET", url) as response:
                body: bytes = await response.read()
                return body

        yield Client(get_token, get)


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

    # It only renews tokens. An expired one to begin with lets its own lock decide who fetches the first.
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

        yield Client(get_token)


@asynccontextmanager
async def _open_aiohttp_oauth2_client(server: Server) -> AsyncGenerator[Client]:
    import aiohttp
    from aiohttp_oauth2_client.grant.client_credentials import ClientCredentialsGrant
    from aiohttp_oauth2_client.middleware import OAuth2Middleware

    async with (
        ClientCredentialsGrant(server.token_url, CLIENT_ID, CLIENT_SECRET) as grant,
        aiohttp.ClientSession(middlewares=[OAuth2Middleware(grant)]) as session,
    ):

        async def get(url: str) -> bytes:
            async with session.get(url) as response:
                return await response.read()

        yield Client(grant.prepare_headers, get)


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
async def _open_httpx_auth(server: Server, folder: Path | None = None) -> AsyncGenerator[Client]:
    import httpx
    from httpx_auth import JsonTokenFileCache, OAuth2, OAuth2ClientCredentials, TokenMemoryCache

    with httpx.Client() as client:
        # It has one cache for the whole process: what another client left there is not this one's.
        OAuth2.token_cache = JsonTokenFileCache(folder / "httpx-auth.json") if folder else TokenMemoryCache()
        auth = OAuth2ClientCredentials(server.token_url, CLIENT_ID, CLIENT_SECRET, client=client)
        request = httpx.Request("GET", server.base_url)

        async def get_token() -> object:
            return next(auth.auth_flow(request)).headers["Authorization"]

        yield Client(get_token)


@asynccontextmanager
async def _open_msal(server: Server, folder: Path | None = None) -> AsyncGenerator[Client]:
    import msal
    import requests

    cache = None
    if folder is not None:
        import msal_extensions

        cache = msal_extensions.PersistedTokenCache(msal_extensions.FilePersistence(str(folder / "msal.json")))
    with requests.Session() as session:
        # As msal's own, but that no variable of the environment replaces the certificate.
        session.trust_env, session.verify = False, server.ca_file
        app = await asyncio.to_thread(
            msal.ConfidentialClientApplication,
            CLIENT_ID,
            client_credential=CLIENT_SECRET,
            authority=f"{server.https_root}/{_TENANT}",
            instance_discovery=False,
            http_client=session,
            token_cache=cache,
        )

        async def get_token() -> object:
            return app.acquire_token_for_client([_SCOPE])["access_token"]

        yield Client(get_token)


OURS = Peer(
    name="simplestore-async",
    module="simplestore_async",
    open=_open_ours,
    open_shared=_open_ours,
    lifetime_seconds=20,
    due_after_seconds=17,
)

_PEERS = (
    Peer(
        name="azure-identity",
        module="azure.identity.aio",
        open=_open_azure_identity,
        open_shared=_open_azure_identity,
        lifetime_seconds=302,
        due_after_seconds=31,
        note="by https, as it insists; a token request for each caller without a token",
    ),
    Peer(
        name="azure-core",
        module="azure.core.pipeline.policies",
        open=_open_azure_core,
        lifetime_seconds=270,
        due_after_seconds=31,
        note="AsyncBearerTokenCredentialPolicy, with azure-identity's credential; token requests by https",
    ),
    Peer(
        name="google-auth",
        module="google.oauth2._service_account_async",
        open=_open_google_auth,
        lifetime_seconds=227,
        due_after_seconds=3,
        note="a token request for each caller without a token; signs an assertion for each",
    ),
    Peer(
        name="gcloud-aio-auth",
        module="gcloud.aio.auth",
        open=_open_gcloud,
        lifetime_seconds=8,
        due_after_seconds=5,
        note="signs an assertion for each token request",
    ),
    Peer(
        name="Authlib",
        module="authlib.integrations.httpx_client",
        open=_open_authlib,
        lifetime_seconds=62,
        due_after_seconds=3,
        note="only renews; began with an expired token",
    ),
    Peer(
        name="aiohttp-oauth2-client",
        module="aiohttp_oauth2_client.middleware",
        open=_open_aiohttp_oauth2_client,
        lifetime_seconds=32,
        due_after_seconds=3,
    ),
    Peer(
        name="idu-service-auth",
        module="idu_service_auth",
        open=_open_idu_service_auth,
        lifetime_seconds=15,
        due_after_seconds=12,
    ),
    Peer(
        name="httpx-auth",
        module="httpx_auth",
        open=_open_httpx_auth,
        open_shared=_open_httpx_auth,
        lifetime_seconds=32,
        due_after_seconds=3,
        is_async=False,
        note="blocks the loop while it asks for a token",
    ),
    Peer(
        name="msal",
        module="msal",
        open=_open_msal,
        open_shared=_open_msal,
        lifetime_seconds=302,
        due_after_seconds=3,
        is_async=False,
        note="synchronous: blocks the loop while it asks for a token; by https, as it insists",
    ),
)
# Beside the peers: what ours and theirs are built on.
_PACKAGES = ("aiohttp", "attrs", "cattrs", "cryptography", "httpx", "httpx2", "msal-extensions", "uvloop", "yarl")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


PEERS: Mapping[str, Peer] = {peer.name: peer for peer in _PEERS if _version(peer.name)}
MISSING: Mapping[str, str] = {
    peer.name: f"not installed: pip install {peer.name}, or the extra `bench`"
    for peer in _PEERS
    if peer.name not in PEERS
}


def versions() -> dict[str, str]:
    """Return the version of each package that the figures depend on, as far as it is installed."""
    names = (OURS.name, *(peer.name for peer in _PEERS), *_PACKAGES)
    return {name: found for name in names if (found := _version(name))}
