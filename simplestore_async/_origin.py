"""Origins. Rule: a credential travels by https, or by http within this machine, and only to an origin that was named.

An origin is `(scheme, host, port)` (RFC 6454 §4). `yarl.URL.origin()` will not do: to it `https://h:443` and
`https://h` are two.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final, TypeAlias

from yarl import URL

from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Origin", "is_loopback", "origin_of", "parse_origins", "parse_url"]

Origin: TypeAlias = tuple[str, str, int | None]

# A WebSocket handshake is an HTTP request (RFC 6455 §4.1).
_HTTP_SCHEMES: Final = {"ws": "http", "wss": "https"}
_LOOPBACK: Final = IPv4Network("127.0.0.0/8"), IPv6Address("::1")


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def is_loopback(url: URL) -> bool:
    """Return whether the host is exactly 127.0.0.0/8, ::1 or localhost; no other spelling counts."""
    host = url.raw_host or ""
    address = _address(host)
    network, loopback_v6 = _LOOPBACK
    if isinstance(address, IPv4Address):
        return address in network
    return address == loopback_v6 if address else host == "localhost"


def origin_of(url: URL) -> Origin:
    """Return the origin of an absolute *url*: default port filled in, IDNA host, one spelling for each IP address."""
    host = url.raw_host or ""
    return _HTTP_SCHEMES.get(url.scheme, url.scheme), str(_address(host) or host), url.port


def parse_url(field: str, value: str | URL, *, allow_insecure_http: bool) -> URL:
    """Return *value* as an absolute https URL without userinfo, fragment or wildcard; *field* names it in errors.

    Raises:
        ConfigurationError: if it is not one. http passes only to loopback, or with *allow_insecure_http*.
    """
    if not isinstance(value, str | URL):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"{field} must be a string or yarl.URL, not {type(value).__name__}")
    try:
        url = URL(value)
        port = url.explicit_port  # parsed lazily; an impossible one raises here
    except ValueError:
        # The text is not repeated: somebody may have put a password into it.
        raise ConfigurationError(f"{field} is not a URL; it should look like https://host/path") from None
    if url.scheme not in {"http", "https"} or not url.raw_host or port == 0:
        raise ConfigurationError(f"{field} must be an absolute URL that starts with https://, and name a host")
    if url.raw_user is not None or url.raw_password is not None:
        raise ConfigurationError(
            f"{field} must not hold a user name or password before its host: take them out of the URL"
        )
    if "*" in url.raw_host:
        raise ConfigurationError(f"{field} must not hold a wildcard: name each host")
    if url.raw_fragment:
        raise ConfigurationError(f"{field} must not have a fragment (#…); RFC 6749 §3.2 forbids it")
    if url.scheme == "http" and not allow_insecure_http and not is_loopback(url):
        raise ConfigurationError(
            f"{field} uses plain http to {url.raw_host}, which would show credentials to the network: use https "
            "(allow_insecure_http=True is for closed test networks)"
        )
    return url


def parse_origins(origins: str | URL | Iterable[str | URL], *, allow_insecure_http: bool) -> frozenset[Origin]:
    """Return the origins named by URLs such as `https://api.example.com`; a bare string is one of them.

    Raises:
        ConfigurationError: if none is named, or one holds more than scheme, host and port.
    """
    items = [origins] if isinstance(origins, str | URL) else list(origins)
    if not items:
        raise ConfigurationError("origins is empty: name the origin of the API, such as https://api.example.com")
    urls = [parse_url("origins", item, allow_insecure_http=allow_insecure_http) for item in items]
    for url in urls:
        if url.raw_path not in {"", "/"} or url.raw_query_string:
            raise ConfigurationError(
                f"origins must hold scheme, host and port only: write {url.origin()} (a base_url may have a path)"
            )
    return frozenset(map(origin_of, urls))
