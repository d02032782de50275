"""`simplestore demo`."""

from __future__ import annotations

import asyncio

import click

from ._output import CommandError, Settings, json_option, print_json

__all__ = ["demo"]

_HELP = """\
Run a local demo with outages and revoked tokens.

Nothing leaves this machine. Several processes send authorised requests to a local SimpleStore and share their token
in a directory. Tokens live 20 seconds. The token endpoint responds 503 for one second while a renewal is due; later
every token is revoked and the endpoint fails twice more. The final table compares the server's counts with the
callers saw. Runs of less than 30 seconds renew earlier, so that both faults occur.

JSON, in place of the display: processes, duration_seconds, token_lifetime_seconds, has_revoked (whether the second
fault occurred), server (token_requests, tokens_issued, failures, refusals, api_requests, unauthorized), callers
(requests, succeeded, failed, slowest_seconds).
"""


@click.command(help=_HELP, short_help="Run a local demo with outages and revoked tokens.")
@click.option(
    "--requests", type=click.IntRange(min=1), default=20_000, show_default=True, help="Number of API requests."
)
@click.option(
    "--concurrency", type=click.IntRange(min=1), default=64, show_default=True, help="Maximum concurrent requests."
)
@click.option(
    "--duration",
    type=click.FloatRange(min=3, max=86_400),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="Time over which the requests are spread.",
)
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Number of processes that share one token.",
)
@click.option("--plain", is_flag=True, help="Print lines in place of the live display.")
@json_option
@click.pass_obj
def demo(  # noqa: PLR0913 - an argument for each option
    settings: Settings,
    /,
    *,
    requests: int,
    concurrency: int,
    duration: float,
    processes: int,
    plain: bool,
    is_json: bool,
) -> None:
    from ._demo_run import Demo, DemoError, Plan  # the other commands need no server and no rich

    plan = Plan(
        requests=requests,
        concurrency=concurrency,
        duration_seconds=duration,
        processes=processes,
        is_debug=settings.is_debug,
    )
    try:
        if is_json:
            run = Demo(plan)
            asyncio.run(run.run())
            print_json(run.figures())
            problem = run.problem
        else:
            from ._demo_display import show_demo

            # The log lines of the processes would break a live display.
            problem = asyncio.run(show_demo(plan, is_plain=plain or settings.is_debug))
    except DemoError as error:
        raise CommandError(str(error)) from error
    if problem:
        raise CommandError(problem)
