"""The checks, their order, and which needs which."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from simplestore_async._core.origin import origin_of
from simplestore_async._core.proxy import ProxySettings
from simplestore_async.cli._caches import has_redis
from simplestore_async.errors import ConfigurationError

from . import _settings
from ._check import Check
from ._network import Host, check_proxy_connection
from ._requests import Requests, compare_clocks
from ._secret import check_secret
from ._settings import read_url
from ._tokens import Directory, check_key, check_redis
from ._versions import check_extras, check_packages, check_python

if TYPE_CHECKING:
    from pathlib import Path

    from yarl import URL

    from simplestore_async._core.proxy import Proxy

__all__ = ["plan_checks"]

_SILENT: Final = "packets are probably being dropped (firewall?); or raise --timeout"
# An address that does not respond must leave time for the next one, and for the result.
_PATIENCE: Final = 0.75


def plan_checks(*, directory: Path | None, timeout_seconds: float) -> list[Check]:
    """Return the checks of this process's environment, each after those that it needs.

    Args:
        directory: the cache directory; None for the environment's Redis server or the default directory.
        timeout_seconds: time limit of each.
    """
    settings = _plan_settings()
    patience_seconds = timeout_seconds * _PATIENCE
    token_url, base_url = read_url("SIMPLESTORE_TOKEN_URL"), read_url("SIMPLESTORE_BASE_URL")
    connection = _plan_connection(
        "Token endpoint", token_url, after=settings["token URL"], patience_seconds=patience_seconds
    )
    compare = partial(compare_clocks, token_url, proxy=_find_proxy(token_url), patience_seconds=patience_seconds)
    clock = Check("Token endpoint", "clock", compare, needs=connection[-1:])
    api_connection: tuple[Check, ...] = ()
    if base_url.absolute and origin_of(base_url) != origin_of(token_url):
        api_connection = _plan_connection(
            "API", base_url, after=settings["base URL"], patience_seconds=patience_seconds
        )
    requests = Requests()
    token = Check(
        "Token endpoint",
        "token",
        requests.request_token,
        needs=(*(settings[name] for name in ("client id", "client secret", "scope", "proxies")), *connection[-1:]),
        if_late="the host accepts connections and does not respond; check SIMPLESTORE_TOKEN_URL",
    )
    call = Check(
        "API",
        "request",
        requests.call_api,
        needs=(settings["base URL"], *api_connection[-1:], token),
        if_late="the host accepts connections and does not respond; check SIMPLESTORE_BASE_URL",
    )
    tokens = _plan_redis() if has_redis() and directory is None else _plan_directory(directory)
    return [
        *(*settings.values(), *connection, clock, token, *api_connection, call, *tokens),
        Check("Installation", "Python", check_python),
        Check("Installation", "packages", check_packages),
        Check("Installation", "extras", check_extras),
    ]


def _plan_settings() -> dict[str, Check]:
    checks = {
        "client id": _settings.check_client_id,
        "client secret": check_secret,
        "token URL": _settings.check_token_url,
        "scope": _settings.check_scope,
        "base URL": _settings.check_base_url,
        "characters": _settings.check_characters,
        "other variables": _settings.check_other_variables,
        "proxies": _settings.check_proxies,
        "trusted CAs": _settings.check_cas,
    }
    return {name: Check("Settings", name, run) for name, run in checks.items()}


def _plan_connection(subject: str, url: URL, *, after: Check, patience_seconds: float) -> tuple[Check, ...]:
    """Return the checks of the connection to a host; a check that needs the last one needs all of them."""
    variable = "SIMPLESTORE_BASE_URL" if subject == "API" else "SIMPLESTORE_TOKEN_URL"
    proxy = _find_proxy(url)
    if proxy is not None:
        connect = partial(check_proxy_connection, proxy.url, f"{url.scheme}_proxy", patience_seconds=patience_seconds)
        return (Check(subject, "proxy", connect, needs=(after,), if_late=_SILENT),)
    host = Host(url=url, variable=variable, patience_seconds=patience_seconds)
    dns = Check(
        subject,
        "DNS",
        host.check_name,
        needs=(after,),
        if_late="the resolver does not respond; check the DNS settings of this machine or container",
    )
    tcp = Check(subject, "TCP", host.check_connection, needs=(dns,), if_late=_SILENT)
    tls = Check(subject, "TLS", host.check_tls, needs=(tcp,), if_late=_SILENT)
    return dns, tcp, tls


def _find_proxy(url: URL) -> Proxy | None:
    """Return the environment's proxy for *url*; None if it is invalid, which another check reports."""
    try:
        return ProxySettings(trust_env=True).find(url) if url.absolute else None
    except ConfigurationError:
        return None


def _plan_redis() -> list[Check]:
    return [
        Check("Shared tokens", "Redis", check_redis, if_late=_SILENT),
        Check("Shared tokens", "key", check_key),
    ]


def _plan_directory(path: Path | None) -> list[Check]:
    directory = Directory(path)
    usable = Check("Shared tokens", "directory", directory.check)
    key = Check("Shared tokens", "key", check_key)
    files = Check("Shared tokens", "files", directory.check_files, needs=(usable, key))
    lock = Check("Shared tokens", "locks", directory.check_lock, needs=(usable,))
    return [usable, key, files, lock]
