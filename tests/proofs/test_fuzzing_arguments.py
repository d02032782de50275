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
from tests.support.fuzzing import CREDENTIALS, SECRET, SLOWER, Source, environment, outcome_of, texts

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


def with_argument(make: Callable[..., Any], name: str, **others: Any) -> Any:
    return pytest.param(make, name, others, id=f"{make.__qualname__} {name}")


def client_credentials(**arguments: Any) -> object:
    defaults: dict[str, Any] = {"client_id": "app", "client_secret": SECRET}
    return ClientCredentials(**defaults | arguments)


def access_token(**arguments: Any) -> object:
    defaults: dict[str, Any] = {"value": "canary-token", "issued_at": 1.0, "expires_at": 2.0}
    return AccessToken(**defaults | arguments)


def token_endpoint(**arguments: Any) -> object:
    defaults: dict[str, Any] = {"credentials": CREDENTIALS}
    return TokenEndpoint(**defaults | arguments)


def provider(**arguments: Any) -> object:
    others: dict[str, Any] = {} if arguments.get("endpoint") is not None else {"credentials": CREDENTIALS}
    return TokenProvider(**others | arguments)


def middleware(**arguments: Any) -> object:
    defaults: dict[str, Any] = {"source": Source(), "origins": "https://canary-host"}
    return BearerAuthMiddleware(**defaults | arguments)


def session(**arguments: Any) -> object:
    async def open_and_close() -> None:
        defaults: dict[str, Any] = {"source": CREDENTIALS, "base_url": "https://canary-host"}
        async with open_session(**defaults | arguments):
            pass

    return asyncio.run(open_and_close())


ARGUMENTS: Final = [
    *[
        with_argument(client_credentials, name)
        for name in (
            *("client_id", "client_secret", "token_url", "scope", "extra_parameters", "auth_method"),
            "allow_insecure_http",
        )
    ],
    with_argument(SecretFile, "path"),
    with_argument(find_base_url, "base_url"),
    *[
        with_argument(access_token, name)
        for name in ("value", "token_type", "issued_at", "expires_at", "scope", "is_replacement")
    ],
    *[with_argument(token_endpoint, name) for name in ("credentials", "policy", "connector", "ssl", "proxy", "clock")],
    *[with_argument(provider, name) for name in ("credentials", "cache", "policy", "endpoint", "on_event", "clock")],
    *[with_argument(middleware, name) for name in ("source", "origins")],
    *[
        with_argument(session, name)
        for name in ("source", "base_url", "origins", "cache", "policy", "on_event", "ssl", "proxy")
    ],
    with_argument(FileTokenCache, "directory"),
    with_argument(FileTokenCache, "codec"),
    with_argument(FernetCodec, "keys"),
    with_argument(loads, "data"),
    *[with_argument(policy, name) for policy in (RenewalPolicy, RetryPolicy) for name in policy.__annotations__],
]
PACKAGE_TYPES: Final = {"policy", "connector", "clock", "endpoint", "cache", "source", "credentials", "codec", "keys"}
"""Arguments for which None is the only valid value of `anything`."""


@SLOWER
@given(value=anything)
@example(value=None)
@example(value=False)
@example(value=lambda: SECRET)
@pytest.mark.parametrize(("make", "name", "others"), ARGUMENTS)
def test_argument(make: Callable[..., Any], name: str, others: dict[str, Any], value: Any) -> None:
    """A value of any type is accepted or refused at once with an error that names the argument."""
    with environment({"SIMPLESTORE_CLIENT_ID": "app", "SIMPLESTORE_CLIENT_SECRET": SECRET}):
        outcome = outcome_of(lambda: make(**others, **{name: value}))
    if isinstance(outcome, SimpleStoreError):
        assert name in str(outcome) or make in (loads, find_base_url) or name == "expires_at"
        assert isinstance(outcome, ConfigurationError | TokenCacheError)
    elif name in PACKAGE_TYPES:
        assert value is None
