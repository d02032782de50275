"""The command itself. Rule: a checklist on stdout; what failed is also an error, as every command's are."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from simplestore_async.cli._output import CommandError, json_option, print_json, timeout_option

__all__ = ["doctor"]

_EPILOG = """\
\b
Exit codes:
  0    all is well, or there are warnings only
  1    a check failed
  2    wrong usage
  130  interrupted
"""


@click.command(epilog=_EPILOG)
@timeout_option("each check", default=10, most=3_600)
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Another folder of shared tokens than the default one, such as that of a service.",
)
@json_option
def doctor(*, timeout: float, directory: Path | None, is_json: bool) -> None:
    """Find out why no token can be had, or the API refuses it: a checklist, with what to do about each failure.

    Settings, secret, DNS, TCP, TLS, clock, a token request, a call to the API if SIMPLESTORE_BASE_URL is set, the
    folder of shared tokens, versions. What fails does not end it, as far as the rest can go on without.

    It asks for one token, which it stores nowhere, sends `HEAD /` to the token endpoint's host to read its clock, and
    GET with the token to SIMPLESTORE_BASE_URL. It changes nothing, and neither secret nor token is in what it prints.

    JSON, a list: subject, name, state (ok, warning, failed, skipped), finding, advice (empty if nothing is to be done),
    facts (an object; numbers have their units in their names).
    """
    from ._check import State
    from ._plan import plan_checks  # completion does without aiohttp
    from ._report import facts_of, open_report
    from ._runner import examine

    checks = plan_checks(directory=directory, timeout_seconds=timeout)
    report = open_report(is_silent=is_json)
    found = asyncio.run(examine(checks, timeout_seconds=timeout, show=report.show))
    report.sum_up(found.values())
    if is_json:
        print_json([facts_of(check, outcome) for check, outcome in found.items()])
    failures = [f"{check.subject}: {check.name}" for check, outcome in found.items() if outcome.state is State.FAILED]
    if failures:
        raise CommandError(f"{len(failures)} of {len(found)} checks failed: {', '.join(failures)}")
