"""Targets of requests in files and commands. Rule: only the API's origin."""

from __future__ import annotations

import re
from typing import Final

from yarl import URL

from simplestore_async.errors import ConfigurationError

from .environment import missing_variables, read_variable
from .origin import origin_of, parse_url
from .redaction import conceal

__all__ = ["METHODS", "check_target", "find_base_url", "find_target", "parse_base_url"]

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""Without TRACE, whose response would show the token (RFC 9110 §9.3.8)."""

_ABSOLUTE: Final = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def find_base_url(base_url: str | URL | None = None, *, allow_insecure_http: bool = False) -> URL:
    """Return the API's address: the argument, or else that of the environment.

    Raises:
        ConfigurationError: if there is none, or it is wrong.
    """
    field, base_url = "base_url", conceal(base_url)
    if base_url is None:
        field, base_url = "SIMPLESTORE_BASE_URL", read_variable("SIMPLESTORE_BASE_URL")
        if not base_url:
            raise missing_variables(field, hint="set it to the address of your store's API")
    return parse_base_url(field, base_url, allow_insecure_http=allow_insecure_http)


def parse_base_url(field: str, value: str | URL, *, allow_insecure_http: bool) -> URL:
    """Return a base URL with a trailing slash, which aiohttp and relative URLs require.

    Raises:
        ConfigurationError: if it is wrong; *field* names it.
    """
    url = parse_url(field, value, allow_insecure_http=allow_insecure_http)
    if url.raw_query_string:
        raise ConfigurationError(field, "must not have a query (?…)", "remove the query, which would be lost")
    return url if url.raw_path.endswith("/") else url.with_path(f"{url.raw_path}/", encoded=True)


def find_target(path: str) -> URL:
    """Return the URL that a session joins to its base URL; an absolute URL is unchanged.

    Raises:
        ConfigurationError: if it is not a URL.
    """
    try:
        if _ABSOLUTE.match(path):
            return URL(path)
        # With a dot, so that "//host" and "orders:42" are relative paths (RFC 3986 §4.2).
        return URL(f"./{path.lstrip('/')}")
    except (ValueError, IndexError):
        pass
    raise ConfigurationError("path", "is not a URL")


def check_target(field: str, path: str, *, base_url: URL) -> None:
    """Check that *path* leads to the origin of *base_url*; *field* names it in errors.

    Raises:
        ConfigurationError: if it leads elsewhere, or is not a URL.
    """
    if not _ABSOLUTE.match(path):
        return
    url = parse_url(field, path, allow_insecure_http=True)
    if origin_of(url) != origin_of(base_url):
        raise ConfigurationError(
            field,
            f"leads to {url.origin()}, but the API is at {base_url.origin()}",
            "nothing was sent, because the token is for the API only",
        )
