"""Real HTTP servers on loopback: a token endpoint and an API with scripted responses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl

import attrs
from aiohttp import web

from simplestore_async import ClientCredentials, RetryPolicy, TokenEndpoint, TokenProvider

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SECRET = 'canary-secret+&=%: "é'


@attrs.frozen
class Received:
    """A request as the server received it."""

    method: str
    path: str
    query: str
    headers: Any
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=True))


class Server:
    """A server on an ephemeral port of 127.0.0.1 that records every request."""

    def __init__(self, handler: Handler, *, ssl_context: ssl.SSLContext | None = None) -> None:
        self.handler = handler
        self.requests: list[Received] = []
        self.arrived = asyncio.Event()  # set by each request and cleared by tests
        self._ssl = ssl_context
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"{'https' if self._ssl else 'http'}://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._ssl)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append(Received(request.method, request.path, request.query_string, request.headers.copy(), body))
        self.arrived.set()
        return await self.handler(request)


class TokenServer(Server):
    """A token endpoint that sends the responses in `replies` first, then new tokens.

    While `gate` is cleared, responses are delayed.
    """

    def __init__(self, *, ssl_context: ssl.SSLContext | None = None) -> None:
        super().__init__(self._reply, ssl_context=ssl_context)
        self.gate = asyncio.Event()
        self.gate.set()
        self.replies: list[web.Response | dict[str, Any] | int] = []
        self.lifetime: Any = 3600
        self.issued: list[str] = []

    @property
    def token_url(self) -> str:
        return f"{self.url}/connect/token"

    def credentials(self, **changes: Any) -> ClientCredentials:
        return ClientCredentials(**{"client_id": "app", "client_secret": SECRET, "token_url": self.token_url} | changes)

    def endpoint(self, **options: Any) -> TokenEndpoint:
        return TokenEndpoint(options.pop("credentials", None) or self.credentials(), **options)

    def provider(self, *, retry: RetryPolicy | None = None, **options: Any) -> TokenProvider:
        credentials = options.pop("credentials", None) or self.credentials()
        if retry is None:
            return TokenProvider(credentials, **options)
        endpoint = TokenEndpoint(credentials, policy=retry, clock=options.pop("clock", None))
        return TokenProvider(endpoint=endpoint, **options)

    async def _reply(self, request: web.Request) -> web.StreamResponse:
        # Chosen on arrival, so that the order of responses is that of the requests.
        scripted = self.replies.pop(0) if self.replies else None
        await self.gate.wait()
        if isinstance(scripted, web.Response):
            return scripted
        if isinstance(scripted, int):
            return web.json_response({"error": "temporarily_unavailable"}, status=scripted)
        if scripted is not None:
            return web.json_response(scripted)
        self.issued.append(f"canary-token-{len(self.issued) + 1}")
        return web.json_response({"access_token": self.issued[-1], "expires_in": self.lifetime, "token_type": "Bearer"})


class ApiServer(Server):
    """An API that echoes requests, and returns 401 for the tokens in `rejected`."""

    def __init__(self, *, ssl_context: ssl.SSLContext | None = None) -> None:
        super().__init__(self._reply, ssl_context=ssl_context)
        self.rejected: set[str] = set()

    @property
    def tokens(self) -> list[str | None]:
        """The token of each request, or None."""
        values = (request.headers.get("Authorization") for request in self.requests)
        return [None if value is None else value.removeprefix("Bearer ") for value in values]

    async def _reply(self, request: web.Request) -> web.StreamResponse:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not token or token in self.rejected:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
        return web.json_response({"path": request.path})
