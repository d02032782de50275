"""Environment variables. Rule: errors name variables, never values; an empty or blank variable counts as unset."""

from __future__ import annotations

import os
import re
from typing import Final

from simplestore_async.errors import ConfigurationError

from .redaction import RedactedStr
from .text import trim

__all__ = ["KNOWN_VARIABLES", "PREFIX", "find_near_misses", "missing_variables", "read_variable"]

PREFIX: Final = "SIMPLESTORE_"
_BRAND: Final = PREFIX.rstrip("_")
KNOWN_VARIABLES: Final = tuple(
    PREFIX + name
    for name in (
        "CLIENT_ID",
        "CLIENT_ID_FILE",
        "CLIENT_SECRET",
        "CLIENT_SECRET_FILE",
        "TOKEN_URL",
        "SCOPE",
        "BASE_URL",
        "CACHE_KEY",
        "CACHE_KEY_FILE",
        "REDIS_URL",
    )
)

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")
# Similarity by difflib, where equal texts have 1.
_LIKENESS_OF_ENDINGS: Final = 0.6
_LIKENESS_OF_NAMES: Final = 0.86


def read_variable(name: str, *, keep_spaces: bool = False) -> str:
    """Return the variable's value, redacted, without invisible characters around it; empty if it is unset."""
    return RedactedStr(trim(os.environ.get(name, ""), keep_spaces=keep_spaces))


def missing_variables(*names: str, hint: str) -> ConfigurationError:
    """Return the error for variables that are unset; it names similar ones in the environment."""
    first, *others = names
    problem = f"and {' and '.join(others)} are not set" if others else "is not set"
    if found := find_near_misses(*names):
        problem += f", but {' and '.join(found)} {'is' if len(found) == 1 else 'are'}"
        hint = (
            f"rename {'it' if len(found) == 1 else 'them'} to {' and '.join(dict.fromkeys(found.values()))}, or {hint}"
        )
    return ConfigurationError(first, problem, hint, code="missing-variable")


def find_near_misses(*names: str) -> dict[str, str]:
    """Return unknown variables that are set, each with the similar one of *names* or its `_FILE` variant."""
    from difflib import get_close_matches  # only an error needs it

    wanted = {_letters(name): name for name in KNOWN_VARIABLES if name.removesuffix("_FILE") in names}
    found: dict[str, str] = {}
    for name in sorted(os.environ):
        if name in KNOWN_VARIABLES or not _NAME.fullmatch(name) or not os.environ[name]:
            continue
        letters = re.sub(r"[^A-Z0-9]", "", name.upper())
        ending = letters.removeprefix(_BRAND)
        near = [ending] if ending in wanted else []
        if letters.startswith(_BRAND):
            # The prefix leaves little doubt; SIMPLESTORE_ID lacks a part.
            near += [whole for whole in wanted if ending and whole.endswith(ending)]
            near += get_close_matches(ending, wanted, 1, _LIKENESS_OF_ENDINGS)
        near += get_close_matches(letters, [_BRAND + whole for whole in wanted], 1, _LIKENESS_OF_NAMES)
        if near:
            found[name] = wanted[near[0].removeprefix(_BRAND)]
    return found


def _letters(name: str) -> str:
    return name.removeprefix(PREFIX).replace("_", "")
