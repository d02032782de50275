"""A cache of one's own, in a SQLite database: two coroutines, and the package's stored form of a token.

`tests/test_examples.py` proves it with `TokenCacheContract`, as yours would be. A lock that lets one process renew for
all would be a third method; see `simplestore_async.SharedTokenCache`.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import aiosqlite

from simplestore_async.caches import dumps, loads
from simplestore_async.errors import TokenCacheError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from pathlib import Path

    from simplestore_async import AccessToken

T = TypeVar("T")


class SQLiteTokenCache:
    """Tokens in a database that only its owner can read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def get(self, key: str, /) -> AccessToken | None:
        """Return the token last set for *key*; a damaged one is none."""
        row = await _finish(self._read(key))
        try:
            return None if row is None else loads(row[0])
        except TokenCacheError:
            return None

    async def set(self, key: str, token: AccessToken, /) -> None:
        """Keep *token* for *key*."""
        await _finish(self._write(key, dumps(token)))

    async def _read(self, key: str) -> aiosqlite.Row | None:
        query = "SELECT token FROM tokens WHERE key = ?"
        async with self._connect() as database, database.execute(query, [_encode(key)]) as rows:
            return await rows.fetchone()

    async def _write(self, key: str, data: bytes) -> None:
        async with self._connect() as database:
            await database.execute("INSERT OR REPLACE INTO tokens VALUES (?, ?)", [_encode(key), data])
            await database.commit()

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[aiosqlite.Connection]:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))  # before a token is in it
        async with aiosqlite.connect(self._path, timeout=60) as database:  # while others write
            await database.execute("CREATE TABLE IF NOT EXISTS tokens (key BLOB PRIMARY KEY, token BLOB)")
            yield database


async def _finish(operation: Coroutine[Any, Any, T]) -> T:
    """Run an operation to its end, even if its caller is cancelled: broken off it could keep the database locked."""
    task = asyncio.create_task(operation)
    try:
        return await asyncio.shield(task)
    finally:
        await asyncio.wait([task])


def _encode(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")  # a key is any string
