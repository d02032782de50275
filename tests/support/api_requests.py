"""Token sources and requests for the tests of API requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simplestore_async import AccessToken
from simplestore_async.errors import TokenError

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

    from tests.support.servers import Server


class ListSource:
    """A token source with a list of tokens; each is returned until it is rejected."""

    def __init__(self, *tokens: str, may_replace: bool = True) -> None:
        self._tokens = list(tokens)
        self._may_replace = may_replace

    async def get_token(self) -> AccessToken:
        if not self._tokens:
            raise TokenError("No token left")
        return AccessToken(self._tokens[0], issued_at=0, expires_at=3600)

    def invalidate(self, token: AccessToken) -> bool:
        if self._tokens[:1] == [token.value]:
            del self._tokens[0]
        return self._may_replace


class OneToken(ListSource):
    """A token source with one token."""

    def __init__(self) -> None:
        super().__init__("own-token", may_replace=False)


def authorizations(server: Server) -> list[list[str]]:
    return [request.headers.getall("Authorization", []) for request in server.requests]


async def fetch(session: aiohttp.ClientSession, url: str | URL, method: str = "GET", **options: Any) -> tuple[int, str]:
    async with session.request(method, url, **options) as response:
        return response.status, await response.text()


async def get(session: aiohttp.ClientSession, url: str) -> int:
    """Return the status of a GET request."""
    return (await fetch(session, url))[0]
