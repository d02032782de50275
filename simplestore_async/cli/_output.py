"""Output and options that all commands share. Rule: results go to stdout, everything else to stderr, line by line."""

from __future__ import annotations

import errno
import json
import logging
import os
import shlex
import subprocess
import sys
import traceback
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from simplestore_async.errors import (
    BatchDatabaseError,
    BatchError,
    BatchFileError,
    ConfigurationError,
    SimpleStoreError,
)

from ._text import as_line, as_text, hidden_values, hide

if TYPE_CHECKING:
    from collections.abc import Callable

    from simplestore_async.events import Event

__all__ = [
    "CommandError",
    "as_command",
    "as_line",
    "cache_option",
    "debug_option",
    "has_flag",
    "is_closed_pipe",
    "json_option",
    "log_to_stderr",
    "number_option",
    "print_error",
    "print_json",
    "print_problem",
    "print_traceback",
    "show_duration",
    "show_instant",
    "timeout_option",
    "warn_of_cache",
]

F = TypeVar("F", bound="Callable[..., Any]")


debug_option: Final = click.option(
    "--debug", is_flag=True, expose_value=False, help="Log to standard error; print tracebacks of errors."
)


def has_flag(name: str) -> bool:
    """Return whether the command line has a flag, at any place. click parses no flag next to a wrong option."""
    return name in sys.argv[1:]


def json_option(command: F) -> F:
    """Add `--json`, and `--debug`, which every command has."""
    add_json = click.option("--json", "is_json", is_flag=True, help="Print JSON, on one line.")
    return add_json(debug_option(command))


cache_option: Final = click.option(
    "--cache",
    "is_cached",
    is_flag=True,
    help="Share the token with other runs: in Redis if SIMPLESTORE_REDIS_URL is set, else in the directory that "
    "`simplestore cache path` prints. SIMPLESTORE_CACHE_KEY or SIMPLESTORE_CACHE_KEY_FILE encrypts it.",
)


def number_option(
    name: str, range_: click.IntRange | click.FloatRange, *, default: float, unit: str = "N", help_: str
) -> Callable[[F], F]:
    """Return the option for a number with a default, shown as *unit* in the usage."""
    return click.option(name, type=range_, default=default, show_default=True, metavar=unit, help=help_)


def timeout_option(what: str, *, default: float, most: float = 86_400) -> Callable[[F], F]:
    """Return the option for a time limit."""
    range_ = click.FloatRange(min=0, min_open=True, max=most)
    return number_option("--timeout", range_, default=default, unit="SECONDS", help_=f"Time limit of {what}.")


class CommandError(click.ClickException):
    """The command failed. Exit code 1."""


class _LineFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return as_text(super().format(record))


def log_to_stderr(prefix: str = "") -> None:
    """Log the package's records to stderr, each after *prefix*."""
    handler = logging.StreamHandler()
    handler.setFormatter(_LineFormatter(f"{prefix}%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("simplestore_async")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)


def as_command(words: list[str]) -> str:
    """Return *words* as a line for the platform's shell."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def is_closed_pipe(error: Exception) -> bool:
    """Return whether *error* is that of output whose reader has gone."""
    if sys.platform == "win32" and isinstance(error, OSError) and error.errno == errno.EINVAL:
        # A write that fails has neither a file name nor Windows' own number (python/cpython#79935).
        return error.filename is None and error.winerror is None
    return isinstance(error, BrokenPipeError)


def print_json(value: object) -> None:
    """Print *value* on stdout; JSON escapes all but ASCII."""
    click.echo(json.dumps(value))


def print_error(error: Exception, *, is_json: bool) -> int:
    """Print *error* on stderr, as one line of text or JSON; return the exit code."""
    kind, message, code = _describe(error)
    message = as_line(hide(message, hidden_values(os.environ)))
    if is_json:
        click.echo(json.dumps({"error": {"type": kind, "message": message, "exit_code": code}}), err=True)
    else:
        click.echo(f"simplestore: {message}", err=True)
    return code


def print_traceback(error: Exception) -> None:
    """Print the traceback of *error* on stderr."""
    text = "".join(traceback.format_exception(error))
    click.echo(as_text(hide(text, hidden_values(os.environ))), err=True, nl=False)


def print_problem(problem: str, *, line: int, is_json: bool) -> None:
    """Print the problem of a line of a file, on stderr."""
    if is_json:
        click.echo(json.dumps({"problem": {"line": line, "message": problem}}), err=True)
    else:
        click.echo(f"line {line}: {as_line(problem)}", err=True)


def warn_of_cache(event: Event) -> None:
    """Print a warning if the cache of `--cache` fails; an event listener."""
    from simplestore_async.events import CacheFailed

    if isinstance(event, CacheFailed):
        click.echo(f"simplestore: warning: {as_line(str(event))}", err=True)


def show_instant(posix_seconds: float) -> str:
    """Return date and time in UTC, in a form that also sorts."""
    try:
        return datetime.fromtimestamp(posix_seconds, UTC).isoformat(sep=" ", timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return "beyond any calendar"  # a cached token may claim anything


def show_duration(seconds: float) -> str:
    """Return *seconds*, rounded down, as hours, minutes and seconds."""
    try:
        return str(timedelta(seconds=int(seconds)))
    except OverflowError:
        return "for ever"


def _describe(error: Exception) -> tuple[str, str, int]:
    """Return the documented type of the error, its message and the exit code."""
    # Before OSError, because a TokenTimeoutError is also one.
    if isinstance(error, SimpleStoreError):
        return type(error).__name__, str(error), _exit_code(error)
    if isinstance(error, click.UsageError):
        return "UsageError", error.format_message(), error.exit_code
    if isinstance(error, CommandError):
        return type(error).__name__, error.format_message(), error.exit_code
    if isinstance(error, click.FileError):
        return "OSError", f"{error.ui_filename}: {error.message}", 1
    problem, path = getattr(error, "strerror", None) or str(error), getattr(error, "filename", None)
    return "OSError", f"{os.fsdecode(path)}: {problem}" if isinstance(path, str | bytes) else problem, 1


def _exit_code(error: SimpleStoreError) -> int:
    if isinstance(error, BatchFileError):
        return 65  # EX_DATAERR
    if isinstance(error, BatchError | BatchDatabaseError) and error.retryable:
        return 75  # EX_TEMPFAIL: the same command continues
    return 2 if isinstance(error, ConfigurationError) else 1
