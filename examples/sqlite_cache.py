"""A custom cache in an SQLite database: two coroutines, and the package's stored form of a token.

`tests/docs/test_examples.py` tests it with `TokenCacheContract`. With a third method, `renewal_lock()`, one process
would renew for all; see `simplestore_async.SharedTokenCache`.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import aiosqlite

from simplestore_async.caches import dumps, loads
from simplestore_async.errors import TokenCacheError

if TYPE_CHECKING:
    from pathlib import Path

    from simplestore_async import AccessToken


class SQLiteTokenCache:
    """Tokens in a database that only its owner can read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def get(self, key: str, /) -> AccessToken | None:
        """Return the token last set for *key*, or None if it is missing or damaged."""
        rows = await self._finish("SELECT token FROM tokens WHERE key = ?", key)
        try:
            return loads(rows[0][0]) if rows else None
        except TokenCacheError:
            return None

    async def set(self, key: str, token: AccessToken, /) -> None:
        """Keep *token* for *key*."""
        await self._finish("INSERT OR REPLACE INTO tokens VALUES (?, ?)", key, dumps(token))

    async def _finish(self, statement: str, key: str, *values: bytes) -> list[aiosqlite.Row]:
        """Execute to the end, even if the caller is cancelled: otherwise the connection would stay open."""
        task = asyncio.create_task(self._execute(statement, key, *values))
        try:
            return await asyncio.shield(task)
        finally:
            await asyncio.wait([task])

    async def _execute(self, statement: str, key: str, *values: bytes) -> list[aiosqlite.Row]:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))  # before a token is in it
        # The timeout is for other writers' locks; without an isolation level each statement is a transaction.
        async with aiosqlite.connect(self._path, timeout=60, isolation_level=None) as database:
            await database.execute("CREATE TABLE IF NOT EXISTS tokens (key BLOB PRIMARY KEY, token BLOB)")
            any_text = key.encode("utf-8", "surrogatepass")
            return list(await database.execute_fetchall(statement, [any_text, *values]))
