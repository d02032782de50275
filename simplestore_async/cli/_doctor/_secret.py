"""The client secret. Rule: its source is told, and what is odd about it; never it, a part of it, or its length."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final

from simplestore_async import SecretFile
from simplestore_async._core.redaction import RedactedStr
from simplestore_async.errors import ConfigurationError

from ._check import Outcome, failed, ok, warning
from ._settings import Environment, find_fault, say_problem, say_unset

__all__ = ["check_secret"]

_VARIABLE: Final = "SIMPLESTORE_CLIENT_SECRET"
_FILE_VARIABLE: Final = "SIMPLESTORE_CLIENT_SECRET_FILE"
# What examples and templates have in the place of a secret, and what is left of a variable that nobody filled in.
_PLACEHOLDER: Final = re.compile(
    r"change[-_ ]?(me|it|this)|password|to[-_ ]?do|fix[-_ ]?me|place[-_ ]?holder|redacted|none|null|undefined|"
    r"(x|\*|\.|…)+|"
    r"(your|my|the|client|example|dummy)?[-_ ]*(client)?[-_ ]*secret[-_ ]*(here)?|<.*>|\$\{?\w+\}?|\{\{.*\}\}|%\w+%",
    re.IGNORECASE,
)


def check_secret(environment: Environment) -> Outcome:
    path, secret = environment.get(_FILE_VARIABLE), RedactedStr(environment.get(_VARIABLE, ""))
    if path and secret:
        return failed(f"{_VARIABLE} and {_FILE_VARIABLE} are both set", advice="unset one of them")
    if path:
        return _check_file(Path(path), environment)
    if not secret:
        return failed(
            f"{say_unset(_VARIABLE, environment)}, nor does {_FILE_VARIABLE} name a file",
            advice=f"copy it from the Control Panel, into {_VARIABLE} or into a file that {_FILE_VARIABLE} names",
        )
    problem = find_fault(client_secret=secret)
    if problem:
        return say_problem(_VARIABLE, problem)
    return _judge(secret, environment, where=f"set, from {_VARIABLE}", facts={"source": _VARIABLE})


def _check_file(path: Path, environment: Environment) -> Outcome:
    where = f"{path}, which {_FILE_VARIABLE} names,"
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or "it cannot be a path"
        advice = "write the path without ~, which only shells know" if path.parts[:1] == ("~",) else _who_reads(path)
        return failed(f"{where} cannot be read: {reason}", advice=advice)
    if not stat.S_ISREG(status.st_mode):
        # A pipe would be empty at the second time.
        return failed(f"{where} is no regular file", advice="name a file: the secret is read again for every renewal")
    try:
        secret = SecretFile(path)()
    except ConfigurationError as error:
        problem = str(error)
    else:
        mode = stat.S_IMODE(status.st_mode)
        facts: dict[str, object] = {
            "source": _FILE_VARIABLE,
            "path": str(path),
            "mode": f"{mode:04o}",
            "owner_id": status.st_uid,
            "is_symlink": path.is_symlink(),
        }
        if os.name == "posix" and mode & 0o022:
            return warning(
                f"{where} can be written to by others (mode {mode:04o})", advice=f"chmod go-w {path}", **facts
            )
        return _judge(secret, environment, where=f"set, from the file {path} (mode {mode:04o})", facts=facts)
    if not os.access(path, os.R_OK):
        return failed(problem, advice=_who_reads(path))
    # The package's own sentences end with what is wrong with the bytes, or with what to do.
    finding, _, _ = problem.partition(": copy it")
    return failed(finding, advice=f"copy it again from the Control Panel into the file ({_FILE_VARIABLE})")


def _who_reads(path: Path) -> str:
    user = f"user {os.geteuid()}" if hasattr(os, "geteuid") else "this user"
    return f"let {user} read {path}, or correct {_FILE_VARIABLE}; is it mounted?"


def _judge(secret: str, environment: Environment, *, where: str, facts: dict[str, object]) -> Outcome:
    """Return what is odd about a secret that the package would send."""
    oddity = ""
    if secret != secret.strip():
        oddity = "with spaces around it, which would be sent as part of it"
    elif len(secret) > 1 and secret[0] == secret[-1] and secret[0] in "\"'":
        oddity = "with quotation marks around it, which would be sent as part of it"
    elif secret == environment.get("SIMPLESTORE_CLIENT_ID"):
        oddity = "but it is the same as the client id"
    elif _PLACEHOLDER.fullmatch(secret):
        oddity = "but it looks like a placeholder"
    if oddity:
        return warning(f"{where}, {oddity}", advice="copy it again from the Control Panel", **facts)
    return ok(where, **facts)
