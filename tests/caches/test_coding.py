"""Custom codecs, and codecs that fail."""
# ruff: noqa: ASYNC240 - these tests are about files, and their loop runs nothing else

from __future__ import annotations

import pickle
import threading
from traceback import TracebackException
from typing import TYPE_CHECKING, Any

import pytest

from simplestore_async import FileTokenCache
from simplestore_async.caches import TokenCodec
from simplestore_async.errors import ConfigurationError, TokenCacheError
from tests.support.tokens import make_token

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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
# Neither a local nor a literal of a test: a traceback would show it.
LONG_TOKEN = make_token("canary" * 20_000)


async def test_custom_codec(tmp_path: Path) -> None:
    """A cache stores the output of its codec, and calls it in the cache's thread."""
    codec = Codec()
    cache = FileTokenCache(tmp_path, codec=codec)
    await cache.set("key", make_token())

    (path,) = tmp_path.iterdir()
    assert b"canary"[::-1] in path.read_bytes()
    assert make_token() == await cache.get("key")
    assert [""] == [file.problem for file in await cache.list_files()]
    assert {"simplestore-cache"} == codec.threads
    assert isinstance(codec, TokenCodec)


@pytest.mark.parametrize(("fault", "problem"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("operation", ["get", "set", "list_files"])
async def test_failing_codec(tmp_path: Path, operation: str, fault: Callable[[bytes], Any], problem: str) -> None:
    """A failing codec causes a TokenCacheError that does not show its input, and leaves the file unchanged."""
    await FileTokenCache(tmp_path).set("key", make_token())
    before = {path: hash(path.read_bytes()) for path in tmp_path.iterdir()}
    cache = FileTokenCache(tmp_path, codec=BrokenCodec(fault))
    with pytest.raises(TokenCacheError) as caught:
        await use(cache, operation)

    error = caught.value
    assert f"the codec failed: {problem}" == error.problem
    shown = TracebackException.from_exception(error, capture_locals=True)
    assert "canary" not in "".join(shown.format())
    assert (None, None) == (error.__cause__, error.__context__)
    assert before == {path: hash(path.read_bytes()) for path in tmp_path.iterdir()}


async def use(cache: FileTokenCache, operation: str) -> None:
    arguments: dict[str, list[Any]] = {"get": ["key"], "set": ["key", make_token()], "list_files": []}
    await getattr(cache, operation)(*arguments[operation])


async def test_output_is_not_shown(tmp_path: Path) -> None:
    """Errors about the file do not show a codec's output, which may be readable, as after compression."""
    cache = FileTokenCache(tmp_path, codec=BrokenCodec(lambda data: bytes(bytearray(data))))
    with pytest.raises(TokenCacheError, match="the token is too long to be stored") as caught:
        await cache.set("key", LONG_TOKEN)
    shown = TracebackException.from_exception(caught.value, capture_locals=True)
    assert "canary" not in "".join(shown.format())


async def test_codec_returns_none(tmp_path: Path) -> None:
    """None is a cache miss as a result of decode() and an error as a result of encode()."""
    cache = FileTokenCache(tmp_path, codec=BrokenCodec(lambda data: None))
    with pytest.raises(TokenCacheError, match="it returned NoneType instead of bytes"):
        await cache.set("key", make_token())
    assert [] == list(tmp_path.iterdir())

    await FileTokenCache(tmp_path).set("key", make_token())
    assert await cache.get("key") is None


@pytest.mark.parametrize(
    "codec", ["text", b"bytes", object(), Codec, len], ids=["str", "bytes", "object", "class", "function"]
)
def test_wrong_type(tmp_path: Path, codec: Any) -> None:
    """The constructor refuses an object without both methods, and a class instead of an instance."""
    with pytest.raises(ConfigurationError) as caught:
        FileTokenCache(tmp_path, codec=codec)
    assert "codec" == caught.value.field
    assert caught.value.problem.startswith("must be an object with encode() and decode(), got ")


async def test_pickle(tmp_path: Path) -> None:
    """A cache pickles with its codec, even after it has started its thread."""
    cache = FileTokenCache(tmp_path, codec=Codec())
    await cache.set("key", make_token())
    other = pickle.loads(pickle.dumps(cache))
    assert make_token() == await other.get("key")
