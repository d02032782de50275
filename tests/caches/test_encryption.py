"""`FernetCodec`: encryption at rest, keys and their rotation."""

from __future__ import annotations

import base64
import copy
import os
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st

from simplestore_async import FileTokenCache
from simplestore_async.caches.encryption import FernetCodec
from simplestore_async.errors import ConfigurationError
from tests.support.cache_files import DIGEST, KEY, NAME, TOKEN, renew
from tests.support.tokens import make_token
from tests.support.tracebacks import everything_shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from simplestore_async.sandbox import Sandbox


def make_key(name: str) -> str:
    return base64.urlsafe_b64encode(f"canary-{name}".ljust(32).encode()).decode()


OLD, NEW, OTHER = make_key("old"), make_key("new"), make_key("other")
# Prefixes that show whether a text contains one of these keys.
MARKS = "canary", OLD[:9]
HINT = 'make one with python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the codec's variables, named without `SIMPLESTORE_CACHE_`, and unset the others."""

    def set_to(**variables: str) -> None:
        for name in ("", "_FILE"):
            monkeypatch.delenv(f"SIMPLESTORE_CACHE_KEY{name}", raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(f"SIMPLESTORE_CACHE_{name}", value)

    set_to()
    return set_to


# ---- encoding


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.binary())
def test_round_trip(data: bytes) -> None:
    """Another instance with the same key decodes the encoded bytes, which do not contain the data."""
    stored = FernetCodec(OLD).encode(data)
    assert data == FernetCodec(OLD).decode(stored)
    assert len(data) < 4 or data not in stored
    assert stored != FernetCodec(OLD).encode(data)


@pytest.mark.parametrize(
    "keys",
    [NEW, NEW.encode(), [NEW], (NEW, OLD), [NEW.encode(), OLD], iter([NEW, OLD]), {NEW: 1}],
    ids=["str", "bytes", "list", "tuple", "both kinds", "iterator", "dict"],
)
def test_the_first_key_encrypts(keys: Any) -> None:
    """Keys may be text or bytes, alone or in an iterable, and the first one encrypts."""
    assert b"data" == Fernet(NEW).decrypt(FernetCodec(keys).encode(b"data"))


def test_every_key_decrypts() -> None:
    """Data encrypted with any of the keys is decrypted, and with another key it is a cache miss."""
    codec = FernetCodec([NEW, OLD])
    assert [b"data", b"data", None] == [codec.decode(Fernet(key).encrypt(b"data")) for key in (NEW, OLD, OTHER)]


def test_tampered_bytes() -> None:
    """Changing, adding or removing any byte makes the data a cache miss."""
    codec = FernetCodec(OLD)
    stored = codec.encode(b"data" * 10)
    for position, byte in enumerate(stored):
        for other in {byte ^ 1, byte ^ 0x80, ord("A"), ord("="), ord("+"), ord("/"), ord("\n")} - {byte}:
            assert codec.decode(stored[:position] + bytes([other]) + stored[position + 1 :]) is None
    for damaged in (stored[:-1], stored[1:], stored * 2, stored + b"\n", stored + b"=", b"\n" + stored, b""):
        assert codec.decode(damaged) is None
    assert b"data" * 10 == codec.decode(stored)


@pytest.mark.parametrize("written_at", [0, 4_102_444_800, 2**64 - 1], ids=["1970", "2100", "the last second"])
def test_timestamp_is_ignored(written_at: int) -> None:
    """Data is decrypted whatever its Fernet timestamp."""
    assert b"data" == FernetCodec(OLD).decode(Fernet(OLD).encrypt_at_time(b"data", written_at))


# ---- encrypted caches


async def test_no_token_is_stored(directory: Path) -> None:
    """The stored bytes contain no part of the token, the key's digest or the format, not even after base64 decoding."""
    await FileTokenCache(directory, codec=FernetCodec(OLD)).set(KEY, TOKEN)
    stored = (directory / NAME).read_bytes()
    for word in (b"canary", b"token", b"Bearer", b"orders", b"version", DIGEST.encode()):
        assert word not in stored
        assert word not in base64.urlsafe_b64decode(stored)


@pytest.mark.parametrize("before", [None, FernetCodec(OTHER)], ids=["plain", "another key"])
@pytest.mark.parametrize("after", [None, FernetCodec(NEW)], ids=["then plain", "then encrypted"])
async def test_unreadable_data_is_replaced(
    directory: Path, before: FernetCodec | None, after: FernetCodec | None
) -> None:
    """Data that the codec cannot read is a cache miss and is replaced completely."""
    await FileTokenCache(directory, codec=before).set(KEY, make_token("canary-before"))
    cache = FileTokenCache(directory, codec=after)
    if before is not after:
        assert await cache.get(KEY) is None
    await cache.set(KEY, TOKEN)
    assert TOKEN == await cache.get(KEY)
    assert b"canary-before" not in (directory / NAME).read_bytes()


