"""Settings in the environment. Rule: the package's own validation decides; no value of a secret is shown."""

from __future__ import annotations

import os
import ssl
from os import environ
from pathlib import Path
from typing import Any, Final

from yarl import URL

from simplestore_async import ClientCredentials, SecretFile
from simplestore_async._core.credentials import DEFAULT_TOKEN_URL
from simplestore_async._core.environment import KNOWN_VARIABLES, PREFIX, find_near_misses
from simplestore_async._core.origin import parse_url
from simplestore_async._core.proxy import ProxySettings
from simplestore_async._core.secret import read_secret_file
from simplestore_async._core.target import parse_base_url
from simplestore_async.cli._text import find_odd
from simplestore_async.errors import ConfigurationError

from ._check import Result, failed, ok, skipped, warning

__all__ = [
    "check_argument",
    "check_base_url",
    "check_cas",
    "check_characters",
    "check_client_id",
    "check_other_variables",
    "check_proxies",
    "check_scope",
    "check_token_url",
    "describe_unset",
    "read_url",
]

_PROXIES: Final = {"http_proxy", "https_proxy", "all_proxy"}


def check_client_id() -> Result:
    value, path = environ.get("SIMPLESTORE_CLIENT_ID", ""), environ.get("SIMPLESTORE_CLIENT_ID_FILE", "")
    if value and path:
        return failed("SIMPLESTORE_CLIENT_ID and SIMPLESTORE_CLIENT_ID_FILE are both set", advice="unset one of them")
    if path:
        client_id = read_secret_file("SIMPLESTORE_CLIENT_ID_FILE", SecretFile(path), keep_spaces=False)
        return ok(f"{client_id}, from the file of SIMPLESTORE_CLIENT_ID_FILE")
    if not value:
        return failed(describe_unset("SIMPLESTORE_CLIENT_ID"), advice="copy it from the Control Panel")
    check_argument("SIMPLESTORE_CLIENT_ID", client_id=value)
    if value[0] in "\"'":
        return warning(
            "SIMPLESTORE_CLIENT_ID has quotation marks around it, which are sent as part of it",
            advice="remove them, unless the Control Panel shows them",
            client_id=value,
        )
    return ok(f"{value.strip()}, from SIMPLESTORE_CLIENT_ID", client_id=value.strip())


def check_token_url() -> Result:
    value = environ.get("SIMPLESTORE_TOKEN_URL", "")
    if not value:
        unset = describe_unset("SIMPLESTORE_TOKEN_URL")
        return ok(f"{DEFAULT_TOKEN_URL}, the default: {unset}", token_url=DEFAULT_TOKEN_URL, is_default=True)
    check_argument("SIMPLESTORE_TOKEN_URL", token_url=value)
    shown = str(parse_url("", value, allow_insecure_http=False).with_query(None))
    return ok(f"{shown}, from SIMPLESTORE_TOKEN_URL", token_url=shown, is_default=False)


def check_scope() -> Result:
    value = environ.get("SIMPLESTORE_SCOPE", "")
    if not value.strip():
        return ok("none requested; SimpleStore needs none", scope=[])
    check_argument("SIMPLESTORE_SCOPE", scope=value)
    return ok(f"{' '.join(value.split())}, from SIMPLESTORE_SCOPE", scope=value.split())


def check_base_url() -> Result:
    value = environ.get("SIMPLESTORE_BASE_URL", "")
    if not value:
        return skipped(
            describe_unset("SIMPLESTORE_BASE_URL"), advice="set it to check the API as well", is_blocking=True
        )
    url = parse_base_url("SIMPLESTORE_BASE_URL", value, allow_insecure_http=False)
    if url.path.rstrip("/").endswith("/token"):
        token_url = environ.get("SIMPLESTORE_TOKEN_URL", "")
        is_swapped = bool(token_url) and not token_url.rstrip("/").endswith("/token")
        return failed(
            "SIMPLESTORE_BASE_URL looks like a token endpoint's URL",
            advice="swap SIMPLESTORE_TOKEN_URL and SIMPLESTORE_BASE_URL"
            if is_swapped
            else "set it to the root of the API; the token endpoint belongs into SIMPLESTORE_TOKEN_URL",
        )
    return ok(f"{url}, from SIMPLESTORE_BASE_URL", base_url=str(url))


