"""A token endpoint in virtual time: the package's own code with a simulated connection."""

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
    """A response to a POST, with the attributes of aiohttp's response that a token request reads."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def content(self) -> Stream:
        return Stream([self.body])


def grant(value: str, seconds: float) -> Reply:
    """Return a response with a token."""
    return Reply(200, json.dumps({"access_token": value, "token_type": "Bearer", "expires_in": seconds}).encode())


Answer: TypeAlias = Callable[[], Awaitable[Reply]]
"""Called for each POST; returns the response, or raises like aiohttp."""


class VirtualEndpoint(TokenEndpoint):
    """A `TokenEndpoint` whose POSTs call *answer*; attempts, pauses, budget and errors are the real ones."""

    def __init__(self, *args: Any, answer: Answer, **options: Any) -> None:
        super().__init__(*args, **options)
        self._answer = answer

    def _open_session(self) -> Any:
        return _Session(self._answer)


@attrs.frozen
class _Session:
    """The part of an `aiohttp.ClientSession` that a token request uses."""

    _answer: Answer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    @asynccontextmanager
    async def post(self, _url: object, **_options: object) -> AsyncIterator[Reply]:
        yield await self._answer()
