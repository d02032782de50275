"""Progress bar of `simplestore batch`. Rule: on terminals only."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from ._batch_display import Display
from ._console import RateColumn, show_trouble

if TYPE_CHECKING:
    from collections.abc import Generator

    from rich.console import Console

    from ._batch_display import Tally

__all__ = ["Bar"]


class Bar(Display):
    """A progress bar, and lines above it."""

    def __init__(self, tally: Tally, console: Console) -> None:
        super().__init__(tally)
        self._progress = Progress(
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            RateColumn(),
            TextColumn("{task.fields[troubled]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            expand=True,
            # Refreshed by hand: another thread would compete with the event loop.
            auto_refresh=False,
        )
        troubled = _show_troubled(tally)
        self._task = self._progress.add_task("", total=tally.total, completed=tally.done, troubled=troubled)

    @contextmanager
    def shown(self) -> Generator[Display]:
        """Draw it, and leave its last state."""
        with self._progress:
            yield self
            self.update()

    def update(self) -> None:
        """Draw what has changed."""
        self.print_news()
        troubled = _show_troubled(self.tally)
        self._progress.update(self._task, completed=self.tally.done, troubled=troubled, refresh=True)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(Text(line))


def _show_troubled(tally: Tally) -> str:
    return show_trouble(tally.troubled, "not succeeded")
