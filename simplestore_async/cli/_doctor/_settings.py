"""The environment. Rule: settings are judged by what the package itself makes of them; no value of a secret is told."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, TypeAlias

from simplestore_async import ClientCredentials
from simplestore_async._core.credentials import DEFAULT_TOKEN_URL
from simplestore_async._core.origin import parse_url
from simplestore_async.errors import ConfigurationError

from ._check import Outcome, failed, ok, skipped, warning

__all__ = [
    "KNOWN",
    "Environment",
    "check_base_url",
    "check_cas",
    "check_client_id",
    "check_other_variables",
    "check_proxies",
    "check_scope",
    "check_token_url",
]

Environment: TypeAlias = Mapping[str, str]

KNOWN: Final = (
    "SIMPLESTORE_CLIENT_ID",
    "SIMPLESTORE_CLIENT_SECRET",
    "SIMPLESTORE_CLIENT_SECRET_FILE",
    "SIMPLESTORE_TOKEN_URL",
    "SIMPLESTORE_SCOPE",
    "SIMPLESTORE_BASE_URL",
    "SIMPLESTORE_CACHE_KEY",
    "SIMPLESTORE_CACHE_KEY_FILE",
    "SIMPLESTORE_REDIS_URL",
)
_PREFIX: Final = "SIMPLESTORE_"
_PROXIES: Final = {"http_proxy", "https_proxy", "all_proxy"}
_ENDINGS: Final = tuple(name.removeprefix(_PREFIX) for name in KNOWN)
# As difflib counts, by which equal texts have 1. What has our prefix can hardly mean anything else.
_LIKENESS_OF_ENDINGS: Final = 0.6
_LIKENESS_OF_NAMES: Final = 0.86


def check_client_id(environment: Environment) -> Outcome:
    value = environment.get("SIMPLESTORE_CLIENT_ID", "")
    if not value:
        return failed(say_unset("SIMPLESTORE_CLIENT_ID", environment), advice="copy it from the Control Panel")
    problem = find_fault(client_id=value)
    if problem:
        return say_problem("SIMPLESTORE_CLIENT_ID", problem)
    if value != value.strip() or value[0] in "\"'":
        return warning(
            "SIMPLESTORE_CLIENT_ID has spaces or quotation marks around it, which would be sent as part of it",
            advice="take them out, unless the Control Panel shows them",
            client_id=value,
        )
    return ok(f"{value}, from SIMPLESTORE_CLIENT_ID", client_id=value)


def check_token_url(environment: Environment) -> Outcome:
    value = environment.get("SIMPLESTORE_TOKEN_URL", "")
    if not value:
        unset = say_unset("SIMPLESTORE_TOKEN_URL", environment)
        return ok(f"{DEFAULT_TOKEN_URL}, the default: {unset}", token_url=DEFAULT_TOKEN_URL, is_default=True)
    problem = find_fault(token_url=value)
    if problem:
        return say_problem("SIMPLESTORE_TOKEN_URL", problem)
    shown = str(parse_url("", value, allow_insecure_http=False).with_query(None))
    return ok(f"{shown}, from SIMPLESTORE_TOKEN_URL", token_url=shown, is_default=False)


def check_scope(environment: Environment) -> Outcome:
    value = environment.get("SIMPLESTORE_SCOPE", "")
    if not value.strip():
        return ok("none is asked for, and SimpleStore needs none", scope=[])
    problem = find_fault(scope=value)
    if problem:
        return say_problem("SIMPLESTORE_SCOPE", problem)
    return ok(f"{' '.join(value.split())}, from SIMPLESTORE_SCOPE", scope=value.split())


def check_base_url(environment: Environment) -> Outcome:
    value = environment.get("SIMPLESTORE_BASE_URL", "")
    if not value:
        return skipped(
            say_unset("SIMPLESTORE_BASE_URL", environment), advice="set it to check the API, too", holds_up=True
        )
    try:
        url = parse_url("SIMPLESTORE_BASE_URL", value, allow_insecure_http=False)
    except ConfigurationError as error:
        return say_problem("SIMPLESTORE_BASE_URL", str(error).partition(" ")[2])
    if url.raw_query_string:
        return say_problem("SIMPLESTORE_BASE_URL", "must not have a query (?…): take it out")
    return ok(f"{url}, from SIMPLESTORE_BASE_URL", base_url=str(url))


def check_other_variables(environment: Environment) -> Outcome:
    """Look for names that the package does not read, and that somebody may believe it does."""
    meant = {name: near for name in sorted(environment) if (near := _find_nearest(name))}
    if meant:
        return warning(
            f"not read: {', '.join(meant)}",
            advice=f"did you mean {', '.join(dict.fromkeys(meant.values()))}?",
            nearest=meant,
        )
    others = [name for name in sorted(environment) if name.startswith(_PREFIX) and name not in KNOWN]
    if others:
        return ok(f"not read by this package: {', '.join(others)}", names=others)
    return ok("none that looks like one of these, and is misspelt")


def _find_nearest(name: str) -> str:
    if name in KNOWN:
        return ""
    if name.startswith(_PREFIX):
        endings = get_close_matches(name.removeprefix(_PREFIX), _ENDINGS, 1, _LIKENESS_OF_ENDINGS)
        return f"{_PREFIX}{endings[0]}" if endings else ""
    return next(iter(get_close_matches(name.upper(), KNOWN, 1, _LIKENESS_OF_NAMES)), "")


def check_proxies(environment: Environment) -> Outcome:
    # Not even their hosts are told: of a URL whose password is not encoded any part may be the password.
    names = [name for name in sorted(environment) if name.lower() in _PROXIES and environment[name]]
    if not names:
        return ok("none in the environment", names=[])
    return warning(
        f"not used: {', '.join(names)}. This command connects directly, and so does a program by default",
        advice="if there is no other way out, pass trust_env=True or proxy=… to open_session() in the program",
        names=names,
    )


def check_cas(environment: Environment) -> Outcome:
    """Look at where the certificates of trusted authorities come from: OpenSSL passes over what it cannot read."""
    named = {name: environment[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if environment.get(name)}
    problems: list[str] = []
    if "SSL_CERT_FILE" in named:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=named["SSL_CERT_FILE"])
        except ssl.SSLError:
            problems.append("SSL_CERT_FILE holds no certificate")
        except (OSError, ValueError) as error:
            problems.append(f"SSL_CERT_FILE: {getattr(error, 'strerror', None) or 'it cannot be a path'}")
    if "SSL_CERT_DIR" in named and not any(Path(each).is_dir() for each in named["SSL_CERT_DIR"].split(os.pathsep)):
        problems.append("SSL_CERT_DIR names no folder")
    if problems:
        return warning(
            f"{'; '.join(problems)}: so no certificate is trusted by it",
            advice="correct it, or unset it for the system's own",
            **named,
        )
    told = [f"{path}, from {name}" for name, path in named.items()]
    return ok("; ".join(told) or "those that OpenSSL finds on this system", **named)


def say_unset(name: str, environment: Environment) -> str:
    return f"{name} is empty, which counts as not set" if name in environment else f"{name} is not set"


def find_fault(**field: Any) -> str:
    """Return what `ClientCredentials` says about one field, without its name; empty if nothing."""
    arguments: dict[str, Any] = {"client_id": "id", "client_secret": "secret"} | field
    try:
        ClientCredentials(**arguments)
    except ConfigurationError as error:
        return str(error).partition(" ")[2]
    return ""


def say_problem(name: str, problem: str) -> Outcome:
    """Return a failure for what the package says is wrong; its sentences end with what to do, after a colon."""
    finding, _, advice = problem.partition(": ")
    return failed(f"{name} {finding}", advice=advice or f"correct {name}")
