"""Errors: the class tree, `retryable`, copying and pickling."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import pytest

from simplestore_async import errors
from simplestore_async.errors import (
    BatchDatabaseError,
    BatchError,
    BatchFileError,
    ConfigurationError,
    InvalidClientError,
    ProviderClosedError,
    SimpleStoreError,
    TokenCacheError,
    TokenEndpointError,
    TokenError,
    TokenResponseError,
    TokenTimeoutError,
    TokenTransportError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

TREE = {
    SimpleStoreError: (Exception,),
    ConfigurationError: (SimpleStoreError, ValueError),
    TokenError: (SimpleStoreError,),
    TokenTransportError: (TokenError,),
    TokenTimeoutError: (TokenTransportError, TimeoutError),
    TokenEndpointError: (TokenError,),
    InvalidClientError: (TokenEndpointError,),
    TokenResponseError: (TokenError,),
    ProviderClosedError: (SimpleStoreError,),
    TokenCacheError: (SimpleStoreError,),
    BatchError: (SimpleStoreError,),
    BatchFileError: (SimpleStoreError, ValueError),
    BatchDatabaseError: (SimpleStoreError,),
}

REFUSAL = TokenEndpointError(
    "text", status=503, error="slow_down", error_description="too fast", title="Busy", retry_after=7.5
)
# Errors, and their `retryable`.
EXAMPLES: list[tuple[SimpleStoreError, bool]] = [
    (SimpleStoreError("text"), False),
    (ConfigurationError("field", "is wrong"), False),
    (ProviderClosedError(), False),
    (TokenCacheError("text"), False),
    (TokenError("text"), False),
    (TokenError("text", retryable=True), True),
    (TokenTransportError("text"), True),
    (TokenTransportError("text", retryable=False), False),
    (TokenTimeoutError("text"), True),
    (TokenEndpointError("text"), False),
    (REFUSAL, True),
    (InvalidClientError("text", status=401, error="invalid_client", title="Wrong"), False),
    (TokenResponseError("text"), False),
    (TokenResponseError("text", retryable=True), True),
    (BatchError("text"), True),
    (BatchFileError("text", problems=((7, "it is empty"),), count=1), False),
    (BatchDatabaseError("text"), False),
    (BatchDatabaseError("text", code="batch-in-use"), True),
]

ROUND_TRIPS: list[Callable[[SimpleStoreError], SimpleStoreError]] = [
    copy.copy,
    copy.deepcopy,
    *(
        lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    ),
]


def test_tree() -> None:
    """Every public error has its documented parents."""
    assert TREE == {error: error.__bases__ for error in TREE}
    assert {error.__name__ for error in TREE} == set(errors.__all__)


@pytest.mark.parametrize(("error", "expected"), EXAMPLES)
def test_retryable(error: SimpleStoreError, expected: bool) -> None:
    """`retryable` is True if a later attempt may succeed."""
    assert expected == error.retryable


@pytest.mark.parametrize("status", [200, 400, 401, 408, 429, 500, 503])
def test_invalid_client_is_terminal(status: int) -> None:
    """An InvalidClientError is never retryable, whatever its status."""
    assert InvalidClientError("text", status=status, error="invalid_client").retryable is False


@pytest.mark.parametrize("round_trip", ROUND_TRIPS)
@pytest.mark.parametrize("error", [error for error, _ in EXAMPLES])
def test_round_trip(error: SimpleStoreError, round_trip: Callable[[SimpleStoreError], SimpleStoreError]) -> None:
    """A copied or unpickled error is a new instance with the same class, arguments, attributes and text."""
    twin = round_trip(error)

    assert twin is not error
    assert (type(error), error.args, vars(error)) == (type(twin), twin.args, vars(twin))
    assert (str(error), error.retryable) == (str(twin), twin.retryable)


def test_copy_has_no_traceback() -> None:
    """A copy has neither the traceback nor the cause of the original."""
    with pytest.raises(TokenError) as caught:
        raise TokenError("text") from OSError("cause")

    twin = copy.copy(caught.value)

    assert (None, None) == (twin.__traceback__, twin.__cause__)
