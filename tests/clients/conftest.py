"""Fixtures of tests with httpx: either package, in an environment that names nothing."""

from __future__ import annotations

from typing import Any

import httpx
import httpx2
import pytest

from tests.support.sessions import clear_environment


@pytest.fixture(params=[httpx2, httpx], ids=["httpx2", "httpx"])
def package(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    clear_environment(monkeypatch)
