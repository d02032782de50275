"""Type hints of `open_session()`: mypy's `warn_unused_ignores` fails if one of these errors is not reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from simplestore_async import open_session
from simplestore_async.errors import ConfigurationError
from tests.support.api_requests import OneToken

if TYPE_CHECKING:
    import aiohttp

API = "https://api.example"


async def test_correct_use() -> None:
    """Options have the types of `aiohttp.ClientSession`, and entering returns a session."""
    headers = {"X-Tag": "1"}
    async with open_session(OneToken(), base_url=API, headers=headers, raise_for_status=True) as session:
        typed: aiohttp.ClientSession = session

    assert typed.closed


def test_misspelt_option() -> None:
    """A misspelt option is an error for the type checker and at run time."""
    with pytest.raises(ConfigurationError):
        open_session(OneToken(), base_url=API, raise_for_statu=True)  # type: ignore[call-arg]


def test_wrong_type() -> None:
    """An option of the wrong type is an error for the type checker."""
    open_session(OneToken(), base_url=API, timeout=5)  # type: ignore[arg-type]


def test_positional() -> None:
    """A second positional argument is an error for the type checker and at run time."""
    with pytest.raises(ConfigurationError):
        open_session(OneToken(), "secret")  # type: ignore[arg-type]
