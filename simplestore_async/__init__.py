"""SimpleStore access tokens for asyncio programs.

Re-exports only. A module is imported when one of its names is first used: a program that only catches errors, or a
test run with the pytest plugin, does not import aiohttp.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import caches, errors, events
    from ._core import __version__ as __version__
    from ._core.cache import MemoryTokenCache, SharedTokenCache, TokenCache
    from ._core.clock import Clock
    from ._core.credentials import ClientCredentials, SecretFile
    from ._core.endpoint import TokenEndpoint
    from ._core.middleware import BearerAuthMiddleware
    from ._core.policy import RenewalPolicy, RetryPolicy
    from ._core.provider import TokenProvider
    from ._core.session import open_session
    from ._core.token import AccessToken, TokenSource
    from .caches import FileTokenCache

__all__ = [
    "AccessToken",
    "BearerAuthMiddleware",
    "ClientCredentials",
    "Clock",
    "FileTokenCache",
    "MemoryTokenCache",
    "RenewalPolicy",
    "RetryPolicy",
    "SecretFile",
    "SharedTokenCache",
    "TokenCache",
    "TokenEndpoint",
    "TokenProvider",
    "TokenSource",
    "caches",
    "errors",
    "events",
    "open_session",
]

_HOMES = {
    "AccessToken": "_core.token",
    "BearerAuthMiddleware": "_core.middleware",
    "ClientCredentials": "_core.credentials",
    "Clock": "_core.clock",
    "FileTokenCache": "caches",
    "MemoryTokenCache": "_core.cache",
    "RenewalPolicy": "_core.policy",
    "RetryPolicy": "_core.policy",
    "SecretFile": "_core.credentials",
    "SharedTokenCache": "_core.cache",
    "TokenCache": "_core.cache",
    "TokenEndpoint": "_core.endpoint",
    "TokenProvider": "_core.provider",
    "TokenSource": "_core.token",
    "open_session": "_core.session",
}


if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            return import_module("._core", __name__).__version__
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module(f".{_HOMES.get(name, name)}", __name__)
        value = globals()[name] = getattr(module, name) if name in _HOMES else module
        if name in _HOMES:
            value.__module__ = __name__  # shown in reprs, tracebacks, docs and pickles
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
