"""Terminals. Rule: cursor movements and colours go only to a terminal that supports them."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.progress import ProgressColumn, Task
from rich.text import Text

__all__ = ["RateColumn", "open_console", "show_trouble"]


def open_console(*, is_stderr: bool = False) -> Console | None:
    """Return a console if stdout or stderr is a capable terminal, else None."""
    has_color = not os.environ.get("NO_COLOR")
    # rich applies NO_COLOR to colours only, not to bold.
    console = Console(
        stderr=is_stderr, highlight=False, color_system="auto" if has_color else None, no_color=not has_color
    )
    stream = sys.stderr if is_stderr else sys.stdout
    # Not console.is_terminal, which FORCE_COLOR makes true for a pipe.
    is_capable = stream.isatty() and not console.is_dumb_terminal and console.encoding.startswith("utf")
    return console if is_capable else None


def show_trouble(count: int, words: str) -> str:
    """Return a count as rich markup, red unless it is 0."""
    return f"[red]{count} {words}[/]" if count else f"0 {words}"


class RateColumn(ProgressColumn):
    """Recent rate; once finished, the average."""

    def render(self, task: Task) -> Text:
        """Return the rate per second."""
        rate = task.finished_speed or task.speed or 0.0
        if task.finished and task.finished_time and not task.finished_speed:
            rate = task.completed / task.finished_time
        return Text(f"{rate:.0f}/s")
