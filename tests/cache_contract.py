"""What every cache owes its users, as tests: a subclass names a cache by its fixture `cache`."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from simplestore_async import AccessToken, SharedTokenCache, TokenCache

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from servers import TokenServer

T = TypeVar("T")

# The year 2100: no cache may think these tokens expired.
ISSUED_AT = 4_102_444_800.123456

ODD_KEYS = {
    "empty": "",
    "a path out of the folder": "../../x",
    "an absolute path": "/x",
    "a dot": ".",
    "NUL": "\0",
    "line break": "\n",
    "10 kB": "k" * 10_000,
    "unicode": "ключ 🔑 e\u0301",
    "lone surrogate": "\ud800",
}


def make_token(value: str = "canary-token", **changes: Any) -> AccessToken:
    fields: dict[str, Any] = {
        "issued_at": ISSUED_AT,
        "expires_at": ISSUED_AT + 3600.1,
        "scope": ("orders:read", "stock"),
    }
    return AccessToken(value, **fields | changes)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run *coroutine* on an event loop of its own, and leave alone the one that `asyncio.run()` would forget."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(coroutine)


class CacheContract:
    """The contract; `cache` must be empty."""

    @pytest.fixture
    def cache(self) -> TokenCache:
        raise NotImplementedError

    def test_is_a_token_cache(self, cache: TokenCache) -> None:
        """It has what the protocol `TokenCache` names."""
        assert isinstance(cache, TokenCache)

    async def test_unknown_key(self, cache: TokenCache) -> None:
        """A key that was never set gives None."""
        assert await cache.get("key") is None

    async def test_what_is_set_is_got(self, cache: TokenCache) -> None:
        """The token comes back equal in every field, instants to the last bit, as often as it is asked for."""
        token = make_token()
        await cache.set("key", token)
        for _ in range(2):
            got = await cache.get("key")
            assert token == got
            assert got is not None
            assert token.authorization == got.authorization
            assert (token.issued_at, token.expires_at) == (got.issued_at, got.expires_at)
            assert ("orders:read", "stock") == got.scope

    async def test_no_scope(self, cache: TokenCache) -> None:
        """A token without scope comes back without scope."""
        await cache.set("key", make_token(scope=()))
        assert make_token(scope=()) == await cache.get("key")

    async def test_the_last_one_counts(self, cache: TokenCache) -> None:
        """A second token for a key takes the place of the first, be it longer or shorter."""
        for value in ["long" * 100, "short", "longer" * 100]:
            await cache.set("key", make_token(value))
            assert make_token(value) == await cache.get("key")

    async def test_keys_are_independent(self, cache: TokenCache) -> None:
        """Each key has a token of its own, however alike the keys are."""
        keys = ["key", "KEY", "key ", " key", "key/", "key.json", "?", "\ufffd", "\udfff", *ODD_KEYS.values()]
        for number, key in enumerate(keys):
            assert await cache.get(key) is None
            await cache.set(key, make_token(f"token-{number}"))
        assert [make_token(f"token-{number}") for number in range(len(keys))] == [await cache.get(key) for key in keys]

    @pytest.mark.parametrize("key", ODD_KEYS.values(), ids=ODD_KEYS.keys())
    async def test_odd_keys(self, cache: TokenCache, key: str) -> None:
        """Any string is a key."""
        await cache.set(key, make_token())
        assert make_token() == await cache.get(key)

    async def test_many_tasks_with_keys_of_their_own(self, cache: TokenCache) -> None:
        """A hundred tasks at once set and get, each its own token."""

        async def use(number: int) -> AccessToken | None:
            await cache.set(f"key {number}", make_token(f"token-{number}"))
            return await cache.get(f"key {number}")

        got = await asyncio.gather(*map(use, range(100)))

        assert [make_token(f"token-{number}") for number in range(100)] == got

    async def test_many_tasks_with_one_key(self, cache: TokenCache) -> None:
        """While tasks set one key, every get gives a whole token that one of them set."""
        tokens = [make_token(f"token-{number}" * (1 + number)) for number in range(50)]
        await cache.set("key", tokens[0])
        got: list[AccessToken | None] = []

        async def get() -> None:
            got.append(await cache.get("key"))

        await asyncio.gather(*(task for token in tokens for task in (cache.set("key", token), get())))
        await get()

        assert 51 == len(got)
        assert all(token in tokens for token in got)

    def test_threads_with_loops_of_their_own(self, cache: TokenCache) -> None:
        """Four threads at once, each with an event loop, find their own tokens, and a whole one under a shared key."""
        start = threading.Barrier(4)

        async def use(number: int) -> list[AccessToken | None]:
            start.wait(10)
            own: list[AccessToken | None] = []
            for turn in range(10):
                await cache.set("shared", make_token("shared"))
                await cache.set(f"key {number}", make_token(f"token-{number}-{turn}"))
                own.append(await cache.get(f"key {number}"))
            return [*own, await cache.get("shared")]

        with ThreadPoolExecutor(4) as threads:
            results = list(threads.map(lambda number: run(use(number)), range(4)))

        for number, got in enumerate(results):
            assert [*(make_token(f"token-{number}-{turn}") for turn in range(10)), make_token("shared")] == got

    def test_loops_after_each_other(self, cache: TokenCache) -> None:
        """What one event loop set another gets, after the first is closed."""
        run(cache.set("key", make_token()))
        assert make_token() == run(cache.get("key"))

    async def test_providers_share_it(self, cache: TokenCache, token_server: TokenServer) -> None:
        """Two providers after each other, over one cache, make one token request."""
        tokens = []
        for _ in range(2):
            async with token_server.provider(cache=cache) as provider:
                tokens.append(await provider.get_token())

        assert tokens[0] == tokens[1]
        assert 1 == len(token_server.requests)

    async def test_providers_of_other_clients_do_not(self, cache: TokenCache, token_server: TokenServer) -> None:
        """Two providers with different client ids get tokens of their own from one cache."""
        for client_id in ["one", "two"]:
            async with token_server.provider(
                cache=cache, credentials=token_server.credentials(client_id=client_id)
            ) as provider:
                await provider.get_token()

        assert 2 == len(token_server.requests)


class SharedCacheContract(CacheContract):
    """The contract of a `SharedTokenCache`: all of the above, and a lock that one holds at a time."""

    @pytest.fixture
    def cache(self) -> SharedTokenCache:
        raise NotImplementedError

    def test_is_a_shared_token_cache(self, cache: SharedTokenCache) -> None:
        """It has what the protocol `SharedTokenCache` names."""
        assert isinstance(cache, SharedTokenCache)

    async def test_one_task_at_a_time(self, cache: SharedTokenCache) -> None:
        """Of many tasks that want the lock each gets it, one after the other."""
        inside: list[int] = []

        async def hold(number: int) -> None:
            async with cache.renewal_lock("key"):
                inside.append(number)
                await cache.get("key")
                assert number == inside[-1]

        await asyncio.gather(*map(hold, range(5)))
        assert [0, 1, 2, 3, 4] == sorted(inside)

    def test_one_thread_at_a_time(self, cache: SharedTokenCache) -> None:
        """So does each of several threads with event loops of their own."""
        inside: list[int] = []

        async def hold(number: int) -> None:
            async with cache.renewal_lock("key"):
                inside.append(number)
                await cache.get("key")
                assert number == inside[-1]

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda number: run(hold(number)), range(4)))
        assert [0, 1, 2, 3] == sorted(inside)

    async def test_locks_are_independent(self, cache: SharedTokenCache) -> None:
        """Holding one key's lock keeps nobody from another's."""
        async with cache.renewal_lock("key"), cache.renewal_lock("other"):
            pass

    async def test_holder_uses_the_cache(self, cache: SharedTokenCache) -> None:
        """The holder, and everybody else, may read and write meanwhile."""
        async with cache.renewal_lock("key"):
            await cache.set("key", make_token())
            assert make_token() == await cache.get("key")

    @pytest.mark.parametrize("key", ODD_KEYS.values(), ids=ODD_KEYS.keys())
    async def test_odd_locks(self, cache: SharedTokenCache, key: str) -> None:
        """Any string has a lock, again and again."""
        for _ in range(2):
            async with cache.renewal_lock(key):
                pass

    async def test_is_released_after_an_error(self, cache: SharedTokenCache) -> None:
        """What the holder raises is raised, and the lock is free."""
        with pytest.raises(ZeroDivisionError):
            async with cache.renewal_lock("key"):
                raise ZeroDivisionError
        async with cache.renewal_lock("key"):
            pass

    @pytest.mark.parametrize("is_held", [True, False])
    async def test_is_free_after_a_cancelled_wait(self, cache: SharedTokenCache, *, is_held: bool) -> None:
        """Whoever is cancelled in whatever step of waiting for the lock, or of getting it, does not keep it."""

        async def hold() -> None:
            async with cache.renewal_lock("key"):
                await asyncio.Event().wait()

        for steps in range(12):
            async with AsyncExitStack() as stack:
                if is_held:
                    await stack.enter_async_context(cache.renewal_lock("key"))
                holder = asyncio.create_task(hold())
                for _ in range(steps):
                    await asyncio.sleep(0)
                holder.cancel()
                await asyncio.wait([holder])
            async with asyncio.timeout(10), cache.renewal_lock("key"):
                assert holder.cancelled()
