"""The client secret. Rule: its source and oddities are shown; never its value, a part or its length."""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from pathlib import Path
from typing import Final

from simplestore_async import SecretFile
from simplestore_async._core.redaction import RedactedStr
from simplestore_async._core.text import trim
from simplestore_async.cli._text import find_odd, is_path
from simplestore_async.errors import ConfigurationError

from ._check import Result, failed, ok, warning
from ._settings import Environment, find_fault, say_fault, say_unset

__all__ = ["check_secret"]

_VARIABLE: Final = "SIMPLESTORE_CLIENT_SECRET"
_FILE_VARIABLE: Final = "SIMPLESTORE_CLIENT_SECRET_FILE"
_COPY: Final = "copy it again from the Control Panel"
# Placeholders of examples and templates, and variables that were not filled in.
_PLACEHOLDER: Final = re.compile(
    r"change[-_ ]?(me|it|this)|password|to[-_ ]?do|fix[-_ ]?me|place[-_ ]?holder|redacted|none|null|undefined|"
    r"(x|\*|\.|…)+|"
    r"(your|my|the|client|example|dummy)?[-_ ]*(client)?[-_ ]*secret[-_ ]*(here)?|<.*>|\$\{?\w+\}?|\{\{.*\}\}|%\w+%",
    re.IGNORECASE,
)
_SHORTEST_ENCODED: Final = 6


def check_secret(environment: Environment) -> Result:
    path, secret = environment.get(_FILE_VARIABLE), RedactedStr(environment.get(_VARIABLE, ""))
    if path and secret:
        return failed(f"{_VARIABLE} and {_FILE_VARIABLE} are both set", advice="unset one of them")
    if path:
        return _check_file(path, environment)
    if not secret:
        return failed(
            f"{say_unset(_VARIABLE, environment)}, and {_FILE_VARIABLE} names no file",
            advice=f"copy it from the Control Panel into {_VARIABLE}, or into a file that {_FILE_VARIABLE} names",
        )
    fault = find_fault(client_secret=secret)
    if fault:
        return say_fault(_VARIABLE, fault)
    return _judge(secret, environment, where=f"set, from {_VARIABLE}", facts={"source": _VARIABLE})


def _check_file(name: str, environment: Environment) -> Result:
    path = Path(name)
    if not is_path(name):
        # The value is not shown: it may be the secret itself.
        return failed(
            f"{_FILE_VARIABLE} names no file that exists",
            advice="write the path without ~, which only shells expand"
            if name.startswith("~")
            else f"set it to the path of a file, and a secret itself in {_VARIABLE}",
        )
    return _read_file(path, environment, where=f"{path} of {_FILE_VARIABLE}")


def _read_file(path: Path, environment: Environment, *, where: str) -> Result:
    try:
        status = path.stat()
    except OSError as error:
        return failed(f"{where} cannot be read: {error.strerror}", advice=_who_reads(path))
    if not stat.S_ISREG(status.st_mode):
        return failed(f"{where} is not a regular file", advice="name a file: it is read again for every renewal")
    try:
        secret = SecretFile(path)()
    except ConfigurationError as error:
        if not os.access(path, os.R_OK):
            return failed(f"{where} cannot be read: Permission denied", advice=_who_reads(path))
        return failed(f"{where}: {error.problem}", advice=error.hint or f"{_COPY} into the file")
    mode = stat.S_IMODE(status.st_mode)
    facts: dict[str, object] = {
        "source": _FILE_VARIABLE,
        "path": str(path),
        "mode": f"{mode:04o}",
        "owner_id": status.st_uid,
        "is_symlink": path.is_symlink(),
    }
    if os.name == "posix" and mode & 0o022:
        return warning(f"{where} is writable by others (mode {mode:04o})", advice=f"chmod go-w {path}", **facts)
    return _judge(secret, environment, where=f"set, from the file {path} (mode {mode:04o})", facts=facts)


def _who_reads(path: Path) -> str:
    user = f"user {os.geteuid()}" if hasattr(os, "geteuid") else "this user"
    return f"let {user} read {path}, or correct {_FILE_VARIABLE}; check that it is mounted"


def _judge(secret: str, environment: Environment, *, where: str, facts: dict[str, object]) -> Result:
    """Return the oddities of a secret that the package would accept."""
    secret = trim(secret, keep_spaces=True)
    oddity, advice = "", _COPY
    if odd := find_odd(secret):
        oddity = f"with {' and '.join(odd)}, which no one sees"
    elif secret != secret.strip():
        oddity = "with blanks around it, which would be sent as part of it"
    elif len(secret) > 1 and secret[0] == secret[-1] and secret[0] in "\"'":
        oddity = "with quotation marks around it, which are sent as part of it"
    elif secret == environment.get("SIMPLESTORE_CLIENT_ID"):
        oddity = "but it is the same as the client id"
    elif _PLACEHOLDER.fullmatch(secret):
        oddity = "but it looks like a placeholder"
    elif _is_encoded(secret):
        oddity = "but it looks like text in base64, as in a Kubernetes Secret"
        advice = "decode it (base64 -d), unless the Control Panel shows it like this"
    if oddity:
        return warning(f"{where}, {oddity}", advice=advice, **facts)
    return ok(where, **facts)


def _is_encoded(secret: str) -> bool:
    """Return whether it is base64 of printable text, which random characters hardly ever are."""
    try:
        decoded = base64.b64decode(secret.encode("ascii"), validate=True).decode("ascii")
    except (binascii.Error, UnicodeError):
        return False
    text = decoded.removesuffix("\n").removesuffix("\r")
    return len(text) >= _SHORTEST_ENCODED and text.isprintable()
