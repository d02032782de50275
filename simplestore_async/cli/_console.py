"""Terminals. Rule: what moves the cursor or has a colour goes to a terminal that can do that, and to nothing else."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.progress import ProgressColumn, Task
from rich.text import Text

__all__ = ["RateColumn", "open_console", "show_trouble"]


def open_console(*, is_stderr: bool = False) -> Console | None:
    """Return the console of a stdout or stderr that is a terminal; None where lines are all that can be printed."""
    has_color = not os.environ.get("NO_COLOR")
    # Without styles, too: rich takes NO_COLOR for colours only, and would still print in bold.
    console = Console(
        stderr=is_stderr, highlight=False, color_system="auto" if has_color else None, no_color=not has_color
    )
    stream = sys.stderr if is_stderr else sys.stdout
    # Not console.is_terminal, which FORCE_COLOR makes true of a pipe.
    is_capable = stream.isatty() and not console.is_dumb_terminal and console.encoding.startswith("utf")
    return console if is_capable else None


def show_trouble(count: int, words: str) -> str:
    """Return a count in rich's markup, in red unless it is 0."""
    return f"[red]{count} {words}[/]" if count else f"0 {words}"


class RateColumn(ProgressColumn):
    """How many there are in a second, of late."""

    def render(self, task: Task) -> Text:
        """Return the rate over the time that the bar looks back."""
        return Text(f"{task.speed or 0:.0f}/s")
