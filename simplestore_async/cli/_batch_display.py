"""Progress of `simplestore batch`. Rule: on stderr only; a terminal shows the same facts as lines do."""

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

    from simplestore_async.batch import BatchDatabase, BatchPolicy, BatchResult

__all__ = ["Display", "Tally", "open_display"]

_REFRESH_SECONDS: Final = 0.1
_PLAIN_SECONDS: Final = 10.0


@attrs.define
class Tally:
    """State of a batch for the display.

    Attributes:
        total: number of requests.
        done: number of requests that have a result, over all runs.
        troubled: how many of these did not succeed.
        sent: number of results of this run.
        news: lines that were not printed yet.
    """

    total: int
    done: int
    troubled: int
    sent: int = 0
    news: list[str] = attrs.field(factory=list[str])
    _began_at: float = attrs.field(factory=time.monotonic)

    @classmethod
    def of(cls, database: BatchDatabase, policy: BatchPolicy) -> Tally:
        """Return the tally of a batch that is about to run."""
        counts = {outcome: count for outcome, count in database.counts.items() if outcome not in policy.resend}
        done = sum(counts.values())
        return cls(database.requests.count or 0, done, done - counts["succeeded"])

    @property
    def seconds(self) -> float:
        """Duration of this run."""
        return time.monotonic() - self._began_at

    def count(self, result: BatchResult) -> None:
        """Add a result."""
        self.sent += 1
        self.done = min(self.done + 1, self.total)
        self.troubled += result.outcome != "succeeded"

    def pause(self, reason: str, seconds: float) -> None:
        """Report that the whole batch waits."""
        self.news.append(f"waiting {seconds:.3g} s: {reason}")


class Display:
    """Lines from time to time."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._printed_at = time.monotonic()

    async def run(self) -> None:
        """Show the progress until cancelled."""
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            self.update()

    def update(self) -> None:
        """Show what is new."""
        self.print_news()
        now = time.monotonic()
        if now - self._printed_at >= _PLAIN_SECONDS:
            self._printed_at = now
            self.say(self._describe())

    def print_news(self) -> None:
        """Print what has happened."""
        news, self._tally.news = self._tally.news, []
        for line in news:
            self.say(line)

    def say(self, line: str) -> None:
        """Print a line."""
        click.echo(line, err=True)

    def _describe(self) -> str:
        tally = self._tally
        rate = tally.sent / tally.seconds
        left = show_duration((tally.total - tally.done) / rate) if rate else "unknown"
        return f"{tally.done} of {tally.total}, {rate:.0f}/s, {tally.troubled} not succeeded, {left} left"


class _Bar(Display):
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
            # Refreshed by hand: a thread of its own would compete with the event loop.
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
        troubled = _show_troubled(self._tally)
        self._progress.update(self._task, completed=self._tally.done, troubled=troubled, refresh=True)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(Text(line))


def _show_troubled(tally: Tally) -> str:
    return show_trouble(tally.troubled, "not succeeded")


@contextmanager
def open_display(tally: Tally, *, is_plain: bool) -> Generator[Display]:
    """Open the display that suits stderr."""
    console = None if is_plain else open_console(is_stderr=True)
    if console is None:
        display = Display(tally)
        yield display
        display.print_news()
    else:
        with _Bar(tally, console).shown() as bar:
            yield bar
