"""`simplestore sandbox`. Rule: standard output is the environment and nothing else, and is closed after it."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ._output import as_line, json_option, number_option, print_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simplestore_async.sandbox import Sandbox

__all__ = ["sandbox"]

_HELP: Final = """\
Serve a local SimpleStore and print its environment.

Nothing leaves this machine. The token endpoint behaves as documented; the API echoes every authorised request. A POSIX
shell evaluates the output:

\b
  eval "$(simplestore sandbox &)"

The sandbox then runs in the background until the terminal is closed, or until `kill` with the process number that is
on standard error; Ctrl-C does not reach it. In the foreground Ctrl-C ends it. On Windows the output is for PowerShell:
paste it into a second window.

JSON: each variable with its value.
"""
_WATCH_SECONDS: Final = 1.0


@click.command(help=_HELP)
@number_option("--port", click.IntRange(0, 65_535), default=0, help_="Port on 127.0.0.1; 0 for any free one.")
@number_option("--lifetime", click.IntRange(min=1), default=3600, unit="SECONDS", help_="Lifetime of tokens.")
@number_option(
    "--latency", click.FloatRange(min=0), default=0, unit="SECONDS", help_="Delay of the token endpoint's responses."
)
@click.option("--client", "client_id", default="sandbox-client", show_default=True, metavar="ID", help="Client id.")
@click.option("--secret-file", metavar="FILE", help="File with the client secret, in place of the sandbox's own.")
@json_option
def sandbox(*, lifetime: int, latency: float, secret_file: str | None, is_json: bool, **options: Any) -> None:
    from simplestore_async import SecretFile
    from simplestore_async.sandbox import Sandbox  # the other commands need no server

    # An empty variable counts as unset: a file named earlier must not conflict with the secret.
    secret = {"SIMPLESTORE_CLIENT_SECRET_FILE": ""}
    if secret_file is not None:
        options["client_secret"] = SecretFile(secret_file)()
        secret = {"SIMPLESTORE_CLIENT_SECRET": "", "SIMPLESTORE_CLIENT_SECRET_FILE": str(Path(secret_file).absolute())}
    server = Sandbox(lifetime_seconds=lifetime, latency_seconds=latency, **options)
    asyncio.run(_serve(server, secret=secret, is_json=is_json))


async def _serve(server: Sandbox, *, secret: Mapping[str, str], is_json: bool) -> None:
    is_stopped = asyncio.Event()
    is_background = _is_background()
    # Before the environment is printed: until then the shell is waiting, and cannot have ended.
    shell = _find_shell() if is_background else None
    _stop_by_signals(is_stopped)
    async with server:
        _print_environment(server.environment | dict(secret), is_json=is_json)
        end = f"with: kill {os.getpid()}" if is_background else "with Ctrl-C"
        click.echo(f"Serving {server.base_url} (process {os.getpid()}); stop it {end}", err=True)
        watching = asyncio.create_task(_stop_with_shell(shell, is_stopped)) if shell else None
        await is_stopped.wait()
        if watching is not None:
            watching.cancel()


def _is_background() -> bool:
    """Return whether this is a background process; inside `$(…)` also leave the process group that Ctrl-C goes to.

    That is the group of the shell, whose prompt is used meanwhile. A shell that runs a script starts processes with
    `&` with SIGINT ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return True
    if sys.platform == "win32" or sys.stdout.isatty() or os.getpgrp() == os.getpid():
        return False
    with suppress(OSError):
        os.setpgid(0, 0)
    return True


def _stop_by_signals(is_stopped: asyncio.Event) -> None:
    """Set the event on a signal. Not by the loop's own method, which Windows does not have."""
    loop = asyncio.get_running_loop()
    known = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]
    numbers = [each for each in known if signal.getsignal(each) is not signal.SIG_IGN]

    def stop(*_: object) -> None:
        # A second one must not meet a closed loop.
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        loop.call_soon_threadsafe(is_stopped.set)

    for number in numbers:
        signal.signal(number, stop)


def _find_shell() -> int | None:
    """Return the process id of the terminal's shell; None with `nohup`, or without a terminal."""
    if sys.platform == "win32" or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return None
    with suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
        return os.getsid(0)
    return None


async def _stop_with_shell(shell: int, is_stopped: asyncio.Event) -> None:
    """Set the event when the shell has ended: the hangup of its terminal does not reach a background process group."""
    with suppress(ProcessLookupError):
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            with suppress(PermissionError):
                os.kill(shell, 0)
    is_stopped.set()


def _print_environment(environment: Mapping[str, str], *, is_json: bool) -> None:
    """Print the environment, then close stdout, whose end a shell's `$(…)` waits for."""
    if is_json:
        print_json(dict(environment))
    else:
        lines = [_as_assignment(name, value) for name, value in environment.items()]
        click.echo("\n".join(map(as_line, lines) if sys.stdout.isatty() else lines))
    sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _as_assignment(name: str, value: str) -> str:
    """Return the line that sets a variable in a POSIX shell; on Windows, in PowerShell."""
    if os.name == "nt":
        doubled = re.sub("['\u2018-\u201b]", r"\g<0>\g<0>", value)  # PowerShell takes typographic quotes for '
        return f"$env:{name} = '{doubled}'"
    return f"export {name}={shlex.quote(value)}"
