"""One access token for every task that talks to SimpleStore: obtained once, renewed in time, sent where it belongs.

Re-exports only; the modules behind them say which rule each obeys. Each is imported when one of its names is first
used: whoever only catches errors, or has the pytest plugin installed, does not wait for aiohttp.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import caches, errors, events
    from ._clock import Clock
    from ._credentials import ClientCredentials, SecretFile
    from ._endpoint import TokenEndpoint
    from ._middleware import BearerAuthMiddleware
    from ._provider import TokenProvider
    from ._renewal import RenewalPolicy
    from ._session import open_session
    from ._token import AccessToken, TokenSource
    from .caches import FileTokenCache, MemoryTokenCache, SharedTokenCache, TokenCache

__all__ = [
    "AccessToken",
    "BearerAuthMiddleware",
    "ClientCredentials",
    "Clock",
    "FileTokenCache",
    "MemoryTokenCache",
    "RenewalPolicy",
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
    "AccessToken": "_token",
    "BearerAuthMiddleware": "_middleware",
    "ClientCredentials": "_credentials",
    "Clock": "_clock",
    "FileTokenCache": "caches",
    "MemoryTokenCache": "caches",
    "RenewalPolicy": "_renewal",
    "SecretFile": "_credentials",
    "SharedTokenCache": "caches",
    "TokenCache": "caches",
    "TokenEndpoint": "_endpoint",
    "TokenProvider": "_provider",
    "TokenSource": "_token",
    "open_session": "_session",
}


if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module(f".{_HOMES.get(name, name)}", __name__)
        value = globals()[name] = getattr(module, name) if name in _HOMES else module
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
