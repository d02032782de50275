"""Progress of `simplestore batch`. Rule: on stderr only; a terminal shows the same facts as lines do."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs
import click

from ._output import show_duration

if TYPE_CHECKING:
    from collections.abc import Generator

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
        self.tally = tally
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
        news, self.tally.news = self.tally.news, []
        for line in news:
            self.say(line)

    def say(self, line: str) -> None:
        """Print a line."""
        click.echo(line, err=True)

    def _describe(self) -> str:
        tally = self.tally
        rate = tally.sent / tally.seconds
        left = show_duration((tally.total - tally.done) / rate) if rate else "unknown"
        return f"{tally.done} of {tally.total}, {rate:.0f}/s, {tally.troubled} not succeeded, {left} left"


@contextmanager
def open_display(tally: Tally, *, is_plain: bool) -> Generator[Display]:
    """Open the display that suits stderr."""
    if not is_plain and sys.stderr.isatty():
        from ._batch_bar import Bar  # rich takes a fifth of the time that a command takes to start
        from ._console import open_console

        if console := open_console(is_stderr=True):
            with Bar(tally, console).shown() as bar:
                yield bar
            return
    display = Display(tally)
    yield display
    display.print_news()
