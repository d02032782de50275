"""Origins. Rule: a credential is sent only over https, or http on loopback, and only to a named origin.

An origin is `(scheme, host, port)` (RFC 6454 §4). `yarl.URL.origin()` does not suffice: it distinguishes
`https://h:443` from `https://h`. An ambiguous host is refused, because the check of the origin and the connection
could interpret it differently.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from yarl import URL

from simplestore_async.errors import ConfigurationError

from .redaction import conceal
from .text import find_odd_character, trim
from .validation import type_error

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Origin", "conceal_urls", "is_loopback", "origin_of", "parse_origins", "parse_url", "read_origin"]

Origin: TypeAlias = tuple[str, str, int | None]

# A WebSocket handshake is an HTTP request (RFC 6455 §4.1).
_HTTP_SCHEMES: Final = {"ws": "http", "wss": "https"}
_LOOPBACK: Final = IPv4Network("127.0.0.0/8"), IPv6Address("::1")
# Resolvers disagree about 127.1, 0x7f000001 and 0177.0.0.1.
_NUMBER_AT_THE_END: Final = r"(?s:.*\.)?(?:[0-9]+|0x[0-9a-f]*)"
_HOST: Final = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?"


class _HostError(Exception):
    """An ambiguous host; the text is a hint how to write it."""


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
    """Return the origin of an absolute *url*, with the default port and a normalised host.

    Raises:
        ConfigurationError: if its host is ambiguous.
    """
    return read_origin(url.scheme, url.raw_host or "", url.port)


@lru_cache  # on the path of every request, and most programs use few hosts
def read_origin(scheme: str, host: str, port: int | None) -> Origin:
    """Return the origin of these parts of a URL, as `origin_of()` does.

    Raises:
        ConfigurationError: if the host is ambiguous.
    """
    scheme = scheme.lower()
    try:
        return _HTTP_SCHEMES.get(scheme, scheme), _read_host(host), port
    except _HostError as error:
        problem = str(error)
    raise ConfigurationError("url", f"has an ambiguous host, {problem}", "nothing was sent", code="ambiguous-host")


def _read_host(host: str) -> str:
    """Return *host* normalised: IDNA, lower case, no trailing dot, and the shortest form of an IP address."""
    host = (host if host.isascii() else _encode_idna(host)).lower()
    if "%" in host:
        raise _HostError("write it without % and without an IPv6 zone")
    address = _address(host)
    if address is not None:
        # The network stack connects ::ffff:192.0.2.1 to 192.0.2.1.
        return str(getattr(address, "ipv4_mapped", None) or address)
    host = host.rstrip(".")
    if re.fullmatch(_NUMBER_AT_THE_END, host):
        raise _HostError("write an IPv4 address as four decimal numbers")
    return host


def _encode_idna(host: str) -> str:
    # Only a URL created with encoded=True has such a host. The resolver encodes it by IDNA 2003, and yarl encodes
    # others by IDNA 2008, in which "straße" is another name.
    try:
        by_resolver = host.encode("idna").decode().lower()
        by_yarl = (URL.build(scheme="https", host=host).raw_host or "").lower()
    except ValueError:
        by_resolver = by_yarl = ""
    if not by_yarl or by_resolver != by_yarl:
        raise _HostError("write it as xn--…")
    return by_yarl


def parse_url(field: str, value: str | URL, *, allow_insecure_http: bool) -> URL:
    """Return *value* as an absolute https URL without userinfo, fragment or wildcard; *field* names it in errors.

    White space and invisible characters around it are stripped; inside it they are refused.

    Raises:
        ConfigurationError: if it is not one. http is accepted only for loopback, or with *allow_insecure_http*.
    """
    value = conceal(value)
    url = _parse(field, value, allow_insecure_http=allow_insecure_http)
    if isinstance(url, ConfigurationError):
        raise url
    return url


def _parse(field: str, value: object, *, allow_insecure_http: bool) -> URL | ConfigurationError:
    # Returned, not raised: the URL may contain a password, and a traceback shows the locals of its frames.
    if not isinstance(value, str):
        return type_error(field, value, "a str or yarl.URL", "pass str(url)" if hasattr(value, "host") else "")
    text = trim(value)
    if odd := find_odd_character(text):
        return ConfigurationError(field, f"has an invisible character, {odd}", "take it out")
    try:
        url = URL(text)
        _ = url.explicit_port, url.host  # parsed lazily; an invalid port raises here
    except (ValueError, IndexError):
        return ConfigurationError(field, "is not a URL", "it should look like https://host/path")
    problem, hint = _find_problem(url)
    if problem:
        return ConfigurationError(field, problem, hint)
    if url.scheme == "http" and not allow_insecure_http and not is_loopback(url):
        return ConfigurationError(
            field,
            f"uses plain http to {url.raw_host}, which would expose credentials on the network",
            "use https (allow_insecure_http=True is for closed test networks)",
            code="plain-http",
        )
    return url


def _find_problem(url: URL) -> tuple[str, str]:
    """Return problem and hint of a URL for credentials, or two empty strings."""
    if url.scheme not in {"http", "https"} or not url.raw_host or url.explicit_port == 0:
        return "must be an absolute URL that starts with https:// and names a host, such as https://host/path", ""
    if url.raw_user is not None or url.raw_password is not None:
        return "must not have a user name or password before its host", "take them out of the URL"
    if "*" in url.raw_host:
        return "must not have a wildcard", "name each host"
    if url.raw_fragment:
        return "must not have a fragment (#…)", "RFC 6749 §3.2 forbids it"
    return _find_host_problem(url.raw_host.lower())


def _find_host_problem(host: str) -> tuple[str, str]:
    try:
        is_address = _address(_read_host(host)) is not None
    except _HostError as error:
        return "has an ambiguous host", str(error)
    if is_address or re.fullmatch(_HOST, host):
        return "", ""
    return "has an invalid host name", "a host name consists of letters, digits, hyphens and single dots"


def conceal_urls(field: str, urls: str | URL | Iterable[str | URL]) -> tuple[str | URL, ...]:
    """Return one URL or several, redacted, so that no frame's locals show a password.

    Raises:
        ConfigurationError: if they are neither.
    """
    given: Any = urls
    if isinstance(given, str | URL):
        return (conceal(given),)
    if isinstance(given, bytes | type) or not hasattr(given, "__iter__"):
        raise type_error(field, given, "a URL or several")
    return tuple(map(conceal, given))


def parse_origins(origins: str | URL | Iterable[str | URL], *, allow_insecure_http: bool) -> frozenset[Origin]:
    """Return the origins named by URLs such as `https://api.example.com`; a bare string is one of them.

    Raises:
        ConfigurationError: if there is none, or one has more than scheme, host and port.
    """
    origins = conceal_urls("origins", origins)
    if not origins:
        raise ConfigurationError("origins", "is empty", "name the origin of the API, such as https://api.example.com")
    urls = [parse_url("origins", item, allow_insecure_http=allow_insecure_http) for item in origins]
    for url in urls:
        if url.raw_path not in {"", "/"} or url.raw_query_string:
            raise ConfigurationError(
                "origins",
                "must have scheme, host and port only",
                f"write {url.origin()} (a base_url may have a path)",
            )
    return frozenset(map(origin_of, urls))
