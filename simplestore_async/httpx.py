"""The guarantees of `BearerAuthMiddleware` and `open_session()` for httpx2 and httpx. Re-exports only.

Requires the extra `httpx`, or httpx 0.28 or later.
"""

from ._core.httpx_client import open_client
from ._core.httpx_package import require_package
from ._core.httpx_transport import BearerTransport

__all__ = ["BearerTransport", "open_client"]

require_package()
