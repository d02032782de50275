"""How the checklist looks. Rule: a state is a word, whatever sign and colour it has besides."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Final, Protocol

import click
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from simplestore_async.cli._console import open_console

from ._check import Check, Outcome, State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

__all__ = ["Report", "facts_of", "open_report"]

_WIDTH: Final = max(map(len, State))
_NAME_WIDTH: Final = 15


class Report(Protocol):
    """What tells of outcomes as they come, and in the end of all of them."""

    def show(self, check: Check, outcome: Outcome, /) -> None: ...

    def sum_up(self, outcomes: Iterable[Outcome], /) -> None: ...


def open_report(*, is_silent: bool) -> Report:
    """Return the report that suits stdout; with *is_silent* one that tells nothing."""
    if is_silent:
        return _Silence()
    console = open_console()
    return _Lines() if console is None else _Table(console)


def facts_of(check: Check, outcome: Outcome) -> dict[str, object]:
    """Return what is known, for programs."""
    return {
        "subject": check.subject,
        "name": check.name,
        "state": outcome.state,
        "finding": outcome.finding,
        "advice": outcome.advice,
        "facts": dict(outcome.facts),
    }


def _sum_up(outcomes: Iterable[Outcome]) -> str:
    counts = Counter(outcome.state for outcome in outcomes)
    told = (f"{counts[state]} {state}" for state in State if counts[state])
    return f"{counts.total()} checks: {', '.join(told)}"


class _Silence:
    def show(self, _check: Check, _outcome: Outcome, /) -> None:
        pass

    def sum_up(self, _outcomes: Iterable[Outcome], /) -> None:
        pass


class _Lines:
    """A line for each outcome, whole by itself, and one for what to do."""

    def show(self, check: Check, outcome: Outcome, /) -> None:
        _print(f"{outcome.state:<{_WIDTH}}  {check.subject}: {check.name}: {outcome.finding}")
        if outcome.advice:
            _print(f"{'':<{_WIDTH}}  -> {outcome.advice}")

    def sum_up(self, outcomes: Iterable[Outcome], /) -> None:
        _print(_sum_up(outcomes))


def _print(text: str) -> None:
    # A locale of ASCII must not end the checklist.
    encoding = sys.stdout.encoding
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding))


class _Table:
    """A part for each subject, in a terminal, whose width is filled."""

    _LOOKS: Final = {
        State.OK: ("✓", "green"),
        State.WARNING: ("!", "yellow"),
        State.FAILED: ("✗", "bold red"),
        State.SKIPPED: ("-", "dim"),
    }

    def __init__(self, console: Console) -> None:
        self._console = console
        self._subject = ""

    def show(self, check: Check, outcome: Outcome, /) -> None:
        if check.subject != self._subject:
            self._subject = check.subject
            self._console.print(Text(check.subject, style="bold"))
        sign, style = self._LOOKS[outcome.state]
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(width=_WIDTH + 2)
        grid.add_column(width=_NAME_WIDTH)
        grid.add_column(overflow="fold")
        grid.add_row(Text(f"{sign} {outcome.state}", style=style), check.name, Text(outcome.finding))
        if outcome.advice:
            grid.add_row("", "", Text(f"→ {outcome.advice}", style="bold"))
        self._console.print(Padding(grid, (0, 0, 0, 2)))

    def sum_up(self, outcomes: Iterable[Outcome], /) -> None:
        self._console.print(_sum_up(outcomes))
