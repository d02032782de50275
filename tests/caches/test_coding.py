"""Custom codecs and failing codecs."""
# ruff: noqa: ASYNC240 - these tests are about files, and their loop runs nothing else

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from simplestore_async import FileTokenCache
from simplestore_async.caches import TokenCodec
from simplestore_async.caches.redis import RedisTokenCache
from simplestore_async.errors import ConfigurationError, TokenCacheError
from tests.support.cache_files import KEY, NAME, TOKEN, name, use
from tests.support.tokens import make_token
from tests.support.tracebacks import everything_shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.redis_server import RedisServer


class Codec:
    """A minimal codec, which records the threads that call it."""

    def __init__(self) -> None:
        self.threads: set[str] = set()

    def encode(self, data: bytes, /) -> bytes:
        self.threads.add(threading.current_thread().name)
        return data[::-1]

    decode = encode


class BrokenCodec(Codec):
    """A codec with a given fault."""

    def __init__(self, fault: Callable[[bytes], Any]) -> None:
        super().__init__()
        self.encode = self.decode = fault  # type: ignore[method-assign]


def raise_with_data(data: bytes) -> bytes:
    raise LookupError(data)


def raise_cache_error(data: bytes) -> bytes:
    raise TokenCacheError("the vault is closed")


FAULTS = {
    "raises": (raise_with_data, "it raised LookupError"),
    "TokenCacheError": (raise_cache_error, "the vault is closed"),
    "text": (bytes.decode, "it returned str instead of bytes"),
    "bytearray": (bytearray, "it returned bytearray instead of bytes"),
}


async def test_custom_codec(directory: Path) -> None:
    """A cache stores the output of its codec, and calls it in the cache's thread."""
    codec = Codec()
    cache = FileTokenCache(directory, codec=codec)
    await cache.set(KEY, TOKEN)
    assert b"canary"[::-1] in (directory / NAME).read_bytes()
    assert TOKEN == await cache.get(KEY)
    assert [""] == [file.problem for file in await cache.list_files()]
    assert {"simplestore-cache"} == codec.threads
    assert isinstance(codec, TokenCodec)


async def test_codec_in_redis(shared_redis: RedisServer, namespace: str) -> None:
    """A cache in Redis calls its codec in the cache's thread, not on the event loop."""
    codec = Codec()
    cache = RedisTokenCache.from_url(shared_redis.patient_url, namespace=namespace, codec=codec)
    await cache.set(KEY, TOKEN)
    assert b"canary"[::-1] in await shared_redis.command("GET", name(namespace, "token-v2"))
    assert TOKEN == await cache.get(KEY)
    assert {"simplestore-cache"} == codec.threads


@pytest.mark.parametrize(("fault", "problem"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("operation", ["get", "set", "list_files"])
async def test_failing_codec(
    directory: Path, path: Path, operation: str, fault: Callable[[bytes], Any], problem: str
) -> None:
    """A failing codec causes a TokenCacheError that does not show its input, and leaves the file unchanged."""
    before = path.read_bytes()
    with pytest.raises(TokenCacheError) as caught:
        await use(FileTokenCache(directory, codec=BrokenCodec(fault)), operation)

    assert (f"the codec failed: {problem}", "") == (caught.value.problem, caught.value.hint)
    assert "canary" not in everything_shown(caught.value)
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)
    assert [(NAME, before)] == [(each.name, each.read_bytes()) for each in directory.iterdir()]


async def test_output_is_not_shown(directory: Path) -> None:
    """Errors about the file do not show a codec's output, which may be readable, as after compression."""
    cache = FileTokenCache(directory, codec=BrokenCodec(lambda data: bytes(bytearray(data))))
    with pytest.raises(TokenCacheError, match="the token is too long to be stored") as caught:
        await cache.set(KEY, make_token("canary" * 20_000))
    assert "canary" not in everything_shown(caught.value)


async def test_codec_returns_none(directory: Path, path: Path) -> None:
    """None is a cache miss as a result of decode() and an error as a result of encode()."""
    before = path.read_bytes()
    cache = FileTokenCache(directory, codec=BrokenCodec(lambda data: None))
    with pytest.raises(TokenCacheError, match="it returned NoneType instead of bytes"):
        await cache.set(KEY, TOKEN)
    assert before == path.read_bytes()
    assert await cache.get(KEY) is None


@pytest.mark.parametrize(
    "codec", ["text", b"bytes", object(), Codec, len], ids=["str", "bytes", "object", "class", "function"]
)
def test_wrong_type(tmp_path: Path, codec: Any) -> None:
    """The constructor refuses an object without both methods, and a class instead of an instance."""
    with pytest.raises(ConfigurationError) as caught:
        FileTokenCache(tmp_path, codec=codec)
    assert "codec" == caught.value.field
    assert caught.value.problem.startswith("must be an object with encode() and decode(), got ")
