"""Fuzzed arguments raise only a `SimpleStoreError`, which shows no secret."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from math import inf, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretBytes, SecretStr
from yarl import URL

from simplestore_async import (
    AccessToken,
    BearerAuthMiddleware,
    ClientCredentials,
    FileTokenCache,
    RenewalPolicy,
    RetryPolicy,
    SecretFile,
    TokenEndpoint,
    TokenProvider,
    open_session,
)
from simplestore_async._core.target import find_base_url
from simplestore_async.caches import loads
from simplestore_async.caches.encryption import FernetCodec
from simplestore_async.errors import ConfigurationError, SimpleStoreError, TokenCacheError
from tests.support.api_requests import OneToken
from tests.support.fuzzing import CREDENTIALS, SECRET, SLOWER, environment, outcome_of, texts

if TYPE_CHECKING:
    from collections.abc import Callable


class Locked:
    """An object on which every operation fails."""

    def get_secret_value(self) -> str:
        raise LookupError(SECRET)

    def __fspath__(self) -> Any:
        return 5

    def __repr__(self) -> str:
        return "Locked()"

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]  # as odd as possible


class Text(str):
    """A subclass of str."""

    __slots__ = ()


async def coroutine_function(*_: object) -> str:
    return SECRET


anything: Final[st.SearchStrategy[Any]] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from([10**400, -(10**400), nan, inf, Decimal(1), Decimal("NaN"), 1j, b"bytes", object(), int, URL("x")]),
    st.sampled_from([FileTokenCache, ClientCredentials, Exception(), len, coroutine_function, range(3), Locked()]),
    st.sampled_from(
        [SecretStr(SECRET), SecretBytes(SECRET.encode()), Text("x"), "false", "\ud800", "a\0b", "~", "\ufeff"]
    ),
    st.builds(URL.build, scheme=st.just("https"), host=st.sampled_from(["\u00fc", "1.2", "a%2e", "::1%lo", "a.."])),
    st.dictionaries(
        texts(max_size=3) | st.just("\udfff"), st.lists(texts(max_size=3) | st.none(), max_size=2), max_size=2
    ),
    texts(),
    st.binary(),
    st.lists(texts() | st.integers() | st.none(), max_size=3),
    st.tuples(st.floats() | texts(), st.floats() | st.integers()),
    st.dictionaries(texts(max_size=3), texts(max_size=3) | st.integers(), max_size=2),
    st.builds(Path, texts(max_size=5)),
    st.builds(lambda: lambda: SECRET),
)


def session(**arguments: Any) -> object:
    async def open_and_close() -> None:
        async with open_session(**arguments):
            pass

    return asyncio.run(open_and_close())


# What takes the arguments, the required ones, and the names of those that are fuzzed.
CALLS: Final[list[tuple[Callable[..., object], dict[str, Any], str]]] = [
    (
        ClientCredentials,
        {"client_id": "app", "client_secret": SECRET},
        "client_id client_secret token_url scope extra_parameters auth_method allow_insecure_http",
    ),
    (SecretFile, {}, "path"),
    (find_base_url, {}, "base_url"),
    (
        AccessToken,
        {"value": "canary-token", "issued_at": 1.0, "expires_at": 2.0},
        "value token_type issued_at expires_at scope is_replacement",
    ),
    (TokenEndpoint, {"credentials": CREDENTIALS}, "credentials policy connector ssl proxy clock"),
    (TokenProvider, {"credentials": CREDENTIALS}, "credentials cache policy on_event clock"),
    (TokenProvider, {}, "endpoint"),
    (BearerAuthMiddleware, {"source": OneToken(), "origins": "https://canary-host"}, "source origins"),
    (
        session,
        {"source": CREDENTIALS, "base_url": "https://canary-host"},
        "source base_url origins cache policy on_event ssl proxy",
    ),
    (FileTokenCache, {}, "directory codec"),
    (FernetCodec, {}, "keys"),
    (loads, {}, "data"),
    *((policy, {}, " ".join(policy.__annotations__)) for policy in (RenewalPolicy, RetryPolicy)),
]
ARGUMENTS: Final = [
    pytest.param(call, defaults, name, id=f"{call.__qualname__} {name}")
    for call, defaults, names in CALLS
    for name in names.split()
]
PACKAGE_TYPES: Final = {"policy", "connector", "clock", "endpoint", "cache", "source", "credentials", "codec", "keys"}
"""Arguments for which None is the only valid value of `anything`."""


@SLOWER
@given(value=anything)
@example(value=None)
@example(value=False)
@example(value=lambda: SECRET)
@pytest.mark.parametrize(("call", "defaults", "name"), ARGUMENTS)
def test_argument(call: Callable[..., Any], defaults: dict[str, Any], name: str, value: Any) -> None:
    """A value of any type is accepted or refused at once with an error that names the argument."""
    with environment({"SIMPLESTORE_CLIENT_ID": "app", "SIMPLESTORE_CLIENT_SECRET": SECRET}):
        outcome = outcome_of(lambda: call(**defaults | {name: value}))
    if isinstance(outcome, SimpleStoreError):
        assert name in str(outcome) or call in (loads, find_base_url) or name == "expires_at"
        assert isinstance(outcome, ConfigurationError | TokenCacheError)
    elif name in PACKAGE_TYPES:
        assert value is None
