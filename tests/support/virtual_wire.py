"""A token endpoint on virtual time: all of it is the package's own code, but the connection, which a test plays."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import attrs

from simplestore_async import TokenEndpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@attrs.define
class Stream:
    """A body that arrives in pieces."""

    pieces: list[bytes]

    async def readany(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


@attrs.frozen
class Reply:
    """A server's response to a POST; the fields that a token request reads of aiohttp's response."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def content(self) -> Stream:
        return Stream([self.body])


def grant(value: str, seconds: float) -> Reply:
    """Return the response that holds a token."""
    return Reply(200, json.dumps({"access_token": value, "token_type": "Bearer", "expires_in": seconds}).encode())


Answer: TypeAlias = Callable[[], Awaitable[Reply]]
"""Called for each POST: returns the response, or raises as aiohttp does."""


class VirtualEndpoint(TokenEndpoint):
    """A `TokenEndpoint` whose POSTs all go to *answer*: attempts, pauses, budget and errors are the real ones."""

    def __init__(self, *args: Any, answer: Answer, **options: Any) -> None:
        super().__init__(*args, **options)
        self._answer = answer

    def _open_session(self) -> Any:
        return _Session(self._answer)


@attrs.frozen
class _Session:
    """So much of an `aiohttp.ClientSession` as a token request uses."""

    _answer: Answer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    @asynccontextmanager
    async def post(self, _url: object, **_options: object) -> AsyncIterator[Reply]:
        yield await self._answer()
