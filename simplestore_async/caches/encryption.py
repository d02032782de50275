"""Encryption at rest. Rule: keys are never shown, and only data that they encrypted is decoded."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Self, cast

from simplestore_async._core.redaction import MASK, RedactedStr, SupportsSecretValue, conceal, reveal
from simplestore_async._core.secret import read_secret_text, show_path
from simplestore_async._core.validation import check_type, type_name
from simplestore_async.errors import ConfigurationError

try:
    from cryptography.fernet import Fernet, InvalidToken, MultiFernet
except ImportError as _missing:
    raise ImportError(
        'simplestore_async.caches.encryption needs cryptography: pip install "simplestore-async[encryption]"'
    ) from _missing

__all__ = ["FernetCodec"]

_KEY: Final = re.compile(r"[A-Za-z0-9_-]{43}=")
_BASE64: Final = re.compile(rb"[A-Za-z0-9_-]*={0,2}")
_COMMENT: Final = re.compile(r"#.*")
_HINT: Final = 'make one with python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'


class FernetCodec:
    """Encryption of stored tokens with Fernet: AES-128 in CBC mode, authenticated with HMAC-SHA-256.

    The first key encrypts and all keys decrypt, so that keys can be rotated. Damaged data, data of other keys, and
    unencrypted data are cache misses. Fernet's timestamp is ignored. Immutable; may be shared among caches and threads.
    A codec with literal keys cannot be pickled; one with a file, or from `from_env()`, pickles as that source, and the
    other process reads its own keys.

    Args:
        keys: one key or several, each 32 bytes in URL-safe base64, as from `cryptography.fernet.Fernet.generate_key()`:
            text, bytes, or objects with `get_secret_value()`. Or the `pathlib.Path` of a file with one key per line and
            comments after `#`. The file is read for each read and write of the cache, about once per renewal, so that
            new keys need no restart.

    Raises:
        ConfigurationError: if there is no key, a key is invalid (it is not quoted), or the file cannot be read.
    """

    def __init__(
        self, keys: str | bytes | SupportsSecretValue | Iterable[str | bytes | SupportsSecretValue] | Path
    ) -> None:
        self._is_from_env = False
        self._keys: tuple[str, ...] | Path
        self._keys, problem = (keys, "") if isinstance(keys, Path) else _find_keys(keys)
        del keys  # a traceback shows the locals of this frame
        if problem:
            raise ConfigurationError("keys", f"cannot be used: {problem}", _HINT)
        self._make_fernet()

    @classmethod
    def from_env(cls) -> Self:
        """Return a codec with the keys in the environment.

        Reads `SIMPLESTORE_CACHE_KEY`, one key or several separated by commas or spaces, or
        `SIMPLESTORE_CACHE_KEY_FILE`. An empty variable counts as unset.

        Raises:
            ConfigurationError: names the variable that is missing or wrong.
        """
        path = RedactedStr(os.environ.get("SIMPLESTORE_CACHE_KEY_FILE", ""))
        text = RedactedStr(os.environ.get("SIMPLESTORE_CACHE_KEY", ""))
        if path and text:
            raise ConfigurationError(
                "SIMPLESTORE_CACHE_KEY", "and SIMPLESTORE_CACHE_KEY_FILE are both set", "unset one of them"
            )
        if not path and not text:
            raise ConfigurationError(
                "SIMPLESTORE_CACHE_KEY", "is not set", f"{_HINT}; or name a file of keys by SIMPLESTORE_CACHE_KEY_FILE"
            )
        field = f"SIMPLESTORE_CACHE_KEY{'_FILE' if path else ''}"
        try:
            codec = cls(Path(path) if path else _split(text))
        except ConfigurationError as error:
            raise ConfigurationError(field, error.problem, error.hint) from None
        codec._is_from_env = True
        return codec

    def encode(self, data: bytes, /) -> bytes:
        """Encrypt *data* with the first key.

        Raises:
            ConfigurationError: if *data* is not bytes, or the file of keys cannot be read, or holds no key.
        """
        data = conceal(data)
        check_type("data", data, bytes)
        return self._make_fernet().encrypt(data)

    def decode(self, data: bytes, /) -> bytes | None:
        """Decrypt *data*; return None unless one of the keys encrypted it.

        Raises:
            ConfigurationError: if *data* is not bytes, or the file of keys cannot be read, or holds no key.
        """
        check_type("data", data, bytes)
        fernet = self._make_fernet()
        try:
            # Base64 is decoded leniently before the HMAC is checked, so changed bytes might be accepted.
            if not _BASE64.fullmatch(data) or data != base64.urlsafe_b64encode(base64.urlsafe_b64decode(data)):
                return None
            return fernet.decrypt(data)
        except (binascii.Error, InvalidToken):
            return None

    def _make_fernet(self) -> MultiFernet:
        keys, problem = _read_keys(self._keys) if isinstance(self._keys, Path) else (self._keys, "")
        if problem:
            raise ConfigurationError("keys", problem, _HINT if isinstance(self._keys, tuple) else "")
        return MultiFernet(map(Fernet, keys))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({MASK})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> tuple[Callable[..., Self], tuple[Any, ...]]:
        if self._is_from_env:
            return type(self).from_env, ()
        if isinstance(self._keys, Path):
            return type(self), (self._keys,)
        raise TypeError(
            "FernetCodec cannot be pickled, because its keys would travel along: use FernetCodec.from_env() in each "
            "process"
        )


def _read_keys(path: Path) -> tuple[tuple[str, ...], str]:
    """Return the keys in the file, or the problem, as `_find_keys()` does."""
    text, problem = read_secret_text(path)
    keys: tuple[str, ...] = ()
    if not problem:
        keys, problem = _find_keys(_split(_COMMENT.sub("", text)))
    return keys, problem and f"cannot be read from {show_path(path)}: {problem}"


def _split(text: str) -> list[str]:
    return re.findall(r"[^\s,]+", text)


def _find_keys(keys: Any) -> tuple[tuple[str, ...], str]:
    """Return the keys, redacted, or the problem: an exception would contain them in its traceback."""
    keys, problem = reveal(keys)
    if problem:
        return (), problem
    if not isinstance(keys, Iterable):
        return (), f"it must be strings or a pathlib.Path, got {type_name(keys)}"
    several = [keys] if isinstance(keys, str | bytes) else cast("Iterable[object]", keys)
    revealed = [reveal(key) for key in several]
    if problem := next((problem for _, problem in revealed if problem), ""):
        return (), problem
    found = tuple(_as_text(key) for key, _ in revealed)
    for number, key in enumerate(found, 1):
        if not _KEY.fullmatch(key):
            return (), f"number {number} is not 32 bytes in URL-safe base64"
    return found, "" if found else "there is no key"


def _as_text(key: object) -> RedactedStr:
    """Return *key* redacted; empty, and so invalid, if it is not text."""
    if isinstance(key, bytes):
        return RedactedStr(key, "latin-1")
    return RedactedStr(key if isinstance(key, str) else "")
