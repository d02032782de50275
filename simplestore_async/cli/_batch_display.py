"""How `simplestore batch` looks. Rule: on stderr only, and on a terminal or not, what is said is the same."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs
import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from ._console import RateColumn, open_console, show_trouble
from ._output import show_duration

if TYPE_CHECKING:
    from collections.abc import Generator

    from rich.console import Console

    from simplestore_async.batch import BatchResult

__all__ = ["Display", "Tally", "open_display"]

_REFRESH_SECONDS: Final = 0.1
_PLAIN_SECONDS: Final = 10.0


@attrs.define
class Tally:
    """How a batch stands. The batch counts, the display reads.

    Attributes:
        total: how many requests the file holds.
        done: how many have a result, over all runs.
        troubled: how many of these did not succeed.
        news: what is to be told, once.
    """

    total: int
    done: int
    troubled: int
    news: list[str] = attrs.field(factory=list[str])

    def count(self, result: BatchResult) -> None:
        """Add a result; one that is unknown from an earlier run is counted there already, if it was told."""
        self.done += 1
        self.troubled += result.outcome != "succeeded"

    def pause(self, reason: str, seconds: float) -> None:
        """Tell that the whole batch waits."""
        self.news.append(f"waiting {seconds:.3g} s: {reason}")


class Display:
    """Lines, now and then."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._began_at = self._told_at = time.monotonic()
        self._done_before = tally.done

    async def run(self) -> None:
        """Show how the batch goes on, until cancelled."""
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            self.update()

    def update(self) -> None:
        """Show what is new."""
        self.tell_news()
        now = time.monotonic()
        if now - self._told_at >= _PLAIN_SECONDS:
            self._told_at = now
            self.say(self._describe(now - self._began_at))

    def tell_news(self) -> None:
        """Say what has happened."""
        news, self._tally.news = self._tally.news, []
        for line in news:
            self.say(line)

    def say(self, line: str) -> None:
        """Print a line."""
        click.echo(line, err=True)

    def _describe(self, seconds: float) -> str:
        tally = self._tally
        rate = (tally.done - self._done_before) / seconds
        left = show_duration((tally.total - tally.done) / rate) if rate else "unknown"
        return f"{tally.done} of {tally.total}, {rate:.0f}/s, {tally.troubled} not succeeded, {left} left"


class _Bar(Display):
    """A bar that is drawn again and again, and lines above it."""

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
            # Refreshed by hand: a thread of its own would compete with the event loop.
            auto_refresh=False,
        )
        troubled = _show_troubled(tally)
        self._task = self._progress.add_task("", total=tally.total, completed=tally.done, troubled=troubled)

    @contextmanager
    def shown(self) -> Generator[Display]:
        """Draw it, and leave it as it was in the end."""
        with self._progress:
            yield self
            self.update()

    def update(self) -> None:
        """Draw what has changed."""
        self.tell_news()
        troubled = _show_troubled(self._tally)
        self._progress.update(self._task, completed=self._tally.done, troubled=troubled, refresh=True)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(Text(line))


def _show_troubled(tally: Tally) -> str:
    return show_trouble(tally.troubled, "not succeeded")


@contextmanager
def open_display(tally: Tally, *, is_plain: bool) -> Generator[Display]:
    """Open the display that stderr is fit for."""
    console = None if is_plain else open_console(is_stderr=True)
    if console is None:
        display = Display(tally)
        yield display
        display.tell_news()
    else:
        with _Bar(tally, console).shown() as bar:
            yield bar
