"""`open_session()`: entering, misuse, and that leaving closes what was made."""

from __future__ import annotations

import asyncio
import gc
from typing import Any, TypeVar

import aiohttp
import pytest

from simplestore_async import (
    TokenProvider,
    open_session,
)
from simplestore_async.errors import ProviderClosedError
from tests.support.api_servers import private_ca
from tests.support.servers import ApiServer, TokenServer
from tests.support.sessions import clear_environment, get

T = TypeVar("T")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that names no credentials and no proxies."""
    clear_environment(monkeypatch)
    return monkeypatch


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
