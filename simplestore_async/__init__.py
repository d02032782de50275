"""One access token for every task that talks to SimpleStore: obtained once, renewed in time, sent where it belongs.

Re-exports only; the modules behind them say which rule each obeys.
"""

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