def check_characters() -> Result:
    """Check values for invisible characters, at their ends and inside."""
    found: list[str] = []
    for name in KNOWN_VARIABLES:
        value = environ.get(name, "")
        odd = find_odd(value)
        if odd:
            found.append(f"{name} has {' and '.join(odd)}")
        elif value != value.strip():
            found.append(f"{name} has a blank at its start or end")
    if found:
        return warning("; ".join(found), advice="type the value again, or copy it without its surroundings")
    return ok("no invisible characters, no blanks at the ends")


def check_other_variables() -> Result:
    """Check for misspelt names."""
    near = find_near_misses(*KNOWN_VARIABLES)
    if near:
        return warning(
            f"not read: {', '.join(near)}",
            advice=f"did you mean {', '.join(dict.fromkeys(near.values()))}?",
            nearest=near,
        )
    others = [name for name in sorted(environ) if name.startswith(PREFIX) and name not in KNOWN_VARIABLES]
    if others:
        return ok(f"not read by this package: {', '.join(others)}", names=others)
    return ok("none that looks misspelt")


def check_proxies() -> Result:
    # Not even their hosts are shown: with a password that is not encoded any part of the URL may be of it.
    names = [name for name in sorted(environ) if name.lower() in _PROXIES and environ[name]]
    if not names:
        return ok("none in the environment", names=[])
    proxies = ProxySettings(trust_env=True)
    urls = map(read_url, ("SIMPLESTORE_TOKEN_URL", "SIMPLESTORE_BASE_URL"))
    if not any(url.absolute and proxies.find(url) for url in urls):
        return ok(f"{', '.join(names)} set; not used for these hosts", names=names)
    return warning(
        f"{', '.join(names)} used by this command; a program uses it only with trust_env=True",
        advice="pass trust_env=True or proxy=… to open_session() in the program",
        names=names,
    )


def check_cas() -> Result:
    """Check the files of trusted authorities: OpenSSL ignores those that it cannot read."""
    named = {name: environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if environ.get(name)}
    problems: list[str] = []
    if "SSL_CERT_FILE" in named:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=named["SSL_CERT_FILE"])
        except ssl.SSLError:
            problems.append("SSL_CERT_FILE holds no certificate")
        except (OSError, ValueError) as error:
            problems.append(f"SSL_CERT_FILE: {getattr(error, 'strerror', None) or 'not a valid path'}")
    if "SSL_CERT_DIR" in named and not any(Path(each).is_dir() for each in named["SSL_CERT_DIR"].split(os.pathsep)):
        problems.append("SSL_CERT_DIR names no directory")
    if problems:
        return warning(
            f"{'; '.join(problems)}; it adds no trusted certificate",
            advice="correct it, or unset it for the system's certificates",
            **named,
        )
    shown = [f"{path}, from {name}" for name, path in named.items()]
    return ok("; ".join(shown) or "those of this system", **named)


def describe_unset(name: str) -> str:
    return f"{name} is empty, which counts as not set" if name in environ else f"{name} is not set"


def check_argument(variable: str, **argument: Any) -> None:
    """Check the value of a variable as `ClientCredentials` does.

    Raises:
        ConfigurationError: names the variable, if its value is invalid.
    """
    arguments: dict[str, Any] = {"client_id": "id", "client_secret": "secret"} | argument
    try:
        ClientCredentials(**arguments)
    except ConfigurationError as error:
        raise ConfigurationError(variable, error.problem, error.hint) from None


def read_url(variable: str) -> URL:
    """Return the URL of a setting; an empty one if it is not set or invalid."""
    default = DEFAULT_TOKEN_URL if variable == "SIMPLESTORE_TOKEN_URL" else ""
    try:
        return parse_url(variable, environ.get(variable) or default, allow_insecure_http=False)
    except ConfigurationError:
        return URL()
