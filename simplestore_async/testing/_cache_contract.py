"""Test suite for caches. Rule: each test checks one guarantee, which its assertions name."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pprint import pformat
from typing import Any, ClassVar

import pytest

from simplestore_async import AccessToken, ClientCredentials, TokenCache, TokenProvider
from simplestore_async.errors import ConfigurationError
from simplestore_async.sandbox import Sandbox

from ._running import check, check_equal, fail, run, within
from ._samples import ODD_KEYS, make_token

__all__ = ["CANCELLED_STEPS", "TokenCacheContract"]

# Number of event loop turns after each of which a call is cancelled; more than a local call takes.
CANCELLED_STEPS = 12


class TokenCacheContract:
    """Test that a cache fulfils the requirements of `simplestore_async.TokenCache`.

    Subclass it with a fixture `cache` that returns an empty cache. For a cache that processes share, use
    `SharedTokenCacheContract` instead::

        class TestMyCache(TokenCacheContract):
            @pytest.fixture
            def cache(self):
                return MyCache()

    Requires pytest-asyncio, in either mode; `cache` may be an async fixture. To omit a requirement, override its test
    in the subclass, such as `test_threads_at_once = None` for a cache that belongs to one thread.

    Attributes:
        patience_seconds: time limit of an operation, after which it counts as hanging.
    """

    patience_seconds: ClassVar[float] = 10.0

    @pytest.fixture
    def cache(self) -> Any:
        """Return the cache to test: a new and empty one for each test."""
        raise ConfigurationError(
            "cache", f"is not defined by {type(self).__name__}", "give it a fixture that returns a cache"
        )

    def test_is_a_token_cache(self, cache: TokenCache) -> None:
        """The cache implements the `TokenCache` protocol."""
        check(isinstance(cache, TokenCache), "a cache has the coroutines get(key) and set(key, token)")

    @pytest.mark.asyncio
    async def test_unknown_key(self, cache: TokenCache) -> None:
        """get() of a key that was never set returns None."""
        check(await cache.get("key") is None, "get() of a key that was never set returns None")

    @pytest.mark.asyncio
    @pytest.mark.parametrize(
        "changes", [{}, {"scope": ()}, {"is_replacement": False}], ids=["every field", "no scope", "no replacement"]
    )
    async def test_what_is_set_is_got(self, cache: TokenCache, changes: dict[str, Any]) -> None:
        """Every get() returns the token with all its fields, and timestamps to the microsecond."""
        token = make_token(**changes)
        await cache.set("key", token)
        for _ in range(2):
            got = await cache.get("key")
            if not isinstance(got, AccessToken):
                fail("get() returns the AccessToken that was set, again and again")
            check_equal((token.value, token.token_type), (got.value, got.token_type), "a token keeps its value")
            instants = (got.issued_at, got.expires_at)
            check_equal((token.issued_at, token.expires_at), instants, "a token keeps its instants to the microsecond")
            check_equal(token.scope, got.scope, "a token keeps its scope, in its order")
            check(token.is_replacement is got.is_replacement, "a token keeps is_replacement")

    @pytest.mark.asyncio
    async def test_the_last_one_counts(self, cache: TokenCache) -> None:
        """A second token for a key replaces the first, even if it is shorter."""
        for value in ["long" * 100, "short", "longer" * 100]:
            await cache.set("key", make_token(value))
            check_equal(make_token(value), await cache.get("key"), "get() returns the token that was set last, whole")

    @pytest.mark.asyncio
    async def test_expired_tokens(self, cache: TokenCache) -> None:
        """A token that has expired, or is about to, can be set and replaces the previous one."""
        now = time.time()
        for life_seconds in (-1000, 0.001):
            await cache.set("key", make_token("before"))
            token = make_token(issued_at=now - 3600, expires_at=now + life_seconds)
            await cache.set("key", token)
            got = await cache.get("key")
            check(got in (None, token), "get() returns a token that has expired, or None, and never an older one")
        await cache.set("key", make_token())
        check_equal(make_token(), await cache.get("key"), "a token can be set where an expired one was")

    @pytest.mark.asyncio
    async def test_keys_are_independent(self, cache: TokenCache) -> None:
        """Each key has its own token, however similar the keys are."""
        keys = ["key", "KEY", "key ", " key", "key/", "key.json", "?", "\ufffd", *ODD_KEYS.values()]
        for number, key in enumerate(keys):
            check(await cache.get(key) is None, "a key is not confused with a similar one")
            await cache.set(key, make_token(f"token-{number}"))
        for number, key in enumerate(keys):
            check_equal(make_token(f"token-{number}"), await cache.get(key), "each key keeps its own token")

    @pytest.mark.asyncio
    @pytest.mark.parametrize("key", ODD_KEYS.values(), ids=ODD_KEYS.keys())
    async def test_odd_keys(self, cache: TokenCache, key: str) -> None:
        """Any string is a key."""
        await cache.set(key, make_token())
        check_equal(make_token(), await cache.get(key), "any text is a key")

    @pytest.mark.asyncio
    async def test_many_tasks_with_keys_of_their_own(self, cache: TokenCache) -> None:
        """Each of a hundred concurrent tasks sets and gets its own token."""

        async def use(number: int) -> AccessToken | None:
            await cache.set(f"key {number}", make_token(f"token-{number}"))
            return await cache.get(f"key {number}")

        got = await asyncio.gather(*map(use, range(100)))

        expected = [make_token(f"token-{number}") for number in range(100)]
        check_equal(expected, got, "concurrent tasks with their own keys do not affect each other")

    @pytest.mark.asyncio
    async def test_many_tasks_with_one_key(self, cache: TokenCache) -> None:
        """While tasks set one key, every get returns a whole token that one of them set."""
        tokens = [make_token(f"token-{number}" * (1 + number), scope=str(number)) for number in range(50)]
        await cache.set("key", tokens[0])
        got: list[AccessToken | None] = []

        async def get() -> None:
            got.append(await cache.get("key"))

        await asyncio.gather(*(task for token in tokens for task in (cache.set("key", token), get())))
        await get()

        check(all(token in tokens for token in got), "a get during sets returns one of their tokens, whole")

    @pytest.mark.asyncio
    @pytest.mark.parametrize("operation", ["get", "set"])
    async def test_a_cancelled_call(self, cache: TokenCache, operation: str) -> None:
        """A call that is cancelled at any step neither blocks nor corrupts the next one."""
        token = make_token()
        await cache.set("key", token)
        for steps in range(CANCELLED_STEPS):
            call = asyncio.create_task(cache.get("key") if operation == "get" else cache.set("key", token))
            for _ in range(steps):
                await asyncio.sleep(0)
            call.cancel()
            async with within(self.patience_seconds, "a cancelled call ends"):
                await asyncio.wait([call])
            error = None if call.cancelled() else call.exception()
            check(error is None, "a cancelled call raises nothing but CancelledError")
            async with within(self.patience_seconds, "a cancelled call does not block the next one"):
                check_equal(token, await cache.get("key"), "a cancelled call leaves a whole token behind")
                await cache.set("key", token)

    def test_threads_at_once(self, cache: TokenCache) -> None:
        """Event loops in four threads at once get their own tokens, and a whole one for a shared key."""
        start = threading.Barrier(4)

        async def use(number: int) -> list[AccessToken | None]:
            start.wait(self.patience_seconds)
            own: list[AccessToken | None] = []
            async with within(self.patience_seconds, "a cache works on event loops in several threads at once"):
                for turn in range(10):
                    await cache.set("shared", make_token("shared"))
                    await cache.set(f"key {number}", make_token(f"token-{number}-{turn}"))
                    own.append(await cache.get(f"key {number}"))
                own.append(await cache.get("shared"))
            return own

        with ThreadPoolExecutor(4) as threads:
            results = list(threads.map(run, map(use, range(4))))

        for number, got in enumerate(results):
            expected = [*(make_token(f"token-{number}-{turn}") for turn in range(10)), make_token("shared")]
            check_equal(expected, got, "event loops in several threads at once do not affect each other")

    def test_loops_after_each_other(self, cache: TokenCache) -> None:
        """Each `asyncio.run()` in a row, with concurrent tasks, finds the token of the previous one."""
        token = make_token()

        async def use() -> list[AccessToken | None]:
            async with within(self.patience_seconds, "a cache works on each event loop, after others were closed"):
                before = await cache.get("key")
                await asyncio.gather(*(cache.set("key", token) for _ in range(5)))
                return [before, *await asyncio.gather(*(cache.get("key") for _ in range(5)))]

        for before in (None, token, token):
            check_equal(
                [before] + [token] * 5, run(use()), "a token set on one event loop is found there and on the next"
            )

    @pytest.mark.asyncio
    async def test_shows_no_token(self, cache: TokenCache) -> None:
        """No repr, str or pretty print of the cache shows its tokens."""
        await cache.set("key", make_token())
        shown = [repr(cache), str(cache), pformat(cache), repr(await cache.get("key"))]
        check(not any("canary" in text for text in shown), "a cache does not show the tokens that it keeps")

    @pytest.mark.asyncio
    async def test_providers_share_it(self, cache: TokenCache) -> None:
        """Two providers in sequence with one cache make one token request."""
        async with Sandbox() as sandbox:
            for _ in range(2):
                async with TokenProvider(sandbox.credentials, cache=cache) as provider:
                    await provider.get_token()

            check_equal(1, sandbox.counters.token_requests, "a provider uses the token that another one stored")

    @pytest.mark.asyncio
    async def test_providers_of_other_credentials_do_not(self, cache: TokenCache) -> None:
        """Two providers with different credentials and one cache do not share tokens."""
        async with Sandbox() as sandbox:
            for scope in ["orders", "stock"]:
                credentials = ClientCredentials(
                    client_id=sandbox.environment["SIMPLESTORE_CLIENT_ID"],
                    client_secret=sandbox.environment["SIMPLESTORE_CLIENT_SECRET"],
                    token_url=sandbox.token_url,
                    scope=scope,
                )
                async with TokenProvider(credentials, cache=cache) as provider:
                    await provider.get_token()

            check_equal(2, sandbox.counters.token_requests, "a provider does not take the token of other credentials")
