"""httpx2 and httpx: the promises of `BearerAuthMiddleware` and `open_session()` for another client. Re-exports only.

Requires the extra `httpx`; httpx 0.28 or later serves as well as httpx2.
"""

from ._core.httpx_client import open_client
from ._core.httpx_package import require_package
from ._core.httpx_transport import BearerTransport

__all__ = ["BearerTransport", "open_client"]

require_package()
