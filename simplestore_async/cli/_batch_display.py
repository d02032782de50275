"""Progress of `simplestore batch`. Rule: on stderr only; a terminal shows the same facts as lines do."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Final

import click

from ._output import show_duration

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rich.progress import Progress

    from simplestore_async.batch import BatchDatabase, BatchPolicy, BatchResult

__all__ = ["Display"]

_REFRESH_SECONDS: Final = 0.1
_PLAIN_SECONDS: Final = 10.0


class Display:
    """Count the results of a run; show a bar on a terminal, else a line from time to time.

    Attributes:
        sent: number of results of this run.
    """

    def __init__(self, database: BatchDatabase, policy: BatchPolicy) -> None:
        counts = database.summary().counts
        self.sent = 0
        self._total = database.requests.count or 0
        self._done = sum(count for outcome, count in counts.items() if outcome not in policy.resend)
        self._troubled = self._done - counts["succeeded"]
        self._began_at = self._printed_at = time.monotonic()
        self._bar: Progress | None = None

    @property
    def seconds(self) -> float:
        """Duration of this run."""
        return time.monotonic() - self._began_at

    def count(self, result: BatchResult) -> None:
        """Add a result."""
        self.sent += 1
        self._done = min(self._done + 1, self._total)
        self._troubled += result.outcome != "succeeded"

    def pause(self, reason: str, seconds: float) -> None:
        """Report that the whole batch waits."""
        self.say(f"waiting {seconds:.3g} s: {reason}")

    def say(self, line: str) -> None:
        """Print a line, above the bar."""
        if self._bar:
            self._bar.console.print(line, markup=False, emoji=False)
        else:
            click.echo(line, err=True)

    @asynccontextmanager
    async def shown(self, *, is_plain: bool) -> AsyncGenerator[None]:
        """Show the progress meanwhile; a bar stays with its last state."""
        self._bar = None if is_plain else _open_bar(self._total)
        with self._bar or nullcontext():
            refreshing = asyncio.create_task(self._refresh())
            try:
                yield
            finally:
                refreshing.cancel()
                await asyncio.wait({refreshing})
                self._update_bar()

    async def _refresh(self) -> None:
        while True:
            self._update_bar()
            await asyncio.sleep(_REFRESH_SECONDS)
            if self._bar is None and time.monotonic() - self._printed_at >= _PLAIN_SECONDS:
                self._printed_at = time.monotonic()
                rate = self.sent / self.seconds
                left = show_duration((self._total - self._done) / rate) if rate else "unknown"
                self.say(f"{self._done} of {self._total}, {rate:.0f}/s, {self._troubled} unsuccessful, {left} left")

    def _update_bar(self) -> None:
        if self._bar:
            from ._console import show_trouble

            troubled = show_trouble(self._troubled, "unsuccessful")
            self._bar.update(self._bar.task_ids[0], completed=self._done, troubled=troubled, refresh=True)


def _open_bar(total: int) -> Progress | None:
    """Return a progress bar if stderr is a capable terminal."""
    if not sys.stderr.isatty():
        return None
    # rich takes a fifth of the time that a command takes to start.
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ._console import RateColumn, open_console

    console = open_console(is_stderr=True)
    if console is None:
        return None
    bar = Progress(
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        RateColumn(),
        TextColumn("{task.fields[troubled]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        expand=True,
        auto_refresh=False,  # another thread would compete with the event loop
    )
    bar.add_task("", total=total, troubled="")
    return bar
