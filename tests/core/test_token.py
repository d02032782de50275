"""`simplestore_async._core.token`: valid tokens, and their redaction."""

from __future__ import annotations

import copy
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
    """Visible ASCII characters are a token (RFC 6749 A.12)."""
    assert is_visible_ascii(value)


@pytest.mark.parametrize("value", ["", "a b", " a", "a ", "a\n", "\ra", "a\tb", "a\0", "a\x7f", "\x80", "é", "\u0663"])
def test_not_visible_ascii(value: str) -> None:
    """A space, a control character or another script is not part of a token."""
    assert not is_visible_ascii(value)


def test_fields() -> None:
    """A token has its value, its kind, its life; no scope unless it is given one; and it replaces no other."""
    token = AccessToken(TOKEN, issued_at=1, expires_at=2.5)

    assert (TOKEN, "Bearer", 1, 2.5, (), False) == (
        token.value,
        token.token_type,
        token.issued_at,
        token.expires_at,
        token.scope,
        token.is_replacement,
    )


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("", ()),
        ("read", ("read",)),
        ("  read   write ", ("read", "write")),
        (["write", "read"], ("write", "read")),
        (iter(("read",)), ("read",)),
    ],
)
def test_scope(scope: Any, expected: tuple[str, ...]) -> None:
    """A string is names with spaces between them, never its characters; the order stays."""
    assert expected == AccessToken(**FIELDS, scope=scope).scope


def test_authorization() -> None:
    """`authorization` is the whole header value, for clients other than aiohttp."""
    authorization = AccessToken(**FIELDS).authorization

    assert authorization == f"Bearer {TOKEN}"
    assert "'***'" == repr(authorization)


@pytest.mark.parametrize(
    "change", [{"value": "other"}, {"issued_at": 1.0}, {"expires_at": 1_700_003_601.0}, {"scope": "read"}], ids=str
)
def test_equality(change: dict[str, Any]) -> None:
    """Tokens with equal fields are equal, and one in a set; a difference in any field makes them differ."""
    assert 1 == len({AccessToken(**FIELDS), AccessToken(**FIELDS)})
    assert AccessToken(**FIELDS) != AccessToken(**FIELDS | change)


def test_frozen() -> None:
    """A token cannot be changed, but a changed one can be made from it, with a header of its own."""
    token = AccessToken(**FIELDS)

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        token.value = "other"  # type: ignore[misc]  # it must fail
    assert "Bearer other" == attrs.evolve(token, value="other").authorization


def test_repr() -> None:
    """The repr shows all but the token itself."""
    token = AccessToken("x", issued_at=1, expires_at=2, scope="read")

    fields = "value='***', token_type='Bearer', issued_at=1, expires_at=2, scope=('read',), is_replacement=False"
    assert f"AccessToken({fields})" == repr(token)


def test_repr_half_built() -> None:
    """A token whose constructor failed can be shown too, as a traceback with locals does."""
    assert "AccessToken()" == repr(AccessToken.__new__(AccessToken))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copy(duplicate: Any) -> None:
    """A copy is the token itself: it cannot change, and need not lie twice in memory."""
    token = AccessToken(**FIELDS)

    assert token is duplicate(token)


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
    ids=lambda value: ascii(value)[:60],
)
def test_wrong_field(change: dict[str, Any], problem: str) -> None:
    """The error names the field and the problem, and does not show the value."""
    with pytest.raises(ConfigurationError) as caught:
        AccessToken(**FIELDS | change)

    assert [*change][-1] == caught.value.field
    assert caught.value.problem.startswith(problem)
    assert "canary" not in str(caught.value)
