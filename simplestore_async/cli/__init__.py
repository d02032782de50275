"""The `simplestore` command. Rule: each command imports its dependencies when it runs, and names a missing extra."""

from __future__ import annotations

import logging
import sys

__all__ = ["main"]

_EXTRA = frozenset({"click", "rich", "msgspec"})

# Failures are error lines: without a handler Python would print the log records as well.
logging.getLogger("simplestore_async").addHandler(logging.NullHandler())


def main() -> int:
    """Run the command with the arguments of this process, and return its exit code.

    0: done. 1: refused or failed. 2: wrong usage, or the extra `cli` is not installed. 22: the API responded
    4xx or 5xx. 130: interrupted.
    """
    try:
        from ._main import run  # the extra may be missing

        return run()
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in _EXTRA:
            raise
        print(f'simplestore: {name} is not installed: pip install "simplestore-async[cli]"', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
