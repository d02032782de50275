"""The commands and their errors. Rule: an error is one line on stderr, and the exit code says what kind it was."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import click

from simplestore_async.errors import ConfigurationError, SimpleStoreError

from ._sandbox import sandbox
from ._token import token_lines

__all__ = ["run"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=False)
@click.version_option(package_name="simplestore-async", prog_name="simplestore", message="%(prog)s %(version)s")
def simplestore() -> None:
    """Get access tokens for SimpleStore, and see how they are kept alive."""


@simplestore.command()
@click.option("--requests", type=click.IntRange(min=1), default=20_000, show_default=True, help="How many to send.")
@click.option(
    "--concurrency", type=click.IntRange(min=1), default=64, show_default=True, help="How many at once, at most."
)
@click.option(
    "--duration",
    type=click.FloatRange(min=3, max=86_400),
    default=30,
    show_default=True,
    help="Seconds over which they are sent, evenly.",
)
@click.option(
    "--processes", type=click.IntRange(min=1), default=4, show_default=True, help="How many of them share one token."
)
@click.option("--plain", is_flag=True, help="Print lines instead of a live display, as when the output is no terminal.")
def demo(*, requests: int, concurrency: int, duration: float, processes: int, plain: bool) -> None:
    """Send authorised requests to a local SimpleStore while its token endpoint fails and its tokens are revoked.

    Nothing leaves this machine. The requests come from several processes, which share their token in a folder. Tokens
    live 20 seconds. The endpoint answers 503 for one second while a renewal is due;
    later every token is revoked and the endpoint fails twice more. The table at the end sets what the server saw beside
    what the callers saw. Runs of less than 30 seconds renew earlier, so that both faults have their time.
    """
    from ._demo import DemoError, Plan  # `simplestore token` does without a server and rich
    from ._display import show_demo

    plan = Plan(requests=requests, concurrency=concurrency, duration_seconds=duration, processes=processes)
    try:
        problem = asyncio.run(show_demo(plan, is_plain=plain))
    except DemoError as error:
        problem = str(error)
    if problem:
        raise click.ClickException(problem)


@simplestore.command()
@click.option(
    "--show", is_flag=True, help="Print the token itself, too. Whoever reads it has full access to the store."
)
def token(*, show: bool) -> None:
    """Get a token with the credentials in the environment, and print what is known about it.

    SIMPLESTORE_CLIENT_ID, and SIMPLESTORE_CLIENT_SECRET or SIMPLESTORE_CLIENT_SECRET_FILE; if set,
    SIMPLESTORE_TOKEN_URL and SIMPLESTORE_SCOPE.
    """
    for line in asyncio.run(token_lines(is_shown=show)):
        click.echo(line)


simplestore.add_command(sandbox)


def run() -> int:
    """Run the command with the arguments of this process, and return its exit code."""
    if sys.stdout is None:  # started with it closed
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open to the end of the process
    try:
        simplestore.main(prog_name="simplestore", standalone_mode=False)
        sys.stdout.flush()
    except click.Abort:
        return 130
    except BrokenPipeError:
        # The reader went away. The interpreter flushes once more at its end, which must not fail too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except click.ClickException as error:
        problem, code = error.format_message(), error.exit_code
    except SimpleStoreError as error:
        problem, code = str(error), 2 if isinstance(error, ConfigurationError) else 1
    except OSError as error:
        problem, code = error.strerror or str(error), 1
    else:
        return 0
    # A server's words may be in it: they must not move the cursor or make a second line.
    line = " ".join("".join(char if char.isprintable() else " " for char in problem).split())
    click.echo(f"simplestore: {line}", err=True)
    return code
