"""The report of the checks. Rule: a state is a word; sign and colour only repeat it."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import attrs
import click
from rich.console import Console

from simplestore_async.cli._console import open_console

from ._check import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._check import Check, Result

__all__ = ["Report", "facts_of"]

_WIDTH: Final = max(map(len, State))
_SIGNS: Final = {State.OK: "✓", State.WARNING: "!", State.FAILED: "✗", State.SKIPPED: "-"}
_COLORS: Final = {State.OK: "green", State.WARNING: "yellow", State.FAILED: "red", State.SKIPPED: None}


def facts_of(check: Check, result: Result) -> dict[str, Any]:
    """Return the result for `--json`."""
    shown = attrs.asdict(result, recurse=False, filter=attrs.filters.exclude("is_blocking"))
    return {"subject": check.subject, "name": check.name} | shown


@attrs.define
class Report:
    """Results as they arrive, grouped by subject, and a summary.

    Checks of a subject that passed are folded into one line, and so are those skipped for the same reason.

    Attributes:
        is_verbose: whether each of these has its own line.
    """

    is_verbose: bool
    _console: Console | None = attrs.field(init=False, factory=open_console)
    _subject: str = attrs.field(init=False, default="")
    _folded: dict[tuple[State, str], list[str]] = attrs.field(init=False, factory=dict[tuple[State, str], list[str]])

    def show(self, check: Check, result: Result) -> None:
        """Print a result, or fold it."""
        if check.subject != self._subject:
            self._print_folded()
            self._subject = check.subject
            if self._console:
                click.echo(self._style(check.subject, bold=True))
        is_foldable = result.state is State.OK or (result.state is State.SKIPPED and not result.advice)
        if is_foldable and not self.is_verbose:
            reason = "" if result.state is State.OK else f": {result.finding}"
            self._folded.setdefault((result.state, reason), []).append(check.name)
        else:
            self._print(result.state, f"{self._prefix}{check.name}: {result.finding}", result.advice)

    def sum_up(self, results: Mapping[Check, Result]) -> None:
        """Print the failures again, then the counts."""
        self._print_folded()
        failures = {check: result for check, result in results.items() if result.state is State.FAILED}
        if failures:
            _echo("")
            _echo("Failures:")
        for check, result in failures.items():
            self._print(State.FAILED, f"{check}: {result.finding}", result.advice)
        counts = Counter(result.state for result in results.values())
        parts = [f"{counts[state]} {state}" for state in State if counts[state]]
        if self._console or failures:
            _echo("")
        _echo(f"{counts.total()} checks: {', '.join(parts)}{'' if self.is_verbose else ' (--verbose for details)'}")

    @property
    def _prefix(self) -> str:
        """The subject, which is a heading on a terminal."""
        return "" if self._console else f"{self._subject}: "

    def _print_folded(self) -> None:
        for (state, reason), names in self._folded.items():
            self._print(state, f"{self._prefix}{', '.join(names)}{reason}", "")
        self._folded.clear()

    def _print(self, state: State, text: str, advice: str) -> None:
        """Print a result: wrapped on a terminal, else whole on one line."""
        if self._console is None:
            _echo(f"{state:<{_WIDTH}}  {text}")
            if advice:
                _echo(f"{'':<{_WIDTH}}  -> {advice}")
            return
        indent = " " * (_WIDTH + 6)
        label = self._style(f"{_SIGNS[state]} {state:<{_WIDTH}}", fg=_COLORS[state], bold=state is State.FAILED)
        for number, line in enumerate(_wrap(text, indent=len(indent))):
            click.echo(f"{indent}{line}" if number else f"  {label}  {line}")
        for number, line in enumerate(_wrap(advice, indent=len(indent) + 2)):
            click.echo(indent + self._style(f"{'  ' if number else '→ '}{line}", bold=True))

    def _style(self, text: str, *, fg: str | None = None, bold: bool) -> str:
        has_style = self._console is not None and not self._console.no_color
        return click.style(text, fg=fg, bold=bold or None) if has_style else text


def _wrap(text: str, *, indent: int) -> list[str]:
    # A long path or URL stays whole, so that it can be copied.
    width = max(shutil.get_terminal_size().columns - indent, 20)
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _echo(text: str) -> None:
    # A locale of ASCII must not end the report.
    encoding = sys.stdout.encoding
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding))
