"""Display of `simplestore demo`. Rule: it only reads the demo; one coroutine writes all output."""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

from rich.box import ASCII, ROUNDED, Box
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ._console import RateColumn, open_console, show_trouble
from ._demo_run import LIFETIME_SECONDS, Demo

if TYPE_CHECKING:
    from ._demo_run import Plan

__all__ = ["show_demo"]

_REFRESH_SECONDS: Final = 0.1
_NEWS_SHOWN: Final = 12
_PLAIN_STEPS: Final = 10
_START_SANDBOX: Final = (
    "simplestore sandbox           # in another terminal; set the variables it prints"
    if os.name == "nt"
    else 'eval "$(simplestore sandbox &)"'
)
_NEXT_STEPS: Final = f"""
Next, a local SimpleStore for your own shell:
  {_START_SANDBOX}
  simplestore token
  simplestore request GET orders/42
"""


async def show_demo(plan: Plan, *, is_plain: bool) -> str:
    """Run the demo and show it on stdout; return why it failed, or nothing if no request did.

    Args:
        plan: the requests to send.
        is_plain: print lines of text, as for a stdout that is not a capable terminal.
    """
    console = None if is_plain else open_console()
    if console is None:
        is_plain = True
        # Fixed, and independent of COLUMNS: in a log no number may be cut off.
        console = Console(highlight=False, color_system=None, force_terminal=False, width=80)
    demo = Demo(plan)
    running = asyncio.create_task(demo.run())
    try:
        with ExitStack() as stack:
            display = _Lines(console, demo) if is_plain else stack.enter_context(_LiveDisplay(console, demo))
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
        console.print("The run ended before the second fault; give it more requests.")
    if not demo.problem:
        console.print(_NEXT_STEPS.rstrip(), markup=False, highlight=False, soft_wrap=True)
    return demo.problem


def _table(demo: Demo, *, box: Box) -> Table:
    server, caller = demo.sandbox.counters, demo.caller
    table = Table(
        title=f"{caller.done} requests in {demo.elapsed_seconds:.1f} s ({demo.rate:.0f}/s), "
        f"tokens live {LIFETIME_SECONDS} s",
        title_justify="left",
        box=box,
    )
    # A narrow terminal wraps the names, never the numbers.
    for name in ("What the server saw", "What the callers saw"):
        table.add_column(name)
        table.add_column(justify="right", no_wrap=True)
    table.add_row("token requests", str(server.token_requests), "requests", str(caller.done))
    table.add_row("- token issued", str(server.tokens_issued), "- succeeded", str(caller.succeeded))
    table.add_row("- failed with 503", str(server.failures), "- failed", str(caller.failed))
    table.add_row("- refused", str(server.refusals), "slowest", f"{caller.slowest_seconds * 1000:.0f} ms")
    table.add_row("API requests", str(server.api_requests), "processes", str(demo.plan.processes))
    table.add_row("- rejected (401)", str(server.unauthorized), "", "")
    return table


class _LiveDisplay:
    """A progress bar, and the latest news below it."""

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
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._live.stop()

    def update(self) -> None:
        """Draw the current state."""
        caller = self._demo.caller
        failed = show_trouble(caller.failed, "failed")
        self._progress.update(self._task, completed=caller.done, succeeded=caller.succeeded, failed=failed)
        news = [Text(f"{at:6.1f} s  {text}", style="dim") for at, text in self._demo.news[-_NEWS_SHOWN:]]
        if news:
            news[-1].style = "bold"
        self._live.update(Group(self._progress, *news), refresh=True)


class _Lines:
    """A line for each event, and one for every tenth of the requests."""

    def __init__(self, console: Console, demo: Demo) -> None:
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
        steps = demo.caller.done * _PLAIN_STEPS // demo.plan.requests
        if steps > self._steps:
            self._steps = steps
            seconds = demo.elapsed_seconds
            done = f"{demo.caller.done} of {demo.plan.requests} requests"
            self._print(seconds, f"{done}, {demo.rate:.0f}/s, {demo.caller.failed} failed")

    def _print(self, at: float, text: str) -> None:
        self._console.print(f"{at:6.1f} s  {text}", markup=False, soft_wrap=True)
