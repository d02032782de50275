"""`simplestore demo`."""

from __future__ import annotations

import asyncio

import click

from ._output import CommandError, has_flag, json_option, number_option, print_json

__all__ = ["demo"]

_HELP = """\
Run a local demo with outages and revoked tokens.

Nothing leaves this machine. Several processes send authorised requests to a local SimpleStore and share their token
in a directory. Tokens live 20 seconds. The token endpoint responds 503 for one second while a renewal is due; later
every token is revoked and the endpoint fails twice more. The final table compares the counts of the server with those
of the callers. Runs of less than 30 seconds renew earlier, so that both faults occur.

JSON, in place of the display: processes, duration_seconds, token_lifetime_seconds, has_revoked (whether the second
fault occurred), server (token_requests, tokens_issued, failures, refusals, api_requests, unauthorized), callers
(requests, succeeded, failed, slowest_seconds).
"""
_COUNT = click.IntRange(min=1)


@click.command(help=_HELP)
@number_option("--requests", _COUNT, default=20_000, help_="Number of API requests.")
@number_option("--concurrency", _COUNT, default=64, help_="Maximum concurrent requests.")
@number_option(
    "--duration",
    click.FloatRange(min=3, max=86_400),
    default=30,
    unit="SECONDS",
    help_="Time over which the requests are spread.",
)
@number_option("--processes", _COUNT, default=4, help_="Number of processes that share one token.")
@click.option("--plain", is_flag=True, help="Print lines in place of the live display.")
@json_option
def demo(*, duration: float, plain: bool, is_json: bool, **counts: int) -> None:
    from ._demo_run import Demo, DemoError, Plan  # the other commands need no server and no rich

    is_debug = has_flag("--debug")
    run = Demo(Plan(duration_seconds=duration, is_debug=is_debug, **counts))
    try:
        if is_json:
            asyncio.run(run.run())
            print_json(run.figures())
        else:
            from ._demo_display import show_demo

            # The log lines of the processes would break a live display.
            asyncio.run(show_demo(run, is_plain=plain or is_debug))
    except DemoError as error:
        raise CommandError(str(error)) from error
    if run.problem:
        raise CommandError(run.problem)
