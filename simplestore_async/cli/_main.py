"""The commands and their errors. Rule: an error is one line on stderr, and the exit code says what kind it was."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback

import attrs
import click

from simplestore_async.errors import SimpleStoreError

from ._batch import batch
from ._cache import cache
from ._completion import completion
from ._doctor import doctor
from ._output import CommandError, cache_option, json_option, log_to_stderr, print_error, print_json
from ._request import request
from ._sandbox import sandbox

__all__ = ["run"]

_EPILOG = """\
\b
Exit codes:
  0    done; for `request`: the API answered 2xx or 3xx
  1    no token, no complete answer, a check of `doctor` that failed, or another failure
  2    wrong usage or settings
  22   the API answered 4xx or 5xx
  130  interrupted
`batch` says in its own help what they mean there.

An error is one line on standard error. With --json that line is {"error": {"type", "message", "exit_code"}}; the type
is the name of a class in simplestore_async.errors, or UsageError, RequestError, StatusError, UnfinishedError,
SigintError, CommandError, OSError.
Instants in JSON are POSIX seconds. NO_COLOR is obeyed.
"""


@attrs.define
class _Settings:
    """What was said before the command."""

    is_debug: bool = False


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=False, epilog=_EPILOG)
@click.option("--debug", "is_debug", is_flag=True, help="Log to standard error, and print the traceback of an error.")
@click.version_option(package_name="simplestore-async", prog_name="simplestore", message="%(prog)s %(version)s")
@click.pass_obj
def simplestore(settings: _Settings, /, *, is_debug: bool) -> None:
    """Get access tokens for SimpleStore, use them, and see how they are kept alive."""
    settings.is_debug = is_debug
    if is_debug:
        log_to_stderr()


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
@json_option
@click.pass_obj
def demo(  # noqa: PLR0913 - an argument for each option
    settings: _Settings,
    /,
    *,
    requests: int,
    concurrency: int,
    duration: float,
    processes: int,
    plain: bool,
    is_json: bool,
) -> None:
    """Send authorised requests to a local SimpleStore while its token endpoint fails and its tokens are revoked.

    Nothing leaves this machine. The requests come from several processes, which share their token in a folder. Tokens
    live 20 seconds. The endpoint answers 503 for one second while a renewal is due; later every token is revoked and
    the endpoint fails twice more. The table at the end sets what the server saw beside what the callers saw. Runs of
    less than 30 seconds renew earlier, so that both faults have their time.

    JSON, instead of all that: processes, duration_seconds, token_lifetime_seconds, has_revoked (whether the run got as
    far as the second fault), server (token_requests, tokens_issued, failures, refusals, api_requests, unauthorized),
    callers (requests, succeeded, failed, slowest_seconds).
    """
    from ._demo import Demo, DemoError, Plan  # `simplestore token` does without a server and rich

    plan = Plan(
        requests=requests,
        concurrency=concurrency,
        duration_seconds=duration,
        processes=processes,
        is_debug=settings.is_debug,
    )
    try:
        if is_json:
            played = Demo(plan)
            asyncio.run(played.run())
            print_json(played.figures())
            problem = played.problem
        else:
            from ._display import show_demo

            # What the processes log would tear a live display apart.
            problem = asyncio.run(show_demo(plan, is_plain=plain or settings.is_debug))
    except DemoError as error:
        raise CommandError(str(error)) from error
    if problem:
        raise CommandError(problem)


@simplestore.command()
@click.option(
    "--show", is_flag=True, help="Print the token itself, too. Whoever reads it has full access to the store."
)
@click.option("--header", is_flag=True, help="Print nothing but the header that carries the token, for `curl -H @-`.")
@cache_option
@json_option
def token(*, show: bool, header: bool, is_cached: bool, is_json: bool) -> None:
    """Get a token with the credentials in the environment, and print what is known about it.

    SIMPLESTORE_CLIENT_ID, and SIMPLESTORE_CLIENT_SECRET or SIMPLESTORE_CLIENT_SECRET_FILE; if set,
    SIMPLESTORE_TOKEN_URL and SIMPLESTORE_SCOPE.

    Each call asks for a token of its own, which proves that the credentials work, lives its whole life, and is stored
    nowhere. With --cache it is stored, and calls share it until it nears its end.

    \b
    No token stands in a command line, where every user of the machine could read it, if curl reads the header:
      simplestore token --header | curl -H @- https://api.example.com/orders

    JSON: token_type, issued_at, expires_at, life_seconds (what is left), scope (a list); with --show also value.
    """  # noqa: D301 - \b is click's sign for lines that must stay lines
    if header and (show or is_json):
        raise click.UsageError("--header prints the header and nothing else: leave out --show and --json")
    from ._token import get_token, token_facts, token_lines  # completion does without aiohttp

    got = asyncio.run(get_token(is_cached=is_cached))
    if header:
        click.echo(f"Authorization: {got.authorization}")
    elif is_json:
        print_json(token_facts(got, is_shown=show))
    else:
        for line in token_lines(got, is_shown=show):
            click.echo(line)


simplestore.add_command(request)
simplestore.add_command(batch)
simplestore.add_command(cache)
simplestore.add_command(completion)
simplestore.add_command(doctor)
simplestore.add_command(sandbox)


def run() -> int:
    """Run the command with the arguments of this process, and return its exit code."""
    settings = _Settings()
    _open_closed_streams()
    try:
        simplestore.main(prog_name="simplestore", standalone_mode=False, obj=settings)
        sys.stdout.flush()
    except click.Abort:
        return 130
    except BrokenPipeError:
        return 1
    except (click.ClickException, SimpleStoreError, OSError) as error:
        if settings.is_debug:
            traceback.print_exception(error)
        # Not left to click: a wrong option is an error before any option is known.
        return print_error(error, is_json="--json" in sys.argv[1:])
    finally:
        _settle_stdout()
    return 0


def _open_closed_streams() -> None:
    """Let closed standard streams (`>&-`) lead nowhere: else the next file or socket would be taken for them."""
    for name, mode in ("stdin", "r"), ("stdout", "w"), ("stderr", "w"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - for the whole process


def _settle_stdout() -> None:
    """Drop what stdout cannot take, because its reader went away or the disk is full.

    The interpreter would try once more at its end, complain, and change the exit code.
    """
    stdout = sys.__stdout__  # around which click puts a wrapper once the reader is gone
    if stdout is None:
        return
    try:
        stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
