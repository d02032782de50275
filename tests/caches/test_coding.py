"""`simplestore_async.caches._coding`: third-party codecs, and failing ones."""
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
    """As much as the protocol asks for; it notes the threads that it is called in."""

    def __init__(self) -> None:
        self.threads: set[str] = set()

    def encode(self, data: bytes, /) -> bytes:
        self.threads.add(threading.current_thread().name)
        return data[::-1]

    decode = encode


class BrokenCodec(Codec):
    """A codec that breaks its contract."""

    def __init__(self, misdeed: Callable[[bytes], Any]) -> None:
        super().__init__()
        self.encode = self.decode = misdeed  # type: ignore[method-assign]  # what is broken


def quote_it(data: bytes) -> bytes:
    raise LookupError(data)


def explain_it(data: bytes) -> bytes:
    raise TokenCacheError("the vault is closed")


MISDEEDS = {
    "raises": (quote_it, "it raised LookupError"),
    "explains": (explain_it, "the vault is closed"),
    "text": (bytes.decode, "it returned str instead of bytes"),
    "bytearray": (bytearray, "it returned bytearray instead of bytes"),
}
# No local and no literal of a test: a traceback would show it.
LONG_TOKEN = make_token("canary" * 20_000)
FAILURES = pytest.mark.parametrize(("misdeed", "problem"), MISDEEDS.values(), ids=MISDEEDS)


async def test_a_codec_of_one_s_own(tmp_path: Path) -> None:
    """Its output is stored; it is called in the cache's thread."""
    codec = Codec()
    cache = FileTokenCache(tmp_path, codec=codec)
    await cache.set("key", make_token())

    (path,) = tmp_path.iterdir()
    assert b"canary"[::-1] in path.read_bytes()
    assert make_token() == await cache.get("key")
    assert [""] == [file.problem for file in await cache.list_files()]
    assert {"simplestore-cache"} == codec.threads
    assert isinstance(codec, TokenCodec)


@FAILURES
@pytest.mark.parametrize("operation", ["get", "set", "list_files"])
async def test_a_failure_is_named(
    tmp_path: Path, operation: str, misdeed: Callable[[bytes], Any], problem: str
) -> None:
    """It is a TokenCacheError, no traceback shows the codec's input, and the file stays as it was."""
    await FileTokenCache(tmp_path).set("key", make_token())
    before = {path: hash(path.read_bytes()) for path in tmp_path.iterdir()}
    cache = FileTokenCache(tmp_path, codec=BrokenCodec(misdeed))
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


async def test_what_it_returns_does_not_show(tmp_path: Path) -> None:
    """A codec may leave the token readable, as one that compresses does: errors about the file do not show it."""
    cache = FileTokenCache(tmp_path, codec=BrokenCodec(lambda data: bytes(bytearray(data))))
    with pytest.raises(TokenCacheError, match="the token is too long to be stored") as caught:
        await cache.set("key", LONG_TOKEN)
    shown = TracebackException.from_exception(caught.value, capture_locals=True)
    assert "canary" not in "".join(shown.format())


async def test_nothing_to_store(tmp_path: Path) -> None:
    """A codec may find that it has nothing to give, and never that it has nothing to store."""
    cache = FileTokenCache(tmp_path, codec=BrokenCodec(lambda data: None))
    with pytest.raises(TokenCacheError, match="it returned NoneType instead of bytes"):
        await cache.set("key", make_token())
    assert [] == list(tmp_path.iterdir())

    await FileTokenCache(tmp_path).set("key", make_token())
    assert await cache.get("key") is None


@pytest.mark.parametrize(
    "codec", ["text", b"bytes", object(), Codec, len], ids=["str", "bytes", "object", "class", "function"]
)
def test_what_is_no_codec(tmp_path: Path, codec: Any) -> None:
    """An object without both methods is refused at once, and so is a class instead of an instance."""
    with pytest.raises(ConfigurationError) as caught:
        FileTokenCache(tmp_path, codec=codec)
    assert "codec" == caught.value.field
    assert caught.value.problem.startswith("must be an object with encode() and decode(), got ")


async def test_a_codec_travels(tmp_path: Path) -> None:
    """A cache that is pickled takes its codec along, and a thread that it had is no hindrance."""
    cache = FileTokenCache(tmp_path, codec=Codec())
    await cache.set("key", make_token())
    other = pickle.loads(pickle.dumps(cache))
    assert make_token() == await other.get("key")
