"""Display of `simplestore demo`. Rule: it only reads the demo; one coroutine writes all output."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from rich.box import ASCII, ROUNDED, Box
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ._console import RateColumn, open_console, show_trouble
from ._demo_run import LIFETIME_SECONDS, Demo
from ._output import as_command

__all__ = ["show_demo"]

_REFRESH_SECONDS: Final = 0.1
_NEWS_SHOWN: Final = 12
_PLAIN_STEPS: Final = 10
_START_SANDBOX: Final = (
    "{command} sandbox           # in another window of PowerShell; paste here what it prints"
    if os.name == "nt"
    else 'eval "$({command} sandbox &)"'
)
_NEXT_STEPS: Final = f"""
Next, a local SimpleStore for your own shell:
  {_START_SANDBOX}
  {{command}} token
  {{command}} request GET orders/42"""


async def show_demo(demo: Demo, *, is_plain: bool) -> None:
    """Run the demo and show it on stdout.

    Args:
        demo: the demo, which has not run yet.
        is_plain: print lines of text, as for a stdout that is not a capable terminal.
    """
    console = None if is_plain else open_console()
    if console is None:
        is_plain = True
        # Fixed, and independent of COLUMNS: in a log no number may be cut off.
        console = Console(highlight=False, color_system=None, force_terminal=False, width=80)
    running = asyncio.create_task(demo.run())
    try:
        display = _Lines(console, demo) if is_plain else _LiveDisplay(console, demo)
        with display.live:
            while not running.done():
                await asyncio.wait({running}, timeout=_REFRESH_SECONDS)
                display.update()
    finally:
        # A closed pipe or Ctrl-C ends the display, and the demo with it.
        running.cancel()
        await asyncio.wait({running})
    await running
    console.print(_table(demo, box=ASCII if is_plain else ROUNDED))
    if not demo.has_revoked:
        console.print("The run ended before the second fault; raise --requests.")
    if not demo.problem:
        console.print(_NEXT_STEPS.format(command=_own_command()), markup=False, highlight=False, soft_wrap=True)


def _own_command() -> str:
    """Return how this command was started, for a shell: its name if that is on PATH, else its path."""
    script = Path(sys.argv[0])
    if script.stem != "simplestore":
        words = [sys.executable, "-m", "simplestore_async.cli"]
    elif Path(shutil.which("simplestore") or "").absolute().with_suffix("") == script.absolute().with_suffix(""):
        words = ["simplestore"]
    else:
        words = [str(script)]
    return as_command(words)


def _table(demo: Demo, *, box: Box) -> Table:
    server, callers = demo.sandbox.counters, demo.callers
    table = Table(
        title=f"{callers.done} requests in {demo.elapsed_seconds:.1f} s ({demo.rate:.0f}/s), "
        f"tokens live {LIFETIME_SECONDS} s",
        title_justify="left",
        box=box,
    )
    # A narrow terminal wraps the names, never the numbers.
    for name in ("Server", "Callers"):
        table.add_column(name)
        table.add_column(justify="right", no_wrap=True)
    table.add_row("token requests", str(server.token_requests), "requests", str(callers.done))
    table.add_row("- token issued", str(server.tokens_issued), "- succeeded", str(callers.succeeded))
    table.add_row("- failed with 503", str(server.failures), "- failed", str(callers.failed))
    table.add_row("- refused", str(server.refusals), "slowest", f"{callers.slowest_seconds * 1000:.0f} ms")
    table.add_row("API requests", str(server.api_requests), "processes", str(demo.plan.processes))
    table.add_row("- rejected (401)", str(server.unauthorized), "", "")
    return table


class _LiveDisplay:
    """A progress bar, and the latest news below it, while the context `live` is entered."""

    def __init__(self, console: Console, demo: Demo) -> None:
        self._demo = demo
        self._progress = Progress(
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            RateColumn(),
            TextColumn("[green]{task.fields[succeeded]} succeeded[/]  {task.fields[failed]}"),
            TimeElapsedColumn(),
            console=console,
            expand=True,
            speed_estimate_period=2,
        )
        failed = show_trouble(0, "failed")
        self._task = self._progress.add_task("", total=demo.plan.requests, succeeded=0, failed=failed)
        # Refreshed by hand: another thread would compete with the event loop.
        self.live = Live(console=console, auto_refresh=False, transient=False)

    def update(self) -> None:
        """Draw the current state."""
        callers = self._demo.callers
        failed = show_trouble(callers.failed, "failed")
        self._progress.update(self._task, completed=callers.done, succeeded=callers.succeeded, failed=failed)
        news = [Text(f"{at:6.1f} s  {text}", style="dim") for at, text in self._demo.news[-_NEWS_SHOWN:]]
        if news:
            news[-1].style = "bold"
        self.live.update(Group(self._progress, *news), refresh=True)


class _Lines:
    """A line for each event, and one for every tenth of the requests."""

    def __init__(self, console: Console, demo: Demo) -> None:
        self.live = nullcontext()
        self._console = console
        self._demo = demo
        self._printed = 0
        self._steps = 0

    def update(self) -> None:
        """Print new lines."""
        demo = self._demo
        for at, text in demo.news[self._printed :]:
            self._print(at, text)
        self._printed = len(demo.news)
        callers = demo.callers
        steps = callers.done * _PLAIN_STEPS // demo.plan.requests
        if steps > self._steps:
            self._steps = steps
            done = f"{callers.done} of {demo.plan.requests} requests"
            self._print(demo.elapsed_seconds, f"{done}, {demo.rate:.0f}/s, {callers.failed} failed")

    def _print(self, at: float, text: str) -> None:
        self._console.print(f"{at:6.1f} s  {text}", markup=False, soft_wrap=True)
