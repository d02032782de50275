"""`RedisTokenCache`: clients, arguments and secrecy."""

from __future__ import annotations

import asyncio
import logging
import pickle
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import redis as blocking
from cryptography.fernet import Fernet
from redis.asyncio import Redis, sentinel

from simplestore_async.caches._redis_client import _FAILURES, explained, response
from simplestore_async.caches.encryption import FernetCodec
from simplestore_async.caches.redis import RedisTokenCache
from simplestore_async.errors import ConfigurationError, TokenCacheError
from tests.support.cache_files import KEY, PASSWORD, QUOTED, TOKEN, enter, keys_in, name
from tests.support.redis_server import Proxy, RedisServer
from tests.support.tokens import make_token
from tests.support.tracebacks import everything_shown

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(("name", "facts"), _FAILURES.items(), ids=_FAILURES.keys())
async def test_known_errors(shared_redis: RedisServer, name: str, facts: tuple[str, str]) -> None:
    """Each known exception of redis-py is described by the package's text, not by its own."""
    kind = getattr(blocking.exceptions, name, None) or getattr(sentinel, name)

    async def fail() -> None:
        raise kind("canary")

    async with Redis(unix_socket_path=str(shared_redis.path)) as client:
        with pytest.raises(TokenCacheError) as caught:
            await explained(fail(), client)
    prefix = f"cannot use Redis at {shared_redis.path}"
    assert (f"{prefix}: {facts[0]}", facts[1]) == (caught.value.problem, caught.value.hint)


async def test_connections_are_closed(network: Proxy) -> None:
    """A client created for a call is closed after it, and calls of a lock's holder share one connection."""
    cache = RedisTokenCache.from_url(network.url)
    await cache.get(KEY)
    assert 1 == network.connections
    async with cache.renewal_lock(KEY):
        await cache.get(KEY)
        await cache.set(KEY, TOKEN)
        # A call from another task opens its own.
        await asyncio.create_task(cache.get(KEY))
    assert 3 == network.connections
    async with asyncio.timeout(60):
        while network.open_count:
            await asyncio.sleep(0)


async def test_client_of_the_caller(network: Proxy) -> None:
    """The caller's client is reused with one connection and stays open."""
    async with Redis.from_url(network.url) as client:
        cache = RedisTokenCache(client)
        for _ in range(3):
            async with cache.renewal_lock(KEY):
                await cache.set(KEY, TOKEN)
                assert TOKEN == await cache.get(KEY)
        assert (1, 1) == (network.connections, network.open_count)


async def test_cancelled_calls(network: Proxy) -> None:
    """If calls on one client are cancelled at any moment, no other call gets their response."""
    async with Redis.from_url(network.url) as client:
        cache = RedisTokenCache(client)
        expected = [make_token(f"token-{number}") for number in range(8)]
        for number, token in enumerate(expected):
            await cache.set(f"key {number}", token)

        async def get(number: int) -> None:
            for steps in range(10):
                call = asyncio.create_task(cache.get(f"key {number}"))
                for _ in range(steps):
                    await asyncio.sleep(0)
                call.cancel()
                await asyncio.wait([call])
                assert call.cancelled() or expected[number] == call.result()
                assert expected[number] == await cache.get(f"key {number}")

        await asyncio.gather(*map(get, range(8)))


async def test_cancelled_at_any_step(shared_redis: RedisServer, namespace: str) -> None:
    """Cancelling at any step, including close and release, leaves neither a lock nor a connection."""
    cache = RedisTokenCache.from_url(shared_redis.patient_url, namespace=namespace)

    async def use() -> None:
        async with cache.renewal_lock(KEY):
            await cache.get(KEY)
            await cache.set(KEY, TOKEN)

    steps, is_over = 0, False
    while not is_over:
        task = asyncio.create_task(use())
        for _ in range(steps):
            await asyncio.sleep(0)
        is_over = task.done()
        task.cancel()
        await asyncio.wait([task])
        steps += 1
        assert task.cancelled() or task.exception() is None
        assert name(namespace, "lock") not in await keys_in(shared_redis, namespace), steps


