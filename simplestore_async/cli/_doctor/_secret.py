"""The client secret. Rule: its source and oddities are shown; never its value, a part or its length."""

from __future__ import annotations

import base64
import binascii
import os
import re
from os import environ
from typing import Final

from simplestore_async import SecretFile
from simplestore_async._core.redaction import RedactedStr
from simplestore_async._core.secret import read_secret_file
from simplestore_async._core.text import trim
from simplestore_async.cli._text import find_odd

from ._check import Result, failed, ok, permissions, warning
from ._settings import check_argument, describe_unset

__all__ = ["check_secret"]

_VARIABLE: Final = "SIMPLESTORE_CLIENT_SECRET"
_FILE_VARIABLE: Final = "SIMPLESTORE_CLIENT_SECRET_FILE"
# Placeholders of examples and templates, and variables that were not filled in.
_PLACEHOLDER: Final = re.compile(
    r"change[-_ ]?(me|it|this)|password|to[-_ ]?do|fix[-_ ]?me|place[-_ ]?holder|redacted|none|null|undefined|"
    r"(x|\*|\.|…)+|"
    r"(your|my|the|client|example|dummy)?[-_ ]*(client)?[-_ ]*secret[-_ ]*(here)?|<.*>|\$\{?\w+\}?|\{\{.*\}\}|%\w+%",
    re.IGNORECASE,
)
_SHORTEST_ENCODED: Final = 6


def check_secret() -> Result:
    path, secret = environ.get(_FILE_VARIABLE), RedactedStr(environ.get(_VARIABLE, ""))
    if path and secret:
        return failed(f"{_VARIABLE} and {_FILE_VARIABLE} are both set", advice="unset one of them")
    if path:
        return _check_file(SecretFile(path))
    if not secret:
        return failed(
            f"{describe_unset(_VARIABLE)}, and {_FILE_VARIABLE} names no file",
            advice=f"copy it from the Control Panel into {_VARIABLE}, or into a file that {_FILE_VARIABLE} names",
        )
    check_argument(_VARIABLE, client_secret=secret)
    return _judge(secret, where=f"set, from {_VARIABLE}", facts={"source": _VARIABLE})


def _check_file(file: SecretFile) -> Result:
    path = file.path
    if os.access(path, os.F_OK) and not os.access(path, os.R_OK):
        user = f"user {os.geteuid()}" if hasattr(os, "geteuid") else "this user"
        return failed(f"{_FILE_VARIABLE}: {path}: Permission denied", advice=f"let {user} read {path}")
    secret = read_secret_file(_FILE_VARIABLE, file)
    status = path.stat()
    facts: dict[str, object] = {
        "source": _FILE_VARIABLE,
        "path": str(path),
        **permissions(status),
        "is_symlink": path.is_symlink(),
    }
    mode = f" (mode {facts['mode']})" if "mode" in facts else ""
    if mode and status.st_mode & 0o022:
        return warning(f"{path} is writable by others{mode}", advice=f"chmod go-w {path}", **facts)
    return _judge(secret, where=f"set, from the file {path}{mode}", facts=facts)


def _judge(secret: str, *, where: str, facts: dict[str, object]) -> Result:
    """Return the oddities of a secret that the package would accept."""
    secret = trim(secret, keep_spaces=True)
    oddity, advice = "", "copy it again from the Control Panel"
    if odd := find_odd(secret):
        oddity = f"with the invisible {' and '.join(odd)}"
    elif secret != secret.strip():
        oddity = "with blanks around it, which are sent as part of it"
    elif len(secret) > 1 and secret[0] == secret[-1] and secret[0] in "\"'":
        oddity = "with quotation marks around it, which are sent as part of it"
    elif secret == environ.get("SIMPLESTORE_CLIENT_ID"):
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
