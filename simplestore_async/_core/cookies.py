"""Cookies of a rejected request. Rule: the second request and the client's jar get them, as after a redirect."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["bounded", "cookie_pairs", "list_cookies", "update_cookies"]

T = TypeVar("T", str, bytes)

# RFC 6265 §6.1 requires no more of clients. Reading endless cookies would block the event loop.
_MAX_COOKIES: Final = 50
_MAX_COOKIE_CHARS: Final = 4096
_EXPIRY: Final = re.compile(rb";\s*(?:max-age|expires)\s*=[^;]*", re.IGNORECASE)


def bounded(lines: Sequence[T]) -> list[T]:
    """Return the Set-Cookie lines that a client has to read."""
    return [line for line in lines[:_MAX_COOKIES] if len(line) <= _MAX_COOKIE_CHARS]


def cookie_pairs(header: str) -> dict[str, str]:
    """Return the pairs of a Cookie header by their names."""
    pairs = map(str.strip, header.split(";"))
    return {pair.partition("=")[0]: pair for pair in pairs if pair}


def list_cookies(response: Any) -> list[tuple[bytes, bytes]]:
    """Return the Set-Cookie lines of *response*, one of httpx."""
    lines = [value for name, value in response.headers.raw if name.lower() == b"set-cookie"]
    return [(b"Set-Cookie", line) for line in bounded(lines)]


def update_cookies(package: Any, request: Any, lines: list[tuple[bytes, bytes]]) -> str:
    """Return the Cookie header of *request* after Set-Cookie *lines* of its response."""
    pairs = cookie_pairs(request.headers.get("Cookie", ""))
    for _, line in lines:
        if found := _accept(package, request, line):
            pairs |= found
        else:
            # A cookie that is rejected only for its expiry is a deletion.
            for name in _accept(package, request, _EXPIRY.sub(b"", line)):
                pairs.pop(name, None)
    return "; ".join(pairs.values())


def _accept(package: Any, request: Any, line: bytes) -> dict[str, str]:
    """Return the pairs that a client without cookies would send to the URL of *request* after one Set-Cookie line."""
    bare = package.Request("GET", request.url)
    cookies = package.Cookies()
    cookies.extract_cookies(package.Response(401, headers=[(b"Set-Cookie", line)], request=bare))
    cookies.set_cookie_header(bare)
    return cookie_pairs(bare.headers.get("Cookie", ""))
