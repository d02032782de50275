"""Which checks there are. Rule: their order, and which needs which; what a check does is its own affair."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Final

from yarl import URL

from simplestore_async._core.credentials import DEFAULT_TOKEN_URL
from simplestore_async._core.origin import origin_of, parse_url
from simplestore_async.errors import ConfigurationError

from ._access import Access
from ._check import Check
from ._folder import TokenFolder
from ._host import Host
from ._secret import check_secret
from ._settings import (
    check_base_url,
    check_cas,
    check_client_id,
    check_other_variables,
    check_proxies,
    check_scope,
    check_token_url,
)
from ._skew import compare_clocks
from ._versions import check_extras, check_packages, check_python

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["plan_checks"]

_SILENT: Final = "something on the way drops what it does not like, such as a firewall; or give it longer: --timeout"
# An address that does not answer must leave time for the next one, and for the outcome.
_PATIENCE: Final = 0.75


def plan_checks(*, directory: Path | None, timeout_seconds: float) -> list[Check]:
    """Return the checks of this process's environment, each after those that it needs.

    Args:
        directory: the folder of shared tokens; the default one if None.
        timeout_seconds: how long each may take.
    """
    settings = _plan_settings()
    patience_seconds = timeout_seconds * _PATIENCE
    token_url = _read_url("SIMPLESTORE_TOKEN_URL", default=DEFAULT_TOKEN_URL)
    host = Host(url=token_url, variable="SIMPLESTORE_TOKEN_URL", patience_seconds=patience_seconds)
    way = _plan_way("Token endpoint", host, after=settings["token URL"])
    clock = Check(
        subject="Token endpoint",
        name="clock",
        look=partial(compare_clocks, token_url, patience_seconds=patience_seconds),
        needs=way[-1:],
    )
    base_url = _read_url("SIMPLESTORE_BASE_URL", default="")
    api_way: tuple[Check, ...] = ()
    if base_url.absolute and origin_of(base_url) != origin_of(token_url):
        host = Host(url=base_url, variable="SIMPLESTORE_BASE_URL", patience_seconds=patience_seconds)
        api_way = _plan_way("API", host, after=settings["base URL"])
    access = Access()
    token = Check(
        subject="Token endpoint",
        name="token",
        look=access.request_token,
        needs=(*(settings[name] for name in ("client id", "client secret", "scope")), *way[-1:]),
        if_late="the host accepts connections and does not answer: is SIMPLESTORE_TOKEN_URL right?",
    )
    call = Check(
        subject="API",
        name="request",
        look=access.call_api,
        needs=(settings["base URL"], *api_way[-1:], token),
        if_late="the host accepts connections and does not answer: is SIMPLESTORE_BASE_URL right?",
    )
    return [*settings.values(), *way, clock, token, *api_way, call, *_plan_folder(directory), *_plan_installation()]


def _plan_settings() -> dict[str, Check]:
    looks = {
        "client id": check_client_id,
        "client secret": check_secret,
        "token URL": check_token_url,
        "scope": check_scope,
        "base URL": check_base_url,
        "other variables": check_other_variables,
        "proxies": check_proxies,
        "trusted CAs": check_cas,
    }
    return {name: Check(subject="Settings", name=name, look=partial(look, os.environ)) for name, look in looks.items()}


def _plan_way(subject: str, host: Host, *, after: Check) -> tuple[Check, ...]:
    """Return the checks of the way to a host; who needs the last one needs all of them."""
    name = Check(
        subject=subject,
        name="DNS",
        look=host.look_up,
        needs=(after,),
        if_late="the resolver does not answer: mend this machine's or container's DNS",
    )
    connection = Check(subject=subject, name="TCP", look=host.connect, needs=(name,), if_late=_SILENT)
    tls = Check(subject=subject, name="TLS", look=host.shake_hands, needs=(connection,), if_late=_SILENT)
    return name, connection, tls


def _plan_folder(directory: Path | None) -> list[Check]:
    folder = TokenFolder(directory)
    look = Check(subject="Shared tokens", name="folder", look=folder.look)
    key = Check(subject="Shared tokens", name="key", look=folder.look_at_key)
    files = Check(subject="Shared tokens", name="files", look=folder.count_files, needs=(look, key))
    lock = Check(subject="Shared tokens", name="locks", look=folder.try_lock, needs=(look,))
    return [look, key, files, lock]


def _plan_installation() -> list[Check]:
    return [
        Check(subject="Installation", name="Python", look=check_python),
        Check(subject="Installation", name="packages", look=check_packages),
        Check(subject="Installation", name="extras", look=check_extras),
    ]


def _read_url(variable: str, *, default: str) -> URL:
    """Return the URL of a setting; an empty one if it is wrong, of which that setting's own check tells."""
    value = os.environ.get(variable) or default
    try:
        return parse_url(variable, value, allow_insecure_http=False)
    except ConfigurationError:
        return URL()
