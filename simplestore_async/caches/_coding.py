"""What a cache stores, through a codec. Rule: a codec that fails is told of, and what it was given stays out of it."""

from __future__ import annotations

from types import NoneType
from typing import TYPE_CHECKING, TypeVar

from simplestore_async._core.cache import TokenCodec
from simplestore_async._core.redaction import conceal
from simplestore_async.errors import ConfigurationError, SimpleStoreError, TokenCacheError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check_codec", "decode", "encode"]

T = TypeVar("T")


def check_codec(codec: object) -> None:
    """Refuse what is neither None nor a codec.

    Raises:
        ConfigurationError: names its type.
    """
    if codec is not None and (isinstance(codec, type) or not isinstance(codec, TokenCodec)):
        raise ConfigurationError(f"codec must be an object with encode and decode, which {type(codec).__name__} is not")


def encode(codec: TokenCodec | None, data: bytes) -> bytes:
    """Return what is to be stored for *data*, which is *data* itself if there is no codec.

    Raises:
        TokenCacheError: if the codec fails.
    """
    return data if codec is None else _call(codec.encode, data, bytes)


def decode(codec: TokenCodec | None, data: bytes) -> bytes | None:
    """Return what was encoded, or None if the codec does not take *data* for its own.

    Raises:
        TokenCacheError: if the codec fails.
    """
    return data if codec is None else _call(codec.decode, data, bytes, NoneType)


def _call(function: Callable[[bytes], T], data: bytes, *kinds: type) -> T:
    try:
        result = function(data)
        if isinstance(result, kinds):
            return conceal(result)
        problem = f"it returned {type(result).__name__} instead of bytes"
        del result  # a traceback shows the locals of the frames that the error passes
    except SimpleStoreError as error:
        problem = str(error)
    except Exception as error:  # noqa: BLE001 - a codec may be anybody's; its exception's text may hold the token
        problem = f"it raised {type(error).__name__}"
    raise TokenCacheError(f"The codec failed: {problem}")