# ---- key files


async def test_rotation(tmp_path: Path) -> None:
    """Changes of the key file apply at once, and no step of a rotation loses the token."""
    path = tmp_path / "keys"
    path.write_text(OLD)
    cache = FileTokenCache(tmp_path / "cache", codec=FernetCodec(path))
    await cache.set(KEY, TOKEN)

    path.write_text(f"{OLD}\n{NEW}\n")
    assert TOKEN == await cache.get(KEY)
    path.write_text(f"{NEW}\n{OLD}\n")
    assert TOKEN == await cache.get(KEY)
    await cache.set(KEY, TOKEN)
    path.write_text(f"{NEW}\n")
    assert TOKEN == await cache.get(KEY)
    path.write_text(OLD)
    assert await cache.get(KEY) is None


@pytest.mark.parametrize(
    "text",
    [f"{NEW}\n{OLD}\n", f"# newest first\r\n\r\n  {NEW} # since May\r\n{OLD}", f"{NEW}, {OLD}"],
    ids=["lines", "comments", "comma"],
)
def test_key_file(tmp_path: Path, text: str) -> None:
    """Keys are separated by line breaks or commas; comments, white space and empty lines are ignored."""
    path = tmp_path / "keys"
    path.write_text(text, newline="")
    codec = FernetCodec(path)
    assert b"data" == Fernet(NEW).decrypt(codec.encode(b"data"))
    assert b"data" == codec.decode(Fernet(OLD).encrypt(b"data"))


async def test_missing_key_file(sandbox: Sandbox, tmp_path: Path) -> None:
    """If the key file cannot be read, the provider works without the cache and reports the reason."""
    path = tmp_path / "keys"
    path.write_text(OLD)
    codec = FernetCodec(path)
    path.unlink()
    _, (failure,) = await renew(sandbox, FileTokenCache(tmp_path / "cache", codec=codec))
    # There was no token to decrypt, so only the store failed.
    assert "set" == failure.operation
    assert f"the codec failed: keys cannot be read from {path}: {os.strerror(2)}" == failure.problem


def test_data_is_not_shown(tmp_path: Path) -> None:
    """The error of a direct call does not show the data, not even in a traceback with locals."""
    path = tmp_path / "keys"
    path.write_text(OLD)
    codec = FernetCodec(path)
    path.unlink()
    with pytest.raises(ConfigurationError, match="keys cannot be read from") as caught:
        codec.encode(b"canary")
    assert_nothing_shows(caught.value)


# ---- wrong keys


def assert_nothing_shows(error: BaseException) -> None:
    shown = everything_shown(error)
    assert [] == [mark for mark in MARKS if mark in shown]


NOT_KEYS: dict[str, Any] = {
    "empty": "",
    "too short": OLD[:-2],
    "unpadded": OLD[:-1],
    "with a line break": f"{OLD}\n",
    "twice": OLD * 2,
    "standard base64": "+" + OLD[1:],
    "not ASCII": "é" + OLD[1:],
    "a surrogate": "\ud800" + OLD[1:],
    "bytes": OLD.encode()[:-1],
    "of another type": bytearray(OLD.encode()),
    "None": None,
}


WRONG_KEYS: dict[str, tuple[Any, str]] = {
    "no key": ([], "there is no key"),
    "number": (5, "it must be strings or a pathlib.Path, got int"),
    "None alone": (None, "it must be strings or a pathlib.Path, got None"),
    "cut key alone": (OLD[:-1], "number 1 is not 32 bytes in URL-safe base64"),
    **{name: ([OLD, key], "number 2 is not 32 bytes in URL-safe base64") for name, key in NOT_KEYS.items()},
}


