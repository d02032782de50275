"""Terminals. Rule: what moves the cursor or has a colour goes to a terminal that can do that, and to nothing else."""

from __future__ import annotations

import os
import sys

from rich.console import Console

__all__ = ["open_console"]


def open_console() -> Console | None:
    """Return the console of a stdout that is a terminal; None where lines of text are all that can be printed."""
    # Without styles, too: rich takes NO_COLOR for colours only, and would still print in bold.
    console = Console(highlight=False, color_system=None if os.environ.get("NO_COLOR") else "auto")
    # Not console.is_terminal, which FORCE_COLOR makes true of a pipe.
    is_capable = sys.stdout.isatty() and not console.is_dumb_terminal and console.encoding.startswith("utf")
    return console if is_capable else None
