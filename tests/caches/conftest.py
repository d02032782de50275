"""A `FileTokenCache` in a directory of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from simplestore_async import FileTokenCache
from tests.support.cache_files import (
    KEY,
    NAME,
    TOKEN,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(directory: Path) -> FileTokenCache:
    return FileTokenCache(directory)


@pytest.fixture
async def path(cache: FileTokenCache, directory: Path) -> Path:
    """The file of KEY, which holds TOKEN."""
    await cache.set(KEY, TOKEN)
    return directory / NAME
