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
    (ProviderClosedError("text"), False),
    (TokenCacheError("text"), False),
    (TokenError("text"), False),
    (TokenError("text", retryable=True), True),
    (TokenTransportError("text"), True),
    (TokenTransportError("text", retryable=False), False),
    (TokenTimeoutError("text"), True),
    (TokenTimeoutError("text", retryable=False), False),
    (TokenEndpointError("text"), False),
    (REFUSAL, True),
    (InvalidClientError("text", status=401, error="invalid_client", title="Wrong"), False),
    (TokenResponseError("text"), False),
    (TokenResponseError("text", retryable=True), True),
    (BatchError("text"), True),
    (BatchFileError("text"), False),
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


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((status, False) for status in (0, 200, 302, 399, 400, 401, 403, 404, 407, 409, 422, 428, 430, 499)),
        *((status, True) for status in (408, 429, 500, 501, 502, 503, 504, 599)),
    ],
)
def test_retryable_status(status: int, expected: bool) -> None:
    """The statuses 408, 429 and 5xx are retryable, and no others are."""
    assert expected == TokenEndpointError("text", status=status).retryable


@pytest.mark.parametrize("status", [200, 400, 401, 408, 429, 500, 503])
def test_invalid_client_is_terminal(status: int) -> None:
    """An InvalidClientError is never retryable, whatever its status."""
    assert InvalidClientError("text", status=status, error="invalid_client").retryable is False


def test_attributes_of_a_refusal() -> None:
    """The response's fields are attributes of the error, and missing ones are None."""
    for error, facts in (
        (REFUSAL, (503, "slow_down", "too fast", "Busy", 7.5)),
        (TokenEndpointError("text"), (0, None, None, None, None)),
    ):
        assert facts == (error.status, error.error, error.error_description, error.title, error.retry_after)
        assert "text" == str(error)


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


def test_closed_has_a_hint() -> None:
    """A ProviderClosedError without arguments has a hint."""
    error = ProviderClosedError()
    assert "the TokenProvider is closed; keep it open for as long as requests are made" == str(error)
    assert "provider-closed" == error.code
