"""The `package` fixture: httpx2 and httpx."""

from __future__ import annotations

from typing import Any

import httpx
import httpx2
import pytest


@pytest.fixture(params=[httpx2, httpx], ids=["httpx2", "httpx"])
def package(request: pytest.FixtureRequest) -> Any:
    return request.param
