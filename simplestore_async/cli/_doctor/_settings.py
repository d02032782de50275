"""Settings in the environment. Rule: the package's own validation decides; no value of a secret is shown."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from yarl import URL

from simplestore_async import ClientCredentials, SecretFile
from simplestore_async._core.credentials import DEFAULT_TOKEN_URL
from simplestore_async._core.environment import KNOWN_VARIABLES, PREFIX, find_near_misses
from simplestore_async._core.origin import parse_url
from simplestore_async._core.proxy import ProxySettings
from simplestore_async.cli._text import find_odd
from simplestore_async.errors import ConfigurationError

from ._check import Result, failed, ok, skipped, warning

__all__ = [
    "Environment",
    "check_base_url",
    "check_cas",
    "check_characters",
    "check_client_id",
    "check_other_variables",
    "check_proxies",
    "check_scope",
    "check_token_url",
    "find_fault",
    "read_url",
    "say_fault",
    "say_unset",
]

Environment: TypeAlias = Mapping[str, str]

_PROXIES: Final = {"http_proxy", "https_proxy", "all_proxy"}


def check_client_id(environment: Environment) -> Result:
    value, path = environment.get("SIMPLESTORE_CLIENT_ID", ""), environment.get("SIMPLESTORE_CLIENT_ID_FILE", "")
    if value and path:
        return failed("SIMPLESTORE_CLIENT_ID and SIMPLESTORE_CLIENT_ID_FILE are both set", advice="unset one of them")
    if path:
        return _check_client_id_file(path)
    if not value:
        return failed(say_unset("SIMPLESTORE_CLIENT_ID", environment), advice="copy it from the Control Panel")
    fault = find_fault(client_id=value)
    if fault:
        return say_fault("SIMPLESTORE_CLIENT_ID", fault)
    if value[0] in "\"'":
        return warning(
            "SIMPLESTORE_CLIENT_ID has quotation marks around it, which are sent as part of it",
            advice="remove them, unless the Control Panel shows them",
            client_id=value,
        )
    return ok(f"{value.strip()}, from SIMPLESTORE_CLIENT_ID", client_id=value.strip())


def _check_client_id_file(path: str) -> Result:
    try:
        return ok(f"{SecretFile(path)().strip()}, from the file of SIMPLESTORE_CLIENT_ID_FILE")
    except ConfigurationError as error:
        return say_fault("SIMPLESTORE_CLIENT_ID_FILE", error)


def check_token_url(environment: Environment) -> Result:
    value = environment.get("SIMPLESTORE_TOKEN_URL", "")
    if not value:
        unset = say_unset("SIMPLESTORE_TOKEN_URL", environment)
        return ok(f"{DEFAULT_TOKEN_URL}, the default: {unset}", token_url=DEFAULT_TOKEN_URL, is_default=True)
    fault = find_fault(token_url=value)
    if fault:
        return say_fault("SIMPLESTORE_TOKEN_URL", fault)
    shown = str(parse_url("", value, allow_insecure_http=False).with_query(None))
    return ok(f"{shown}, from SIMPLESTORE_TOKEN_URL", token_url=shown, is_default=False)


def check_scope(environment: Environment) -> Result:
    value = environment.get("SIMPLESTORE_SCOPE", "")
    if not value.strip():
        return ok("none requested; SimpleStore needs none", scope=[])
    fault = find_fault(scope=value)
    if fault:
        return say_fault("SIMPLESTORE_SCOPE", fault)
    return ok(f"{' '.join(value.split())}, from SIMPLESTORE_SCOPE", scope=value.split())


def check_base_url(environment: Environment) -> Result:
    value = environment.get("SIMPLESTORE_BASE_URL", "")
    if not value:
        return skipped(
            say_unset("SIMPLESTORE_BASE_URL", environment), advice="set it to check the API, too", is_blocking=True
        )
    try:
        url = parse_url("SIMPLESTORE_BASE_URL", value, allow_insecure_http=False)
    except ConfigurationError as error:
        return say_fault("SIMPLESTORE_BASE_URL", error)
    if url.raw_query_string:
        return failed("SIMPLESTORE_BASE_URL must not have a query (?…)", advice="take it out")
    if url.path.rstrip("/").endswith("/token"):
        token_url = environment.get("SIMPLESTORE_TOKEN_URL", "")
        is_swapped = bool(token_url) and not token_url.rstrip("/").endswith("/token")
        return failed(
            "SIMPLESTORE_BASE_URL looks like a token endpoint's URL",
            advice="swap SIMPLESTORE_TOKEN_URL and SIMPLESTORE_BASE_URL"
            if is_swapped
            else "set it to the root of the API; the token endpoint belongs into SIMPLESTORE_TOKEN_URL",
        )
    return ok(f"{url}, from SIMPLESTORE_BASE_URL", base_url=str(url))


def check_characters(environment: Environment) -> Result:
    """Check values for invisible characters, at their ends and inside."""
    found: list[str] = []
    for name in KNOWN_VARIABLES:
        value = environment.get(name, "")
        odd = find_odd(value)
        if odd:
            found.append(f"{name} has {' and '.join(odd)}")
        elif value != value.strip():
            found.append(f"{name} has a blank at its start or end")
    if found:
        return warning("; ".join(found), advice="type the value again, or copy it without its surroundings")
    return ok("no invisible characters, no blanks at the ends")


def check_other_variables(environment: Environment) -> Result:
    """Check for misspelt names."""
    near = find_near_misses(*KNOWN_VARIABLES)
    if near:
        return warning(
            f"not read: {', '.join(near)}",
            advice=f"did you mean {', '.join(dict.fromkeys(near.values()))}?",
            nearest=near,
        )
    others = [name for name in sorted(environment) if name.startswith(PREFIX) and name not in KNOWN_VARIABLES]
    if others:
        return ok(f"not read by this package: {', '.join(others)}", names=others)
    return ok("none that looks misspelt")


def check_proxies(environment: Environment) -> Result:
    # Not even their hosts are shown: with a password that is not encoded any part of the URL may be of it.
    names = [name for name in sorted(environment) if name.lower() in _PROXIES and environment[name]]
    if not names:
        return ok("none in the environment", names=[])
    proxies = ProxySettings(trust_env=True)
    urls = {name: read_url(name, environment) for name in ("SIMPLESTORE_TOKEN_URL", "SIMPLESTORE_BASE_URL")}
    try:
        used = [name for name, url in urls.items() if url.absolute and proxies.find(url)]
    except ConfigurationError as error:
        return failed(f"{error.field} {error.problem}", advice=error.hint or f"correct {error.field}", names=names)
    if not used:
        return ok(f"{', '.join(names)} set; not used for these hosts", names=names)
    return warning(
        f"{', '.join(names)} used by this command; a program uses it only with trust_env=True",
        advice="pass trust_env=True or proxy=… to open_session() in the program",
        names=names,
    )


def check_cas(environment: Environment) -> Result:
    """Check the files of trusted authorities: OpenSSL ignores those that it cannot read."""
    named = {name: environment[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if environment.get(name)}
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


def say_unset(name: str, environment: Environment) -> str:
    return f"{name} is empty, which counts as not set" if name in environment else f"{name} is not set"


def find_fault(**field: Any) -> ConfigurationError | None:
    """Return the error of `ClientCredentials` for one field, if it is invalid."""
    arguments: dict[str, Any] = {"client_id": "id", "client_secret": "secret"} | field
    try:
        ClientCredentials(**arguments)
    except ConfigurationError as error:
        return error
    return None


def say_fault(name: str, error: ConfigurationError) -> Result:
    """Return the failure of the variable *name*."""
    return failed(f"{name} {error.problem}", advice=error.hint or f"correct {name}")


def read_url(variable: str, environment: Environment) -> URL:
    """Return the URL of a setting; an empty one if it is not set or invalid."""
    default = DEFAULT_TOKEN_URL if variable == "SIMPLESTORE_TOKEN_URL" else ""
    try:
        return parse_url(variable, environment.get(variable) or default, allow_insecure_http=False)
    except ConfigurationError:
        return URL()
