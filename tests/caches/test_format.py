"""The stored format of tokens: `caches.dumps()` and `caches.loads()`."""

from __future__ import annotations

import json
from traceback import TracebackException
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simplestore_async import AccessToken
from simplestore_async._core.clock import find_boot
from simplestore_async.caches import dumps, loads
from simplestore_async.errors import ConfigurationError, TokenCacheError
from tests.support.clocks import FakeClock
from tests.support.platforms import needs_linux
from tests.support.tokens import make_token

CANARY = "canary-token"
VALID = {
    "version": 2,
    "value": CANARY,
    "token_type": "Bearer",
    "issued_at": 1_700_000_000.25,
    "expires_at": 1_700_003_600,
    "scope": ["orders:read", "stock"],
    "is_replacement": True,
    "boot_id": None,
    "issued_at_boot_seconds": None,
}

instants = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
tokens = st.builds(
    lambda value, life, scope, is_replacement: AccessToken(
        value, issued_at=life[0], expires_at=life[1], scope=scope, is_replacement=is_replacement
    ),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1),
    st.tuples(instants, instants).filter(lambda pair: pair[0] != pair[1]).map(sorted),
    st.lists(st.text(st.characters(exclude_categories=["Cc", "Zl", "Zp", "Zs"]), min_size=1)),
    st.booleans(),
)


def test_dumps() -> None:
    """A token is stored as one line of ASCII JSON with exactly the fields of this format version."""
    stored = dumps(
        AccessToken(CANARY, issued_at=1_700_000_000.25, expires_at=1_700_003_600, scope=("orders:read", "stöck"))
    )
    assert VALID | {"scope": ["orders:read", "stöck"], "is_replacement": False} == json.loads(stored)
    assert stored.isascii()
    assert 1 == len(stored.splitlines())


def test_loads() -> None:
    """The fields may be in any order, and the loaded token's repr does not show its value."""
    token = loads(json.dumps(dict(reversed(VALID.items()))).encode())
    expected = AccessToken(
        CANARY,
        issued_at=1_700_000_000.25,
        expires_at=1_700_003_600,
        scope=["orders:read", "stock"],
        is_replacement=True,
    )
    assert expected == token
    assert CANARY not in repr(token)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(tokens)
def test_round_trip(token: AccessToken) -> None:
    """A dumped token loads equal in every field."""
    loaded = loads(dumps(token))
    assert token == loaded
    assert (token.value, repr(token.issued_at), repr(token.expires_at), token.scope) == (
        str(loaded.value),
        repr(loaded.issued_at),
        repr(loaded.expires_at),
        loaded.scope,
    )


def changed(**changes: Any) -> bytes:
    return json.dumps(VALID | changes).encode()


def without(field: str) -> bytes:
    return json.dumps({name: value for name, value in VALID.items() if name != field}).encode()


NOT_TOKENS: dict[str, Any] = {
    "None": None,
    "nothing": b"",
    "white space": b" \n",
    "binary": bytes(range(256)),
    "not UTF-8": dumps(make_token()).replace(b"canary", b"canary\xff"),
    "cut short": changed()[:-1],
    "followed by more": changed() + b"}",
    "twice": changed() * 2,
    "Python literal": repr(VALID).encode(),
    "null": b"null",
    "a number": b"1",
    "a string": f'"{CANARY}"'.encode(),
    "a list": f'["{CANARY}"]'.encode(),
    "an empty object": b"{}",
    "nested too deeply": b"[" * 100_000,
    "a number too long to convert": changed().replace(b"1700003600", b"9" * 5000),
    "one more field": changed(other=1),
    **{f"no {field}": without(field) for field in VALID},
    "no life": changed(issued_at=1_700_003_600),
    "negative life": changed(issued_at=1_700_003_601),
}
WRONG: dict[str, tuple[Any, ...]] = {
    "version": (0, 1, 3, -1, "2", None, True, 2.0, [2], {}),
    "value": ("", f"{CANARY} x", f"{CANARY}\n", f"{CANARY}é", 5, None, True, [CANARY]),
    "token_type": ("bearer", "mac", "", None, 1, [CANARY]),
    "issued_at": ("1700000000", None, True, [], float("nan"), float("inf"), 10**400, -(10**400)),
    "expires_at": ("1700003600", None, True, [], float("nan"), float("inf"), 10**400, -(10**400)),
    "scope": ("orders:read", None, {}, 1, [1], ["orders:read", None], [["orders:read"]]),
    "is_replacement": (None, 0, 1, "true", [True]),
    "boot_id": ("a boot without a reading", 5, ""),
    "issued_at_boot_seconds": (5.0, "5", True),
}
for field, values in WRONG.items():
    NOT_TOKENS |= {f"{field} {number}": changed(**{field: value}) for number, value in enumerate(values, 1)}


@pytest.mark.parametrize("data", NOT_TOKENS.values(), ids=NOT_TOKENS.keys())
def test_invalid_data(data: bytes) -> None:
    """Anything but a token of this version raises a TokenCacheError that does not show the data in any frame."""
    with pytest.raises(TokenCacheError) as caught:
        loads(data)

    error = caught.value
    assert "the cached token is damaged, or of another version" == error.problem
    assert (None, None) == (error.__cause__, error.__context__)
    # Without the frame of the test.
    assert error.__traceback__ is not None
    shown = TracebackException(type(error), error, error.__traceback__.tb_next, capture_locals=True)
    assert CANARY not in "".join(shown.format())


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("token", lambda: dumps("canary-token")),  # type: ignore[arg-type]
        ("token", lambda: dumps(AccessToken)),  # type: ignore[arg-type]
        ("clock", lambda: dumps(make_token(), clock="now")),  # type: ignore[arg-type]
        ("clock", lambda: loads(changed(), clock="now")),  # type: ignore[arg-type]
    ],
    ids=["value", "class", "clock of dumps", "clock of loads"],
)
def test_wrong_argument(field: str, call: Any) -> None:
    """A wrong argument raises a ConfigurationError that names it without showing it."""
    with pytest.raises(ConfigurationError) as caught:
        call()
    assert field == caught.value.field
    assert CANARY not in str(caught.value)


@needs_linux
def test_boot_reading() -> None:
    """A recent token is stored with the identity of the boot and the monotonic time of its issue."""
    clock = FakeClock()
    token = make_token(issued_at=clock.time() - 100, expires_at=clock.time() + 3500)
    stored = json.loads(dumps(token, clock=clock))
    assert (find_boot(), clock.monotonic() - 100) == (stored["boot_id"], stored["issued_at_boot_seconds"])

    clock.step_wall(-7200)
    moved = loads(dumps(token, clock=FakeClock()), clock=clock)
    assert (token.issued_at - 7200, token.expires_at - 7200) == (moved.issued_at, moved.expires_at)