@pytest.mark.parametrize(("keys", "problem"), WRONG_KEYS.values(), ids=WRONG_KEYS)
def test_wrong_keys(keys: Any, problem: str) -> None:
    """The error identifies a wrong key by its number and shows no key, not even in a traceback with locals."""
    with pytest.raises(ConfigurationError) as caught:
        FernetCodec(keys)
    error = caught.value
    assert ("keys", f"cannot be used: {problem}", HINT) == (error.field, error.problem, error.hint)
    assert_nothing_shows(error)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, os.strerror(2)),
        (b"\xff", "it is not UTF-8 text"),
        (b"# none yet\n", "there is no key"),
        (f"{OLD}\n{NEW[:-1]}\n".encode(), "number 2 is not 32 bytes in URL-safe base64"),
    ],
    ids=["missing", "binary", "empty", "wrong"],
)
@pytest.mark.parametrize("is_from_env", [False, True])
def test_wrong_key_file(
    tmp_path: Path, environment: Callable[..., None], content: bytes | None, problem: str, is_from_env: bool
) -> None:
    """An unusable key file is refused at once, with its path and the variable that names it."""
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    environment(KEY_FILE=str(path))
    with pytest.raises(ConfigurationError) as caught:
        FernetCodec.from_env() if is_from_env else FernetCodec(path)

    assert ("SIMPLESTORE_CACHE_KEY_FILE" if is_from_env else "keys") == caught.value.field
    assert f"cannot be read from {path}: {problem}" == caught.value.problem
    assert_nothing_shows(caught.value)


# ---- the environment


def test_keys_in_the_environment(environment: Callable[..., None]) -> None:
    """Keys in the variable are separated by commas or white space; an empty variable counts as unset."""
    environment(KEY=f" {NEW} , {OLD}\n", KEY_FILE="")
    codec = FernetCodec.from_env()
    assert b"data" == Fernet(NEW).decrypt(codec.encode(b"data"))
    assert b"data" == codec.decode(Fernet(OLD).encrypt(b"data"))


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({}, "is not set"),
        ({"KEY": "", "KEY_FILE": ""}, "is not set"),
        ({"KEY": OLD, "KEY_FILE": "/nowhere"}, "and SIMPLESTORE_CACHE_KEY_FILE are both set"),
        ({"KEY": " , "}, "cannot be used: there is no key"),
        ({"KEY": f"{OLD},{NEW[:-1]}"}, "cannot be used: number 2 is not 32 bytes in URL-safe base64"),
    ],
    ids=["nothing", "empty", "both", "commas", "wrong"],
)
def test_wrong_environment(environment: Callable[..., None], variables: dict[str, str], problem: str) -> None:
    """The error names the variable without showing a key."""
    environment(**variables)
    with pytest.raises(ConfigurationError) as caught:
        FernetCodec.from_env()
    assert ("SIMPLESTORE_CACHE_KEY", problem) == (caught.value.field, caught.value.problem)
    assert caught.value.hint
    assert_nothing_shows(caught.value)


# ---- secrecy


def test_repr_and_copy() -> None:
    """The repr shows no key, and copying returns the same codec."""
    codec = FernetCodec([OLD, NEW])
    assert "FernetCodec(***)" == repr(codec)
    assert [] == [mark for mark in MARKS if mark in repr(vars(codec))]
    assert codec is copy.copy(codec) is copy.deepcopy([codec])[0]


def test_pickle_of_keys() -> None:
    """A codec with literal keys cannot be pickled, nor can a cache with it."""
    with pytest.raises(TypeError) as caught:
        pickle.dumps(FileTokenCache("/nowhere", codec=FernetCodec(OLD)))
    assert (
        "FernetCodec cannot be pickled, because its keys would travel along: use FernetCodec.from_env() in each process"
        == str(caught.value)
    )


@pytest.mark.parametrize("source", ["environment", "file in the environment", "file"])
async def test_pickle_of_a_source(tmp_path: Path, environment: Callable[..., None], source: str) -> None:
    """A codec from the environment or a file pickles without keys and reads them again after unpickling."""
    path = tmp_path / "keys"
    path.write_text(OLD)
    environment(**{"KEY": OLD} if source == "environment" else {"KEY": "", "KEY_FILE": str(path)})
    codec = FernetCodec(path) if source == "file" else FernetCodec.from_env()
    cache = FileTokenCache(tmp_path / "cache", codec=codec)
    await cache.set(KEY, TOKEN)

    pickled = pickle.dumps(cache)
    assert [] == [mark for mark in MARKS if mark.encode() in pickled]
    assert TOKEN == await pickle.loads(pickled).get(KEY)
    environment(KEY=NEW)
    path.write_text(NEW)
    assert await pickle.loads(pickled).get(KEY) is None


@pytest.mark.parametrize("method", ["encode", "decode"])
@pytest.mark.parametrize("data", ["canary", None, bytearray(b"canary")], ids=["str", "None", "bytearray"])
def test_wrong_data(method: str, data: Any) -> None:
    """Data other than bytes raises a ConfigurationError."""
    with pytest.raises(ConfigurationError) as caught:
        getattr(FernetCodec(OLD), method)(data)
    assert "data" == caught.value.field
