"""Sessions of `open_session()` in an environment that names nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp
    import pytest


def clear_environment(environment: pytest.MonkeyPatch) -> None:
    """Remove credentials and proxies from the environment."""
    for name in ("CLIENT_ID", "CLIENT_SECRET", "CLIENT_SECRET_FILE", "TOKEN_URL", "SCOPE", "BASE_URL"):
        environment.delenv(f"SIMPLESTORE_{name}", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        environment.delenv(name, raising=False)
        environment.delenv(name.upper(), raising=False)


async def get(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(url) as response:
        return response.status
