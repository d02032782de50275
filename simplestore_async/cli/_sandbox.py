"""`simplestore sandbox`. Rule: standard output is the environment and nothing else, and ends as soon as it is said."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ._output import json_option, print_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simplestore_async.sandbox import Sandbox

__all__ = ["sandbox"]

_STOP_SIGNALS: Final = signal.SIGINT, signal.SIGTERM


@click.command(epilog='In a POSIX shell: eval "$(simplestore sandbox &)"')
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=0, help="Port on 127.0.0.1; by default one that is free."
)
@click.option(
    "--lifetime", type=click.IntRange(min=1), default=3600, show_default=True, help="Seconds that a token lives."
)
@click.option(
    "--latency",
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    help="Seconds by which the token endpoint's replies are late.",
)
@click.option("--client", "client_id", metavar="ID", help="The client that gets tokens, if not the sandbox's own.")
@click.option(
    "--secret-file",
    metavar="FILE",
    help="A file with the client's secret, read once, if not the sandbox's own; the environment names the file.",
)
@json_option
def sandbox(  # noqa: PLR0913 - the options, one by one
    *, port: int, lifetime: int, latency: float, client_id: str | None, secret_file: str | None, is_json: bool
) -> None:
    """Serve a local SimpleStore until Ctrl-C or SIGTERM, and print the environment that leads to it.

    Nothing leaves this machine. The token endpoint is the documented one, and the API echoes every authorised request.
    What is printed is for a POSIX shell to evaluate, as below: then the sandbox goes on in the background. Its process
    is named on standard error; `kill` stops it.

    JSON: each variable with its value.
    """
    from simplestore_async import SecretFile
    from simplestore_async.sandbox import Sandbox  # `simplestore token` does without a server

    client: dict[str, Any] = {} if client_id is None else {"client_id": client_id}
    # An empty variable counts as unset: one that was set before must not fight with the other.
    secret = {"SIMPLESTORE_CLIENT_SECRET_FILE": ""}
    if secret_file is not None:
        client["client_secret"] = SecretFile(secret_file)()
        secret = {"SIMPLESTORE_CLIENT_SECRET": "", "SIMPLESTORE_CLIENT_SECRET_FILE": str(Path(secret_file).absolute())}
    server = Sandbox(port=port, lifetime_seconds=lifetime, latency_seconds=latency, **client)
    asyncio.run(_serve(server, secret=secret, is_json=is_json))


async def _serve(server: Sandbox, *, secret: Mapping[str, str], is_json: bool) -> None:
    is_stopped = asyncio.Event()
    _stop_by_signals(is_stopped)
    async with server:
        _print_environment(server.environment | dict(secret), is_json=is_json)
        click.echo(f"Serving {server.base_url} until Ctrl-C or SIGTERM (process {os.getpid()}).", err=True)
        await is_stopped.wait()


def _stop_by_signals(is_stopped: asyncio.Event) -> None:
    """Let either signal set the event. Not by the loop's own method, which Windows does not have."""
    loop = asyncio.get_running_loop()

    def stop(*_: object) -> None:
        # A second one must not meet a loop that is closed.
        for number in _STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        loop.call_soon_threadsafe(is_stopped.set)

    for number in _STOP_SIGNALS:
        signal.signal(number, stop)


def _print_environment(environment: Mapping[str, str], *, is_json: bool) -> None:
    """Print it all, and let the reader see its end: a shell's `$(…)` waits for that."""
    if is_json:
        print_json(dict(environment))
    else:
        click.echo("\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment.items()))
    sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
