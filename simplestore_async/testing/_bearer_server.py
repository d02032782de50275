"""Server and tokens of the contract for HTTP adapters. Rule: tokens are fake and start with `canary`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self

import attrs
from aiohttp import web

from simplestore_async import AccessToken
from simplestore_async.errors import TokenError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ApiServer", "ReceivedRequest", "TokenList", "bearer"]

_LARGEST_BODY: Final = 1 << 24


def bearer(number: int) -> str:
    """Return the Authorization header with the token of this number."""
    return f"Bearer canary-token-{number}"


class TokenList:
    """Token source with numbered tokens; it records the rejected ones."""

    def __init__(self, numbers: Sequence[int], *, may_replace: bool = True) -> None:
        self._tokens = [AccessToken(f"canary-token-{number}", issued_at=0, expires_at=3600) for number in numbers]
        self._may_replace = may_replace
        self.invalidated: list[str] = []

    async def get_token(self) -> AccessToken:
        """Return the next token."""
        if not self._tokens:
            raise TokenError("no token is left")
        return self._tokens.pop(0)

    def invalidate(self, token: AccessToken) -> bool:
        """Record the rejection; return whether there may be another token."""
        self.invalidated.append(str(token.authorization))
        return self._may_replace


@attrs.frozen
class ReceivedRequest:
    """Request as the server received it."""

    method: str
    path: str
    authorizations: tuple[str, ...] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)


class ApiServer:
    """An API on loopback that records its requests, and responds 401 to the tokens in `rejected`.

    Attributes:
        requests: all requests.
        rejected: Authorization headers of tokens that are rejected.
        redirects: paths, and the URLs to which they redirect.
        may_end: until it is set, a response of `/slow` does not end.
    """

    def __init__(self) -> None:
        self.requests: list[ReceivedRequest] = []
        self.rejected: set[str] = set()
        self.redirects: dict[str, str] = {}
        self.may_end = asyncio.Event()
        self._port = 0

    @property
    def origin(self) -> str:
        """Origin of the server."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def authorizations(self) -> list[tuple[str, ...]]:
        """The Authorization headers of all requests."""
        return [request.authorizations for request in self.requests]

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=_LARGEST_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.may_end.set()
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        authorizations = tuple(request.headers.getall("Authorization", ()))
        self.requests.append(ReceivedRequest(request.method, request.path, authorizations, await request.read()))
        if request.path == "/reset" and request.transport is not None:
            request.transport.abort()
        if target := self.redirects.get(request.path):
            return web.Response(status=302, headers={"Location": target})
        status = 401 if self.rejected.intersection(authorizations) else 403 if request.path == "/forbidden" else 200
        response = web.StreamResponse(status=status)
        await response.prepare(request)
        await response.write(b"first ")
        if request.path == "/slow":
            await self.may_end.wait()
        await response.write(b"last")
        return response
