"""Isolation from the developer's shell: settings, terminal, colours, locale, time zone, umask and proxies."""

from __future__ import annotations

import os
import time
from typing import Final

# These variables would affect every program that a test starts.
_REMOVED: Final = (
    *("COLUMNS", "LINES"),
    *("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLORTERM", "TTY_COMPATIBLE", "TTY_INTERACTIVE"),
    *("LANG", "LANGUAGE", "PYTHONIOENCODING"),
    *("XDG_CACHE_HOME",),
)
_SET: Final = {"LC_ALL": "C.UTF-8", "TZ": "UTC"}


def reset_surroundings() -> None:
    """Give this process and those that tests start the same environment on every machine."""
    for name in list(os.environ):
        if name in _REMOVED or name.startswith(("SIMPLESTORE_", "LC_")) or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ.update(_SET)
    if hasattr(time, "tzset"):
        time.tzset()
    os.umask(0o022)
