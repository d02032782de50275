"""Environment of commands that reach a token endpoint and an API, and a directory for batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.batches import Directory
from tests.support.servers import SECRET, ApiServer, TokenServer

if TYPE_CHECKING:
    from pathlib import Path

    from simplestore_async.sandbox import Sandbox


@pytest.fixture
def environment(token_server: TokenServer, api_server: ApiServer, tmp_path: Path) -> dict[str, str]:
    return {
        "SIMPLESTORE_CLIENT_ID": "app",
        "SIMPLESTORE_CLIENT_SECRET": SECRET,
        "SIMPLESTORE_TOKEN_URL": token_server.token_url,
        "SIMPLESTORE_BASE_URL": f"{api_server.url}/v1",
        "XDG_CACHE_HOME": str(tmp_path / "home"),
        "HOME": str(tmp_path / "home"),
    }


@pytest.fixture
def directory(tmp_path: Path, sandbox: Sandbox) -> Directory:
    return Directory(tmp_path, sandbox)