async def test_cancellation_that_redis_py_swallows() -> None:
    """A call that suppresses cancellation, as redis-py's may before Python 3.12, is cancelled nevertheless."""

    async def call() -> int:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return 1

    task = asyncio.create_task(response(call()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_cancelled_release(network: Proxy, redis_server: RedisServer, namespace: str) -> None:
    """A holder that is cancelled before the server confirms the release is cancelled and releases the lock."""
    cache, is_held = RedisTokenCache.from_url(network.url, namespace=namespace), asyncio.Event()

    async def hold() -> None:
        async with cache.renewal_lock(KEY):
            network.gate.clear()
            network.arrived.clear()
            is_held.set()

    holder = asyncio.create_task(hold())
    await is_held.wait()
    await network.arrived.wait()
    holder.cancel()
    network.gate.set()
    await asyncio.wait([holder])
    assert holder.cancelled()
    assert [] == await keys_in(redis_server, namespace)


def test_client_of_another_loop(shared_redis: RedisServer, namespace: str) -> None:
    """A caller's client that is used on a second event loop causes an error with a hint."""
    client = Redis(unix_socket_path=str(shared_redis.path))
    cache = RedisTokenCache(client, namespace=namespace)

    async def use() -> None:
        async with client:
            await cache.get(KEY)

    asyncio.run(use())
    with pytest.raises(TokenCacheError) as caught:
        asyncio.run(cache.get(KEY))
    assert "the Redis client belongs to another event loop" == caught.value.problem
    assert "give RedisTokenCache a callable that makes a client" == caught.value.hint


async def coroutine() -> None: ...


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (partial(blocking.Redis), "returned redis.client.Redis instead of a client of redis.asyncio"),
        (lambda: next(iter([coroutine()])), "returned builtins.coroutine instead of a client of redis.asyncio"),
        (lambda: Redis.from_url("canary"), "raised ValueError"),
    ],
    ids=["blocking", "coroutine", "raises"],
)
async def test_callable_without_client(make: Any, problem: str) -> None:
    """A callable that raises or returns no client causes an error without its values."""
    with pytest.raises(TokenCacheError) as caught:
        await RedisTokenCache(make).get(KEY)
    assert f"the callable that makes the Redis client {problem}" == caught.value.problem
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("client", "problem"),
    [
        (None, "got builtins.NoneType"),
        ("redis://:canary@host", "got builtins.str"),
        (blocking.Redis(), "got redis.client.Redis"),
        (blocking.Redis, "got the class redis.client.Redis"),
        (coroutine, "must be a plain function, got a coroutine function"),
        (lambda host: None, "must be callable with no positional arguments"),
    ],
    ids=["None", "URL", "blocking", "blocking class", "coroutine function", "one argument"],
)
def test_wrong_client(client: Any, problem: str) -> None:
    """Anything but a client or a callable is refused by its type."""
    with pytest.raises(ConfigurationError) as caught:
        RedisTokenCache(client)
    assert "client" == caught.value.field
    assert caught.value.problem.endswith(problem)


async def call_with(key: Any = KEY, token: Any = TOKEN) -> None:
    await RedisTokenCache.from_url("redis://127.0.0.1:1").set(key, token)


@pytest.mark.parametrize(
    ("field", "call"),
    [
        *(
            ("namespace", lambda value=value: RedisTokenCache(Redis, namespace=value))
            for value in ["", "a b", "{a}", "a*", "ä", "a\n", None, 5]
        ),
        *(
            ("lease_seconds", lambda value=value: RedisTokenCache(Redis, lease_seconds=value))
            for value in [0, 0.5, -1, float("nan"), float("inf"), True, "45", None]
        ),
        ("codec", lambda: RedisTokenCache(Redis, codec="key")),  # type: ignore[arg-type]
        ("key", lambda: call_with(key=None)),
        ("token", lambda: call_with(token="canary-token")),
        *(
            ("url", lambda value=value: RedisTokenCache.from_url(value))
            for value in [
                "https://host",
                "canary",
                "redis://:canary@host:canary",
                "redis://host?socket_timeout=canary",
                7,
                None,
                b"redis://canary",
            ]
        ),
    ],
)
async def test_wrong_argument(field: str, call: Any) -> None:
    """A wrong argument raises a ConfigurationError that names it without showing it."""
    with pytest.raises(ConfigurationError) as caught:
        await call()
    assert field == caught.value.field
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("value", "problem"), [("", "is not set"), ("canary", "is not the URL of a Redis server")], ids=["empty", "wrong"]
)
def test_environment(monkeypatch: pytest.MonkeyPatch, value: str, problem: str) -> None:
    """The error of an empty or wrong SIMPLESTORE_REDIS_URL names the variable."""
    monkeypatch.setenv("SIMPLESTORE_REDIS_URL", value)
    with pytest.raises(ConfigurationError) as caught:
        RedisTokenCache.from_env()
    assert ("SIMPLESTORE_REDIS_URL", problem) == (caught.value.field, caught.value.problem)


