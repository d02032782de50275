"""One provider on several event loops: results that come late, and outages that one loop begins and another ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from simplestore_async import AccessToken, MemoryTokenCache, RenewalPolicy
from simplestore_async.errors import TokenEndpointError
from simplestore_async.events import Event, OutageBegan, OutageEnded, RenewalFailed, TokenReceived
from tests.support.loops import hold_back, other_loop, request_arrives
from tests.support.providers import DUE, TICK, get_at_once

if TYPE_CHECKING:
    from tests.support.clocks import FakeClock
    from tests.support.servers import TokenServer


class TestLateResult:
    @pytest.mark.parametrize("later", [0, TICK, 60], ids=["at once", "a little later", "later"])
    async def test_never_replaces_a_newer_token(
        self, token_server: TokenServer, clock: FakeClock, events: list[Event], later: float
    ) -> None:
        """A token requested earlier that arrives later is dropped; its waiters get the newer one."""
        gate = hold_back(token_server)
        async with other_loop() as start, token_server.provider(clock=clock, on_event=events.append) as provider:
            caller = asyncio.create_task(provider.get_token())
            await request_arrives(token_server, 1)
            clock.advance(later)
            hold_back(token_server).set()
            newer = await start(provider.get_token())
            assert newer is get_at_once(provider)

            gate.set()

            assert newer is await caller
            assert newer is get_at_once(provider)
        assert ["canary-token-1", "canary-token-2"] == token_server.issued
        assert "canary-token-1" == newer.value
        assert [("endpoint", False, 3_600.0), ("memory", False, 3_600.0)] == [
            (event.source, event.is_unchanged, event.life_seconds)
            for event in events
            if isinstance(event, TokenReceived)
        ]

    async def test_is_taken_if_it_is_newer(self, token_server: TokenServer, clock: FakeClock) -> None:
        """A token that was asked for later, and comes later, replaces the held one."""
        async with other_loop() as start, token_server.provider(clock=clock) as provider:
            first_gate = hold_back(token_server)
            first = asyncio.create_task(provider.get_token())
            await request_arrives(token_server, 1)
            clock.advance(TICK)
            second_gate = hold_back(token_server)
            second = start(provider.get_token())
            await request_arrives(token_server, 2)

            first_gate.set()
            assert "canary-token-1" == (await first).value
            second_gate.set()

            assert await second is get_at_once(provider)
        assert "canary-token-2" == (await second).value

    @pytest.mark.parametrize(("age", "posts"), [(60 - TICK, 2), (60, 3)], ids=["alive", "expired"])
    async def test_finds_a_newer_token_that_has_expired(
        self, token_server: TokenServer, clock: FakeClock, events: list[Event], age: float, posts: int
    ) -> None:
        """A token older than one that has expired meanwhile does not serve: the same renewal asks for another one."""
        gate = hold_back(token_server)
        async with other_loop() as start, token_server.provider(clock=clock, on_event=events.append) as provider:
            caller = asyncio.create_task(provider.get_token())
            await request_arrives(token_server, 1)
            hold_back(token_server).set()
            token_server.replies = [{"access_token": "canary-newer", "expires_in": 60}]
            await start(provider.get_token())
            clock.advance(age)
            gate.set()

            assert ("canary-newer" if posts == 2 else "canary-token-2") == (await caller).value
        assert posts == len(token_server.requests)
        assert ["endpoint", "memory" if posts == 2 else "endpoint"] == [
            event.source for event in events if isinstance(event, TokenReceived)
        ]

    async def test_is_not_stored(self, token_server: TokenServer, clock: FakeClock) -> None:
        """A token that is dropped does not replace the newer one in the cache either."""
        cache = MemoryTokenCache(clock=clock)
        gate = hold_back(token_server)
        async with other_loop() as start, token_server.provider(clock=clock, cache=cache) as provider:
            caller = asyncio.create_task(provider.get_token())
            await request_arrives(token_server, 1)
            hold_back(token_server).set()
            newer = await start(provider.get_token())
            gate.set()
            await caller

        assert newer is await cache.get(token_server.credentials().cache_key)

    async def test_failure_finds_a_newer_token(
        self, token_server: TokenServer, clock: FakeClock, events: list[Event]
    ) -> None:
        """A renewal that fails after another loop's succeeded gives its callers that token; it is no outage."""
        token_server.replies = [400]
        gate = hold_back(token_server)
        async with other_loop() as start, token_server.provider(clock=clock, on_event=events.append) as provider:
            caller = asyncio.create_task(provider.get_token())
            await request_arrives(token_server, 1)
            hold_back(token_server).set()
            newer = await start(provider.get_token())
            gate.set()

            assert newer is await caller
            # The endpoint is not left alone either.
            assert provider.invalidate(newer)
        assert [] == [event for event in events if isinstance(event, RenewalFailed | OutageBegan)]
        assert ["endpoint", "memory"] == [event.source for event in events if isinstance(event, TokenReceived)]

    async def test_failure_finds_a_token_that_is_due(
        self, token_server: TokenServer, clock: FakeClock, events: list[Event]
    ) -> None:
        """If that token came so late that it is due, it serves the callers too; and the failure is one."""
        async with other_loop() as start, token_server.provider(clock=clock, on_event=events.append) as provider:
            late_gate = hold_back(token_server)
            late = start(provider.get_token())
            await request_arrives(token_server, 1)
            clock.advance(DUE)
            token_server.replies = [400]
            gate = hold_back(token_server)
            caller = asyncio.create_task(provider.get_token())
            await request_arrives(token_server, 2)
            late_gate.set()
            token = await late
            gate.set()

            assert token is await caller
            assert not provider.invalidate(token)
        assert [True] == [event.is_token_alive for event in events if isinstance(event, RenewalFailed)]

    @pytest.mark.parametrize(
        ("age", "sources", "posts"),
        [
            pytest.param(1_800 - TICK, ["endpoint", "memory"], 1, id="fresh"),
            pytest.param(1_800, ["endpoint", "endpoint"], 2, id="due"),
        ],
    )
    async def test_token_came_while_the_cache_was_asked(
        self,
        *,
        token_server: TokenServer,
        clock: FakeClock,
        events: list[Event],
        age: float,
        sources: list[str],
        posts: int,
    ) -> None:
        """A renewal with a slow cache read takes another loop's token, unless it is due."""
        is_asked, answer = asyncio.Event(), asyncio.Event()
        here = asyncio.get_running_loop()

        class SlowHere(MemoryTokenCache):
            async def get(self, key: str, /) -> AccessToken | None:
                if asyncio.get_running_loop() is here:
                    is_asked.set()
                    await answer.wait()
                return None

        policy = RenewalPolicy(first_due_fractions=(0.5, 0.5))
        async with (
            other_loop() as start,
            token_server.provider(clock=clock, cache=SlowHere(), policy=policy, on_event=events.append) as provider,
        ):
            caller = asyncio.create_task(provider.get_token())
            await is_asked.wait()
            newer = await start(provider.get_token())
            clock.advance(age)
            answer.set()

            assert (posts == 1) is (newer is await caller)
        assert sources == [event.source for event in events if isinstance(event, TokenReceived)]
        assert posts == len(token_server.requests)

    async def test_replacements_of_two_loops(self, token_server: TokenServer, clock: FakeClock) -> None:
        """When two loops replace one rejected token, each new token is a replacement, and held while it is young."""
        async with other_loop() as start, token_server.provider(clock=clock) as provider:
            provider.invalidate(await provider.get_token())
            first_gate = hold_back(token_server)
            first = asyncio.create_task(provider.get_token())
            await request_arrives(token_server, 2)
            clock.advance(TICK)
            second_gate = hold_back(token_server)
            second = start(provider.get_token())
            await request_arrives(token_server, 3)
            first_gate.set()
            assert not provider.invalidate(await first)
            second_gate.set()

            assert not provider.invalidate(await second)
        assert 3 == len(token_server.requests)


