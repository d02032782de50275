"""Checks of arguments."""

from __future__ import annotations

import functools
import inspect
import sys
from decimal import Decimal
from math import inf, nan
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from yarl import URL

from simplestore_async import (
    AccessToken,
    BearerAuthMiddleware,
    ClientCredentials,
    FileTokenCache,
    MemoryTokenCache,
    RenewalPolicy,
    RetryPolicy,
    SecretFile,
    TokenEndpoint,
    TokenProvider,
)
from simplestore_async._core.cache import TokenCache
from simplestore_async._core.redaction import conceal
from simplestore_async._core.validation import (
    check_callable,
    check_flag,
    check_number,
    check_type,
    is_number,
    is_plain_text,
)
from simplestore_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

LARGEST = sys.float_info.max


async def coroutine(*_: object) -> None: ...


async def generator(*_: object) -> Any:
    yield


class AsyncCallable:
    async def __call__(self, *_: object) -> None: ...


class Method:
    async def run(self, *_: object) -> None: ...

    def plain(self, _: object) -> None: ...


def problem_of(check: Callable[[], None]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        check()
    assert "canary" not in str(caught.value)
    assert "field" == caught.value.field
    return str(caught.value)


CREDENTIALS = ClientCredentials(client_id="app", client_secret="secret")
VALID: dict[type, dict[str, Any]] = {
    AccessToken: {"value": "token", "issued_at": 1.0, "expires_at": 2.0},
    BearerAuthMiddleware: {"source": TokenProvider(CREDENTIALS), "origins": "https://api.example"},
    ClientCredentials: {"client_id": "app", "client_secret": "secret"},
    FileTokenCache: {},
    MemoryTokenCache: {},
    RenewalPolicy: {},
    RetryPolicy: {},
    SecretFile: {"path": "secret"},
    TokenEndpoint: {"credentials": CREDENTIALS},
    TokenProvider: {"credentials": CREDENTIALS},
}
"""Arguments that each class accepts."""


@pytest.mark.parametrize(
    ("function", "name"), [(function, name) for function in VALID for name in inspect.signature(function).parameters]
)
def test_argument_is_named(function: type, name: str) -> None:
    """The error of an argument of the wrong type names it."""
    arguments = inspect.BoundArguments(inspect.signature(function), VALID[function] | {name: object()})
    with pytest.raises(ConfigurationError) as caught:
        function(*arguments.args, **arguments.kwargs)
    assert name == caught.value.field.removeprefix(f"{function.__name__}.")


@pytest.mark.parametrize("kind", [ClientCredentials, RenewalPolicy, RetryPolicy])
def test_frozen(kind: Any) -> None:
    """Values are immutable, and their fields keyword-only, so that id and secret cannot be swapped."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        kind(**VALID[kind]).anything = 1
    with pytest.raises(TypeError):
        kind("app", "secret")


@pytest.mark.parametrize("value", [0, -1, 2.5, LARGEST, -LARGEST, int(LARGEST), -int(LARGEST)], ids=lambda v: f"{v:g}")
def test_number(value: object) -> None:
    """Ints and floats are numbers, up to the largest float."""
    assert is_number(value)


@pytest.mark.parametrize(
    "value",
    [True, False, None, "1", b"1", Decimal(1), 1j, nan, inf, -inf, 2**1024, -(2**1024)],
)
def test_not_a_number(value: object) -> None:
    """Bools, other types, infinity, NaN and ints beyond the largest float are not numbers."""
    assert not is_number(value)


@pytest.mark.parametrize(
    ("value", "kind"), [("", str | URL), (URL("x"), str | URL), (None, str | None), (MemoryTokenCache(), TokenCache)]
)
def test_type(value: object, kind: Any) -> None:
    """Instances of a class, a union's members or a protocol are accepted, and None if it is a member."""
    check_type("field", value, kind)


@pytest.mark.parametrize(
    ("value", "kind", "problem"),
    [
        (5, str, "field must be a str, got int"),
        (None, str, "field must be a str, got None"),
        (b"canary", str | URL | None, "field must be a str or URL, got bytes"),
        (conceal("canary"), TokenCache, "field must be a TokenCache, got str"),
        (
            FileTokenCache,
            TokenCache | None,
            "field must be a TokenCache, got the class FileTokenCache; pass an instance: FileTokenCache(…)",
        ),
    ],
)
def test_wrong_type(value: object, kind: Any, problem: str) -> None:
    """The error names field, expected and actual type, and has a hint for a class in place of an instance."""
    assert problem == problem_of(lambda: check_type("field", value, kind))


@pytest.mark.parametrize("value", ["false", "", 0, 1, None, [], bool])
def test_wrong_flag(value: object) -> None:
    """Only True and False are accepted as flags."""
    check_flag("field", value=True)
    assert problem_of(lambda: check_flag("field", value)).startswith("field must be True or False, got ")


@pytest.mark.parametrize(
    ("value", "bounds", "problem"),
    [
        ("canary", {"above": 0}, "field must be a finite number above 0, got str"),
        (True, {}, "field must be a finite number, got bool"),
        (nan, {}, "field must be a finite number, got nan"),
        (10**400, {}, "field must be a finite number, got int"),
        (0, {"above": 0}, "field must be a finite number above 0, got 0"),
        (0.5, {"at_least": 1}, "field must be a finite number of at least 1, got 0.5"),
        (2, {"at_least": 0, "at_most": 1}, "field must be a finite number of at least 0 and of at most 1, got 2"),
        (1.0, {"at_least": 1, "is_whole": True}, "field must be a whole number of at least 1, got 1.0"),
    ],
)
def test_wrong_number(value: object, bounds: dict[str, Any], problem: str) -> None:
    """The error shows a number that is out of bounds, and only the type of anything else."""
    assert problem == problem_of(lambda: check_number("field", value, **bounds))


@pytest.mark.parametrize("value", [print, Method().plain, lambda *_: None, functools.partial(Method().plain)])
def test_callable(value: Any) -> None:
    """Functions, methods and partials are accepted."""
    check_callable("field", value, arguments=1, is_plain=True)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "field must be a plain function, got None"),
        ("canary", "field must be a plain function, got str"),
        (list, "field must be a plain function, got the class list; pass an instance: list(…)"),
        (lambda: None, "field must be callable with 1 positional argument"),
        *(
            (value, "field must be a plain function, got a coroutine function; start a task in a plain one instead")
            for value in (coroutine, functools.partial(coroutine), generator, AsyncCallable(), Method().run)
        ),
    ],
)
def test_wrong_callable(value: Any, problem: str) -> None:
    """Coroutine functions of every kind, classes, and functions with other arguments are refused."""
    assert problem == problem_of(lambda: check_callable("field", value, arguments=1, is_plain=True))


@pytest.mark.parametrize("text", ["a\n", "\r", "\0", "\x1f", "\x7f", "\x85", "\ud800x"])
def test_plain_text(text: str) -> None:
    """Control characters and lone surrogates are not plain text, and other characters are."""
    assert is_plain_text(" ~é\U0001f511")
    assert not is_plain_text(text)
