"""One access token for every task that talks to SimpleStore: obtained once, renewed in time, sent where it belongs.

Re-exports only; the modules behind them say which rule each obeys.
"""

from typing import TYPE_CHECKING, Any

from . import caches, errors
from ._clock import Clock
from ._credentials import ClientCredentials, SecretFile
from ._endpoint import TokenEndpoint
from ._middleware import BearerAuthMiddleware
from ._provider import TokenProvider
from ._renewal import RenewalPolicy
from ._session import open_session
from ._token import AccessToken, TokenSource
from .caches import FileTokenCache, MemoryTokenCache, SharedTokenCache, TokenCache

if TYPE_CHECKING:
    from . import events

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


def __getattr__(name: str) -> Any:
    # A program that listens to no events need not wait for their classes when it starts.
    if name == "events":
        from importlib import import_module

        return import_module(".events", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
