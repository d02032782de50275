"""What the command prints. Rule: results go to stdout, all else to stderr, in lines that cannot move the cursor.

Also the options that several commands share.
"""

from __future__ import annotations

import json
import logging
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

if TYPE_CHECKING:
    from collections.abc import Callable

    from simplestore_async.events import Event

__all__ = [
    "CommandError",
    "as_line",
    "cache_option",
    "json_option",
    "log_to_stderr",
    "print_error",
    "print_json",
    "print_problem",
    "show_duration",
    "show_instant",
    "timeout_option",
    "warn_of_cache",
]

F = TypeVar("F", bound="Callable[..., Any]")

json_option: Final = click.option("--json", "is_json", is_flag=True, help="Print JSON, on one line, for programs.")
cache_option: Final = click.option(
    "--cache",
    "is_cached",
    is_flag=True,
    help="Share the token with other calls, in the folder that `simplestore cache path` prints; encrypted if "
    "SIMPLESTORE_CACHE_KEY or SIMPLESTORE_CACHE_KEY_FILE is set.",
)


def timeout_option(what: str, *, default: float, most: float = 86_400) -> Callable[[F], F]:
    """Return the option that says how many seconds something may take."""
    return click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True, max=most),
        default=default,
        show_default=True,
        metavar="SECONDS",
        help=f"How long {what} may take.",
    )


class CommandError(click.ClickException):
    """The command could not do what it was asked to. Exit code 1."""


def log_to_stderr(prefix: str = "") -> None:
    """Let what the package logs be seen, each line after *prefix*."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"{prefix}%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("simplestore_async")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)


def print_json(value: object) -> None:
    """Print *value* on stdout."""
    click.echo(json.dumps(value))


def print_error(error: Exception, *, is_json: bool) -> int:
    """Print *error* on stderr, as one line of words or of JSON, and return the exit code that tells its kind."""
    kind, problem, code = _describe(error)
    problem = as_line(problem)
    if is_json:
        click.echo(json.dumps({"error": {"type": kind, "message": problem, "exit_code": code}}), err=True)
    else:
        click.echo(f"simplestore: {problem}", err=True)
    return code


def print_problem(problem: str, *, line: int, is_json: bool) -> None:
    """Print what is wrong with a line of a file, on stderr, before the error that ends the command."""
    if is_json:
        click.echo(json.dumps({"problem": {"line": line, "message": problem}}), err=True)
    else:
        click.echo(f"line {line}: {as_line(problem)}", err=True)


def warn_of_cache(event: Event) -> None:
    """Say so when the cache that the user asked for does not work; a provider's listener."""
    from simplestore_async.events import CacheFailed

    if isinstance(event, CacheFailed):
        click.echo(f"simplestore: warning: {as_line(str(event))}", err=True)


def show_instant(posix_seconds: float) -> str:
    """Return the date and time in UTC, in a form that also sorts."""
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
    """Return the error's type, as far as it is documented, its message and the exit code."""
    # Before OSError, which a TokenTimeoutError is, too.
    if isinstance(error, SimpleStoreError):
        return type(error).__name__, str(error), _exit_code(error)
    if isinstance(error, click.UsageError):
        return "UsageError", error.format_message(), error.exit_code
    if isinstance(error, CommandError):
        return type(error).__name__, error.format_message(), error.exit_code
    if isinstance(error, click.ClickException):
        return "OSError", error.format_message(), 1
    problem, path = getattr(error, "strerror", None) or str(error), getattr(error, "filename", None)
    return "OSError", f"{path}: {problem}" if path else problem, 1


def _exit_code(error: SimpleStoreError) -> int:
    if isinstance(error, BatchFileError):
        return 65  # EX_DATAERR
    if isinstance(error, BatchError | BatchDatabaseError) and error.retryable:
        return 75  # EX_TEMPFAIL: the same command continues
    return 2 if isinstance(error, ConfigurationError) else 1


def as_line(text: str) -> str:
    # A server's words may be in it: they must not move the cursor or make a second line.
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