class TestOutage:
    async def test_ends_on_another_loop(self, token_server: TokenServer, clock: FakeClock, events: list[Event]) -> None:
        """An outage that began on one loop ends with the other's success, even if that renewal began before it."""
        async with (
            other_loop() as start,
            token_server.provider(clock=clock, on_event=events.append) as provider,
        ):
            gate = hold_back(token_server)
            success = start(provider.get_token())
            await request_arrives(token_server, 1)
            hold_back(token_server).set()
            token_server.replies = [400]
            with pytest.raises(TokenEndpointError):
                await provider.get_token()
            clock.advance(2)
            gate.set()

            assert await success is get_at_once(provider)
        assert [OutageBegan, OutageEnded] == [
            type(event) for event in events if isinstance(event, OutageBegan | OutageEnded)
        ]
        assert [OutageEnded(duration_seconds=2.0)] == [event for event in events if isinstance(event, OutageEnded)]

    async def test_ends_once(self, token_server: TokenServer, clock: FakeClock, events: list[Event]) -> None:
        """Its end is reported once, although two loops succeed."""
        token_server.replies = [400]
        async with other_loop() as start, token_server.provider(clock=clock, on_event=events.append) as provider:
            with pytest.raises(TokenEndpointError):
                await provider.get_token()
            clock.advance(5)
            gate = hold_back(token_server)
            first = asyncio.create_task(provider.get_token())
            await request_arrives(token_server, 2)
            clock.advance(TICK)
            second = start(provider.get_token())
            await request_arrives(token_server, 3)
            gate.set()
            await first
            await second

        assert [OutageBegan, OutageEnded] == [
            type(event) for event in events if isinstance(event, OutageBegan | OutageEnded)
        ]
