"""Settings, strategies and checks of the fuzzing proofs.

`FUZZ_EXAMPLES=n` sets the number of examples. Examples that failed once are `@example`s.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from typing import TYPE_CHECKING, Any, Final, TypeVar
from unittest import mock

from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st

from simplestore_async import AccessToken, ClientCredentials
from simplestore_async.errors import SimpleStoreError
from tests.support.tracebacks import everything_shown

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

EXAMPLES: Final = int(os.environ.get("FUZZ_EXAMPLES", "30"))
FUZZ: Final = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
SLOWER: Final = settings(FUZZ, max_examples=max(EXAMPLES // 4, 1))
"""For tests that open a connection or a file in every example."""

SECRET: Final = "canary-secret"
CREDENTIALS: Final = ClientCredentials(client_id="app", client_secret=SECRET)
TOKEN: Final = AccessToken("canary-token", issued_at=1.0, expires_at=2.0)


def outcome_of(call: Callable[[], T]) -> T | SimpleStoreError:
    """Return the result of *call* or its SimpleStoreError, which must not show a canary."""
    try:
        return call()
    except SimpleStoreError as error:
        failure = error
    assert not re.search("canary-(secret|token|pass)", everything_shown(failure))
    return failure


def texts(
    alphabet: str | st.SearchStrategy[str] = st.characters(exclude_categories=["Cs"]),  # noqa: B008 - a strategy is immutable
    *,
    min_size: int = 0,
    max_size: int | None = None,
) -> st.SearchStrategy[str]:
    """Return texts without canaries, since Hypothesis also draws string literals of the tested modules."""
    return st.text(alphabet, min_size=min_size, max_size=max_size).filter(lambda text: "canary" not in text)


# Responses

json_values: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts() | st.sampled_from([10**400, -1, 0, "Bearer"]),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(texts(), values, max_size=3),
    max_leaves=6,
)
members: Final = st.sampled_from(
    ["access_token", "token_type", "expires_in", "expiries_in", "scope", "error", "error_description", "title"]
)
near_grants: Final = st.builds(
    lambda changes: {"access_token": "canary-token", "token_type": "Bearer", "expires_in": 3600} | changes,
    st.dictionaries(members, json_values, max_size=3),
)
documents: Final = st.one_of(near_grants, json_values, st.dictionaries(members, json_values)).map(
    lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
)


def damage(parts: tuple[bytes, int, bytes]) -> bytes:
    body, at, noise = parts
    at %= len(body) + 1
    return body[:at] + noise + body[at + len(noise) :]


bodies: Final = st.one_of(
    documents,
    st.tuples(documents, st.integers(0), st.binary(max_size=4)).map(damage),
    documents.map(gzip.compress),
    documents.map(zlib.compress),
    st.tuples(documents.map(gzip.compress), st.integers(0), st.binary(max_size=4)).map(damage),
    st.binary(),
)


def environment(values: dict[str, str]) -> Any:
    """Return a context in which the environment is *values*, as far as it can store them."""
    storable = {}
    for name, value in values.items():
        try:
            storable[name] = os.fsdecode(os.fsencode(value.replace("\0", "")))
        except UnicodeEncodeError:
            assume(condition=False)
    return mock.patch.dict(os.environ, storable, clear=True)
