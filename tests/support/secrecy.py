"""Scenarios in which neither a secret nor a token may be shown, and a search for both."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import reprlib
from contextlib import asynccontextmanager
from pathlib import Path
from pprint import pformat
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import attrs
import pytest
from aiohttp import web
from rich.pretty import pretty_repr

from simplestore_async import ClientCredentials, RetryPolicy, SecretFile, open_session
from tests.support.servers import SECRET, ApiServer, TokenServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

# Longer than the part of a string that debuggers and rich's tracebacks show.
LONG_TOKEN = "canary-token-" + "x" * 200
# A canary at both ends, since asyncio's logs omit the middle.
LONG_SECRET = "canary-" + SECRET + "-canary-canary"
# The key of an encrypted cache, whose first letters are among the marks below.
CACHE_KEY = base64.urlsafe_b64encode(b"canary-key-" + b"x" * 21).decode()

BASIC = base64.b64encode(f"app:{quote(SECRET, safe='')}".encode()).decode()
_MARKS = ("canary", base64.b64encode(SECRET.encode()).decode()[:16].lower(), BASIC[:14].lower(), CACHE_KEY[:12].lower())


def shows_canary(text: str) -> bool:
    """Return whether *text* contains a canary in any form; every encoding but base64 keeps its first letters."""
    text = text.lower()
    return any(mark in text for mark in _MARKS)


def show_every_step(caplog: pytest.LogCaptureFixture) -> None:
    """Set every logger to DEBUG, and let asyncio log each step of each task with its repr."""
    caplog.set_level(logging.DEBUG)
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0


@attrs.frozen
class Scene:
    """The fixtures of a scenario, without a revealing repr."""

    token_server: TokenServer = attrs.field(repr=False)
    api_server: ApiServer = attrs.field(repr=False)
    retry: RetryPolicy = attrs.field(repr=False)
    tmp_path: Path = attrs.field(repr=False)
    environment: pytest.MonkeyPatch = attrs.field(repr=False)

    def reply(self, status: int, body: Any, **headers: str) -> None:
        """Set the token endpoint's response to all requests of one renewal."""
        text = body if isinstance(body, str) else json.dumps(body)
        self.token_server.replies += [web.Response(status=status, text=text, headers=headers) for _ in range(3)]

    def credentials(self, **changes: Any) -> ClientCredentials:
        return self.token_server.credentials(**changes)

    async def get_token(self, credentials: ClientCredentials | None = None, **changes: Any) -> None:
        retry = attrs.evolve(self.retry, **changes)
        async with self.token_server.provider(credentials=credentials, retry=retry) as provider:
            await provider.get_token()

    @asynccontextmanager
    async def session(self, **options: Any) -> AsyncIterator[aiohttp.ClientSession]:
        async with (
            self.token_server.provider(retry=self.retry) as provider,
            open_session(provider, base_url=self.api_server.url, **options) as session,
        ):
            yield session


@pytest.fixture
def scene(
    token_server: TokenServer,
    api_server: ApiServer,
    quick: RetryPolicy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Scene:
    return Scene(token_server, api_server, quick, tmp_path, monkeypatch)


def read_secret() -> str:
    return LONG_SECRET


def write_secret(path: Path) -> SecretFile:
    path.write_text(LONG_SECRET, "utf-8")
    return SecretFile(path)


WAYS: dict[str, Callable[[Any], str]] = {
    "repr": repr,
    "str": str,
    "format": format,
    "f-string": lambda value: f"{value!r} {value!s} {value!a}",
    "percent": lambda value: "%r %s" % (value, value),  # noqa: UP031 - as logging does
    "container": lambda value: str([{"key": (value,)}]),
    "pformat": lambda value: pformat([value, attributes(value)], width=20),
    "attributes": lambda value: repr(attributes(value)),
    "reprlib": lambda value: reprlib.repr([value, attributes(value)]),
    "rich": lambda value: pretty_repr([value, attributes(value)], max_string=80, max_length=10),
    "asdict": lambda value: repr(attrs.asdict(value) if attrs.has(type(value)) else value),
    "astuple": lambda value: repr(attrs.astuple(value) if attrs.has(type(value)) else value),
}


def attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of an object, including those in slots."""
    if isinstance(value, type | ModuleType | FunctionType):
        return {}
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    found = {name: getattr(value, name) for name in slots if hasattr(value, name) and not name.startswith("__")}
    return found | getattr(value, "__dict__", {})