async def test_pickle(shared_redis: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache and codec from the environment pickle without URL and keys and read them again after unpickling."""
    key = Fernet.generate_key().decode()
    monkeypatch.setenv("SIMPLESTORE_CACHE_KEY", key)
    monkeypatch.setenv("SIMPLESTORE_REDIS_URL", "redis://:canary@nowhere")
    codec = FernetCodec.from_env()
    pickled = pickle.dumps(RedisTokenCache.from_env(namespace=namespace, lease_seconds=30, codec=codec))
    monkeypatch.setenv("SIMPLESTORE_REDIS_URL", shared_redis.url)
    cache = pickle.loads(pickled)
    await cache.set(KEY, TOKEN)

    assert b"canary" not in pickled
    assert key.encode() not in pickled
    assert TOKEN == await cache.get(KEY)
    assert await RedisTokenCache.from_env(namespace=namespace).get(KEY) is None
    assert f"RedisTokenCache(namespace='{namespace}', lease_seconds=30)" == repr(cache)


@pytest.mark.parametrize(
    "make",
    [lambda: RedisTokenCache(Redis), lambda: RedisTokenCache.from_url("redis://:canary@host")],
    ids=["callable", "URL"],
)
def test_pickle_is_refused(make: Callable[[], RedisTokenCache]) -> None:
    """A cache whose client may have a password cannot be pickled."""
    with pytest.raises(TypeError) as caught:
        pickle.dumps(make())
    assert (
        "a RedisTokenCache cannot be pickled, because its password would travel along: "
        "use RedisTokenCache.from_env() in each process" == str(caught.value)
    )


async def test_nothing_secret_shows(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the cache's repr, nor its errors with locals, nor the log show password or token."""
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    await redis_server.command("ACL", "SETUSER", "app", "on", f">{PASSWORD}", "+@all", "~*", "-set", "-getrange")
    errors: list[Exception] = []
    for url in (f"unix://app:{QUOTED}@{redis_server.path}", f"redis://app:{QUOTED}@127.0.0.1:1", f"x://{QUOTED}"):
        monkeypatch.setenv("SIMPLESTORE_REDIS_URL", url)
        for make in (partial(RedisTokenCache.from_url, url), RedisTokenCache.from_env):
            try:
                cache = make()
            except ConfigurationError as error:
                errors.append(error)
                continue
            assert "canary" not in repr(cache) + repr(vars(cache))
            too_long = make_token("canary" * 20_000)
            for call in (cache.get(KEY), cache.set(KEY, TOKEN), cache.set(KEY, too_long), enter(cache)):
                with pytest.raises(TokenCacheError) as caught:
                    await call
                errors.append(caught.value)

    assert 18 == len(errors)
    assert "canary" not in "".join(map(everything_shown, errors))
    assert "canary" not in caplog.text


@pytest.mark.parametrize(
    ("operation", "is_connecting"), [("get", True), ("get", False), ("set", False), ("lock", True), ("leave", True)]
)
async def test_deadline(redis_server: RedisServer, operation: str, is_connecting: bool) -> None:
    """The error of a call that a deadline ends shows neither password nor token in any frame's locals."""
    await redis_server.command("ACL", "SETUSER", "default", "on", f">{PASSWORD}")
    async with Proxy(redis_server.path) as network, AsyncExitStack() as stack:
        url = network.url.replace("redis://", f"redis://:{QUOTED}@")
        cache = RedisTokenCache.from_url(url)
        if not is_connecting:
            client = await stack.enter_async_context(Redis.from_url(url))
            cache = RedisTokenCache(client)
            await cache.set(KEY, TOKEN)
        scope = cache.renewal_lock(KEY)
        if operation == "leave":
            await scope.__aenter__()
        calls: dict[str, Callable[[], Any]] = {
            "get": lambda: cache.get(KEY),
            "set": lambda: cache.set(KEY, TOKEN),
            "lock": scope.__aenter__,
            "leave": lambda: scope.__aexit__(None, None, None),
        }
        network.gate.clear()
        network.arrived.clear()
        deadline = asyncio.timeout(None)

        async def expire() -> None:
            await network.arrived.wait()
            deadline.reschedule(0)

        expiry = asyncio.create_task(expire())
        with pytest.raises(TimeoutError) as caught:
            async with deadline:
                await calls[operation]()
        await expiry
        network.gate.set()

    assert "canary" not in everything_shown(caught.value)
