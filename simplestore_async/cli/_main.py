"""The group of commands, and their errors. Rule: an error is one line on stderr; the exit code is its kind."""

from __future__ import annotations

import os
import sys

import click

from simplestore_async import __version__
from simplestore_async.errors import SimpleStoreError

from ._batch import batch
from ._cache import cache
from ._completion import completion
from ._demo import demo
from ._doctor import doctor
from ._output import debug_option, has_flag, is_closed_pipe, log_to_stderr, print_error, print_traceback
from ._request import request
from ._sandbox import sandbox
from ._token import token

__all__ = ["run"]

_HELP = """\
Obtain, use and inspect SimpleStore access tokens.

New here? `simplestore demo` needs no account. With credentials in the environment, start with `simplestore doctor`.
"""

_EPILOG = """\
\b
Exit codes:
  0    done; for `request`: the API responded 2xx or 3xx
  1    no token, no complete response, a failed check of `doctor`,
       or another failure
  2    wrong usage or settings
  22   the API responded 4xx or 5xx
  130  interrupted
The help of `batch` has its own table.

\b
An error is one line on standard error. With --json that line is
  {"error": {"type", "message", "exit_code"}}
The type is the name of a class in simplestore_async.errors, or UsageError,
RequestError, StatusError, UnfinishedError, SigintError,
CommandError, OSError. Instants in JSON are POSIX seconds.
"""


@click.group(
    help=_HELP,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@debug_option
@click.version_option(__version__, message="simplestore %(version)s")
@click.pass_context
def simplestore(context: click.Context, /) -> None:
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (token, request, batch, doctor, cache, sandbox, demo, completion):
    simplestore.add_command(_command)


def run() -> int:
    """Run the command with the arguments of this process; return its exit code."""
    _open_closed_streams()
    if has_flag("--debug"):
        log_to_stderr()
    try:
        simplestore.main(prog_name="simplestore", standalone_mode=False)
        sys.stdout.flush()
    except click.Abort:
        return 130
    except (click.ClickException, SimpleStoreError, OSError) as error:
        if is_closed_pipe(error):
            return 1
        if has_flag("--debug"):
            print_traceback(error)
        return print_error(error, is_json=has_flag("--json"))
    finally:
        _settle_stdout()
    return 0


def _open_closed_streams() -> None:
    """Open closed standard streams (`>&-`) on the null device: a file or socket would take their number."""
    for name, mode in ("stdin", "r"), ("stdout", "w"), ("stderr", "w"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))


def _settle_stdout() -> None:
    """Drop output that stdout cannot take, because its reader has gone or the disk is full.

    The interpreter would try again at exit, complain, and change the exit code.
    """
    stdout = sys.__stdout__  # click wraps it once the reader has gone
    if stdout is None:
        return
    try:
        stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
