"""Where a request that a user writes down goes, and by which method. Rule: to the API's origin, or nowhere."""

from __future__ import annotations

import os
import re
from typing import Final

from yarl import URL

from simplestore_async.errors import ConfigurationError

from .origin import origin_of, parse_url

__all__ = ["METHODS", "check_target", "find_base_url", "find_target"]

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""Not TRACE, whose answer would show the token (RFC 9110 9.3.8)."""

_ABSOLUTE: Final = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def find_base_url(base_url: str | URL | None = None, *, allow_insecure_http: bool = False) -> URL:
    """Return the API's address: what was passed, or what the environment says.

    Raises:
        ConfigurationError: if there is none, or it is wrong.
    """
    field = "base_url"
    if base_url is None:
        field, base_url = "SIMPLESTORE_BASE_URL", os.environ.get("SIMPLESTORE_BASE_URL")
    if not base_url:
        raise ConfigurationError(f"{field} is not set: set it to the address of your store's API")
    return parse_url(field, base_url, allow_insecure_http=allow_insecure_http)


def find_target(path: str) -> URL:
    """Return what a session joins to its base URL, or a whole URL as it is.

    Raises:
        ValueError: if it is no URL.
    """
    if _ABSOLUTE.match(path):
        return URL(path)
    # With a dot, so that neither "//host" nor "orders:42" is taken for something else (RFC 3986 4.2).
    return URL(f"./{path.lstrip('/')}")


def check_target(field: str, path: str, *, base_url: URL) -> None:
    """Check that *path* leads to the origin of *base_url*; *field* names it in errors.

    Raises:
        ConfigurationError: if it leads elsewhere, or is a URL that leads nowhere.
    """
    if not _ABSOLUTE.match(path):
        return
    url = parse_url(field, path, allow_insecure_http=True)
    if origin_of(url) != origin_of(base_url):
        raise ConfigurationError(
            f"{field} leads to {url.origin()}, and the API is at {base_url.origin()}: nothing was sent, because the "
            "token is for the latter only"
        )
