"""Codecs in caches. Rule: a codec's failure is reported by its type and never shows the data."""

from __future__ import annotations

from types import NoneType
from typing import TYPE_CHECKING, TypeVar

from simplestore_async._core.cache import TokenCodec
from simplestore_async._core.redaction import conceal
from simplestore_async._core.validation import type_error
from simplestore_async.errors import ConfigurationError, SimpleStoreError, TokenCacheError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check_codec", "decode", "encode"]

T = TypeVar("T")


def check_codec(codec: object) -> None:
    """Check that *codec* is None or a `TokenCodec`.

    Raises:
        ConfigurationError: if it is not; names its type.
    """
    if codec is not None and (isinstance(codec, type) or not isinstance(codec, TokenCodec)):
        raise type_error("codec", codec, "an object with encode() and decode()")


def encode(codec: TokenCodec | None, data: bytes) -> bytes:
    """Return the bytes to store for *data*; without a codec *data* itself.

    Raises:
        TokenCacheError: if the codec fails.
    """
    return data if codec is None else _call(codec.encode, data, bytes)


def decode(codec: TokenCodec | None, data: bytes) -> bytes | None:
    """Return the data that was encoded, or None if the codec did not make *data*.

    Raises:
        TokenCacheError: if the codec fails.
    """
    return data if codec is None else _call(codec.decode, data, bytes, NoneType)


def _call(function: Callable[[bytes], T], data: bytes, *kinds: type) -> T:
    hint = ""
    try:
        result = function(data)
        if isinstance(result, kinds):
            return conceal(result)
        problem = f"it returned {type(result).__name__} instead of bytes"
        del result  # a traceback shows the locals of this frame
    except ConfigurationError as error:
        problem, hint = f"{error.field} {error.problem}", error.hint
    except SimpleStoreError as error:
        problem, hint = error.problem, error.hint
    except Exception as error:  # noqa: BLE001 - a codec may raise anything; the text may contain the token
        problem = f"it raised {type(error).__name__}"
    raise TokenCacheError(f"the codec failed: {problem}", hint)
