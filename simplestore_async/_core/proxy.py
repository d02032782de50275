"""HTTP proxies. Rule: `proxy=`, `trust_env` and `no_proxy` mean the same for token endpoint and API.

User name and password are removed from the URL: aiohttp's errors and frames would show them, and it encodes them in
Latin-1.
"""

from __future__ import annotations

import base64
import re
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.request import getproxies, getproxies_environment, proxy_bypass

import attrs
from yarl import URL

from simplestore_async.errors import ConfigurationError

from .origin import is_loopback
from .redaction import RedactedStr, SupportsSecretValue, conceal, reveal
from .validation import check_flag, check_type, is_plain_text

__all__ = ["Proxy", "ProxySettings"]

_HTTP_SCHEMES: Final = {"ws": "http", "wss": "https"}
_SEPARATORS: Final = r"[,\s]+"
_BRACKETS: Final = r"\[([^]]*)\](?!:)"


@attrs.frozen(eq=False, repr=False)
class Proxy:
    """A proxy: its URL without userinfo, and the headers for it; the value of Proxy-Authorization is redacted."""

    url: URL
    headers: dict[str, str]


class ProxySettings:
    """The proxy for each URL.

    Args:
        proxy: URL of an HTTP proxy for every request, or an object with `get_secret_value()`; overrides the
            environment.
        trust_env: use the proxy that `https_proxy`, `http_proxy` or `all_proxy` names, except for hosts in `no_proxy`
            and on loopback.

    Raises:
        ConfigurationError: if an argument is wrong. The URL is not in the message.
    """

    def __init__(self, proxy: str | URL | SupportsSecretValue | None = None, *, trust_env: bool = False) -> None:
        given, problem = reveal(proxy)
        del proxy
        if problem:
            raise ConfigurationError("proxy", problem)
        check_type("proxy", given, str | URL | None)
        check_flag("trust_env", trust_env)
        self._proxy = None if given is None else _parse_proxy("proxy", given)
        self._trust_env = trust_env

    def find(self, url: URL) -> Proxy | None:
        """Return the proxy for *url*; the environment is read at each call.

        Raises:
            ConfigurationError: if the environment's proxy is not the URL of an HTTP proxy; names the variable.
        """
        if self._proxy is not None or not self._trust_env or is_loopback(url) or _is_bypassed(url):
            return self._proxy
        proxies = {scheme: conceal(proxy) for scheme, proxy in getproxies().items()}
        for scheme in (url.scheme, _HTTP_SCHEMES.get(url.scheme, ""), "all"):
            if proxies.get(scheme):
                return _parse_proxy(f"{scheme}_proxy", proxies[scheme])
        return None


def _parse_proxy(field: str, value: str | URL) -> Proxy:
    proxy = _read_proxy(value)
    if proxy is None:
        raise ConfigurationError(
            field, "must be the URL of an HTTP proxy", "write it like http://proxy.example.com:3128", code="proxy"
        )
    return proxy


def _read_proxy(value: str | URL) -> Proxy | None:
    if not is_plain_text(str(value)):
        return None  # yarl would drop a lone surrogate, which is part of the password
    try:
        url = URL(value)
        if url.scheme not in {"http", "https"} or not url.raw_host or url.port == 0:
            return None
        headers: dict[str, str] = {}
        if url.raw_user is not None or url.raw_password is not None:
            pair = base64.b64encode(f"{url.user or ''}:{url.password or ''}".encode()).decode()
            headers["Proxy-Authorization"] = RedactedStr(f"Basic {pair}")
        return Proxy(url.with_user(None), headers)
    except (ValueError, IndexError):
        return None


def _is_bypassed(url: URL) -> bool:
    """Return whether the environment excludes *url* from proxying."""
    environment = getproxies_environment()
    if not environment:
        return bool(proxy_bypass(url.host or ""))  # the system's settings on macOS and Windows
    return any(_matches(entry, url) for entry in re.split(_SEPARATORS, environment.get("no", "")) if entry)


def _matches(entry: str, url: URL) -> bool:
    """Return whether an entry of `no_proxy` matches *url*: `*`, a host and its subdomains, an address or a network.

    A host or address may have a port; an IPv6 address with a port has brackets.
    """
    host = (url.raw_host or "").lower().rstrip(".")
    if entry == "*":
        return True
    try:
        return ip_address(host) in ip_network(re.sub(_BRACKETS, r"\1", entry), strict=False)
    except ValueError:
        pass  # one of them is not an address or network
    try:
        named = URL(f"//{entry.removeprefix('*').lstrip('.')}")
        named_host, port = (named.raw_host or "").lower().rstrip("."), named.explicit_port
    except ValueError:
        return False
    is_host = bool(named_host) and (host == named_host or host.endswith(f".{named_host}"))
    return is_host and port in {None, url.port}
