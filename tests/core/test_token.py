"""`AccessToken`: validation and redaction."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from simplestore_async import AccessToken
from simplestore_async._core.token import is_visible_ascii
from simplestore_async.errors import ConfigurationError

TOKEN = "canary-token"
FIELDS: dict[str, Any] = {"value": TOKEN, "issued_at": 1_700_000_000.0, "expires_at": 1_700_003_600.0}


@pytest.mark.parametrize(
    "value", ["a", "-._~+/", "mF_9.B5f-4.1JqM", "abc==", "Atza|x", "00D!x", 'a"b\\c,d;e', "a" * 5_000]
)
def test_visible_ascii(value: str) -> None:
    """A token may consist of any visible ASCII characters (RFC 6749 §A.12)."""
    assert is_visible_ascii(value)


@pytest.mark.parametrize("value", ["", "a b", " a", "a ", "a\n", "\ra", "a\tb", "a\0", "a\x7f", "\x80", "é", "\u0663"])
def test_not_visible_ascii(value: str) -> None:
    """A token contains no spaces, control characters or non-ASCII characters."""
    assert not is_visible_ascii(value)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [("", ()), ("  read   write ", ("read", "write")), (["write", "read"], ("write", "read")), (iter("r"), ("r",))],
)
def test_scope(scope: Any, expected: tuple[str, ...]) -> None:
    """A string is split at spaces, never into characters, and the order is kept."""
    assert expected == AccessToken(**FIELDS, scope=scope).scope


def test_authorization() -> None:
    """`authorization` is the redacted value of the Authorization header, also of a changed copy."""
    token = AccessToken(**FIELDS)

    assert (f"Bearer {TOKEN}", "'***'") == (token.authorization, repr(token.authorization))
    assert "Bearer other" == attrs.evolve(token, value="other").authorization


def test_repr() -> None:
    """The repr shows every field but redacts the value."""
    fields = "value='***', token_type='Bearer', issued_at=1, expires_at=2.5, scope=(), is_replacement=False"
    assert f"AccessToken({fields})" == repr(AccessToken("x", issued_at=1, expires_at=2.5))


def test_repr_half_built() -> None:
    """A partially initialised token has a repr, as a traceback with locals needs."""
    assert "AccessToken()" == repr(AccessToken.__new__(AccessToken))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        *(
            ({"value": value}, "must be a token of visible ASCII characters")
            for value in ("", f"Bearer {TOKEN}", f"{TOKEN}\r\nX: y", f"{TOKEN}\ud800")
        ),
        ({"value": TOKEN.encode()}, "must be a string, got bytes"),
        ({"value": None}, "must be a string, got None"),
        *(({"token_type": value}, 'must be "Bearer"') for value in ("bearer", "DPoP", None, ["Bearer"])),
        *(
            ({field: value}, "must be a finite number, got ")
            for field in ("issued_at", "expires_at")
            for value in ("1700000000", None, True, float("nan"), float("inf"), float("-inf"), 10**400)
        ),
        ({"issued_at": 1, "expires_at": 1}, "must be later than issued_at"),
        ({"issued_at": 2, "expires_at": 1}, "must be later than issued_at"),
        *(({"scope": value}, "must be a string or strings, got ") for value in (None, 5, b"read")),
        *(({"scope": value}, "must be names without white space") for value in ([5], ["a b"], [""], [None])),
        *(({"is_replacement": value}, "must be True or False, got ") for value in (None, 1, "yes")),
    ],
)
def test_wrong_field(change: dict[str, Any], problem: str) -> None:
    """The error names the field and the problem without showing the value."""
    with pytest.raises(ConfigurationError) as caught:
        AccessToken(**FIELDS | change)

    assert [*change][-1] == caught.value.field
    assert caught.value.problem.startswith(problem)
    assert "canary" not in str(caught.value)
