"""Origins. Rule: a credential travels by https, or by http within this machine, and only to an origin that was named.

An origin is `(scheme, host, port)` (RFC 6454 4). `yarl.URL.origin()` will not do: to it `https://h:443` and
`https://h` are two.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import Final, TypeAlias

from yarl import URL

from simplestore_async.errors import ConfigurationError

from .redaction import conceal, kind_of

__all__ = ["Origin", "is_loopback", "origin_of", "parse_origins", "parse_url"]

Origin: TypeAlias = tuple[str, str, int | None]

# A WebSocket handshake is an HTTP request (RFC 6455 4.1).
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
    return _origin(url.scheme, url.raw_host or "", url.port)


@lru_cache  # on the path of every request; a program talks to few hosts
def _origin(scheme: str, host: str, port: int | None) -> Origin:
    return _HTTP_SCHEMES.get(scheme, scheme), str(_address(host) or host.lower()), port


def parse_url(field: str, value: str | URL, *, allow_insecure_http: bool) -> URL:
    """Return *value* as an absolute https URL without userinfo, fragment or wildcard; *field* names it in errors.

    Raises:
        ConfigurationError: if it is not one. http passes only to loopback, or with *allow_insecure_http*.
    """
    value = conceal(value)  # a password may be in it
    url = _read_url(value, allow_insecure_http=allow_insecure_http)
    if isinstance(url, str):
        raise ConfigurationError(f"{field} {url}")
    return url


def _read_url(value: object, *, allow_insecure_http: bool) -> URL | str:
    """Return the URL, or what is wrong with it."""
    if not isinstance(value, str | URL):
        return f"must be a string or yarl.URL, not {kind_of(value)}"
    try:
        url = URL(value)
        port, host = url.explicit_port, url.host  # read lazily; impossible ones raise here
    except (ValueError, IndexError):
        return "is not a URL; it should look like https://host/path"
    problem = ""
    if url.scheme not in {"http", "https"} or not host or port == 0:
        problem = "must be an absolute URL that starts with https://, and name a host"
    elif url.raw_user is not None or url.raw_password is not None:
        problem = "must not hold a user name or password before its host: take them out of the URL"
    elif "*" in host:
        problem = "must not hold a wildcard: name each host"
    elif url.raw_fragment:
        problem = "must not have a fragment (#…); RFC 6749 3.2 forbids it"
    elif url.scheme == "http" and not allow_insecure_http and not is_loopback(url):
        problem = (
            f"uses plain http to {url.raw_host}, which would show credentials to the network: use https "
            "(allow_insecure_http=True is for closed test networks)"
        )
    return problem or url


def conceal_urls(field: str, urls: str | URL | Iterable[str | URL]) -> tuple[str | URL, ...]:
    """Return one URL or several, none of which shows a password when it stands among a frame's locals.

    Raises:
        ConfigurationError: if they are neither.
    """
    if isinstance(urls, str | URL):
        return (conceal(urls),)
    if not isinstance(urls, Iterable):
        raise ConfigurationError(f"{field} must be URLs, not {type(urls).__name__}")
    return tuple(map(conceal, urls))


def parse_origins(origins: str | URL | Iterable[str | URL], *, allow_insecure_http: bool) -> frozenset[Origin]:
    """Return the origins named by URLs such as `https://api.example.com`; a bare string is one of them.

    Raises:
        ConfigurationError: if none is named, or one holds more than scheme, host and port.
    """
    origins = conceal_urls("origins", origins)
    if not origins:
        raise ConfigurationError("origins is empty: name the origin of the API, such as https://api.example.com")
    urls = [parse_url("origins", item, allow_insecure_http=allow_insecure_http) for item in origins]
    for url in urls:
        if url.raw_path not in {"", "/"} or url.raw_query_string:
            raise ConfigurationError(
                f"origins must hold scheme, host and port only: write {url.origin()} (a base_url may have a path)"
            )
    return frozenset(map(origin_of, urls))
