"""Fuzzed bytes in a cache raise only a `SimpleStoreError`, which shows no token."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

from hypothesis import given
from hypothesis import strategies as st

from simplestore_async import AccessToken, FileTokenCache
from simplestore_async._core.token import is_visible_ascii
from simplestore_async.caches import dumps, loads
from simplestore_async.errors import TokenCacheError
from tests.support.fuzzing import FUZZ, SLOWER, TOKEN, bodies, damage, json_values, outcome_of, texts

if TYPE_CHECKING:
    import pytest

damaged_tokens: Final = st.tuples(st.just(dumps(TOKEN)), st.integers(0), st.binary(max_size=4)).map(damage)
odd_tokens: Final = st.dictionaries(
    st.sampled_from(["value", "token_type", "issued_at", "expires_at", "scope", "is_replacement", "version"]),
    json_values,
).map(lambda changes: json.dumps(json.loads(dumps(TOKEN)) | changes).encode())


@FUZZ
@given(st.one_of(st.binary(), damaged_tokens, odd_tokens, bodies))
def test_stored_token(data: bytes) -> None:
    """Stored bytes are refused or load as a token that can be stored again."""
    outcome = outcome_of(lambda: loads(data))
    if isinstance(outcome, AccessToken):
        assert is_visible_ascii(outcome.value)
        assert outcome == loads(dumps(outcome))
    else:
        assert isinstance(outcome, TokenCacheError)


@SLOWER
@given(texts(), st.one_of(st.binary(), damaged_tokens, odd_tokens), st.booleans())
def test_cache_file(tmp_path_factory: pytest.TempPathFactory, key: str, data: bytes, is_after_header: bool) -> None:
    """Any content of a cache file is a token or a cache miss and can be replaced, for any key."""
    directory = tmp_path_factory.mktemp("cache")
    cache = FileTokenCache(directory / "tokens")

    async def use() -> None:
        assert await cache.get(key) is None
        await cache.set(key, TOKEN)
        (path,) = (directory / "tokens").glob("token-*.json")
        header, _, whole = path.read_bytes().partition(b"\n")
        assert dumps(TOKEN) == whole
        path.write_bytes(header + b"\n" + data if is_after_header else data)
        found = await cache.get(key)
        assert found is None or (is_after_header and found == loads(data))
        await cache.set(key, TOKEN)
        assert TOKEN == await cache.get(key)

    asyncio.run(use())
