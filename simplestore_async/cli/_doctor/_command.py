"""The command `simplestore doctor`. Rule: a report on stdout; a failure is also an error on stderr."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import attrs
import click

from simplestore_async.cli._output import CommandError, json_option, print_json, timeout_option
from simplestore_async.cli._text import hidden_values, hide

if TYPE_CHECKING:
    from ._check import Check, Result

__all__ = ["doctor"]

_HELP: Final = """\
Find out why no token can be obtained or used.

Checks settings, secret, proxy, DNS, TCP, TLS, clock, a token request, an API request if SIMPLESTORE_BASE_URL is set,
shared tokens (in Redis if SIMPLESTORE_REDIS_URL is set), and installed versions. A failure does not end the others.

It requests one token, which it stores nowhere, sends `HEAD /` to the token endpoint's host to read its clock, and GET
with the token to SIMPLESTORE_BASE_URL. It changes nothing. Neither secret nor token is in the output.

JSON, a list: subject, name, state (ok, warning, failed, skipped), finding, advice (may be empty), facts (an object;
numbers have their units in their names).
"""
_EPILOG: Final = """\
\b
Exit codes:
  0    every check passed, perhaps with warnings
  1    a check failed
  2    wrong usage
  130  interrupted
"""


@click.command(help=_HELP, epilog=_EPILOG)
@timeout_option("each check", default=10, most=3_600)
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    metavar="DIRECTORY",
    help="Cache directory, in place of the default one.",
)
@click.option("-v", "--verbose", "is_verbose", is_flag=True, help="Show every finding, not only what needs attention.")
@json_option
def doctor(*, timeout: float, directory: Path | None, is_verbose: bool, is_json: bool) -> None:
    from ._check import State, run_checks
    from ._plan import plan_checks  # completion needs no aiohttp
    from ._report import Report, facts_of

    secrets = hidden_values(os.environ)
    report = None if is_json else Report(is_verbose=is_verbose)
    results: dict[Check, Result] = {}

    def show(check: Check, result: Result) -> None:
        results[check] = _hide_secrets(result, secrets)
        if report is not None:
            report.show(check, results[check])

    checks = plan_checks(directory=directory, timeout_seconds=timeout)
    asyncio.run(run_checks(checks, timeout_seconds=timeout, show=show))
    if report is None:
        print_json([facts_of(check, result) for check, result in results.items()])
    else:
        report.sum_up(results)
    failures = [str(check) for check, result in results.items() if result.state is State.FAILED]
    if failures:
        raise CommandError(f"{len(failures)} of {len(results)} checks failed: {', '.join(failures)}")


def _hide_secrets(result: Result, secrets: list[str]) -> Result:
    """Return the result without the environment's secrets, wherever one was put by mistake."""
    return attrs.evolve(
        result,
        finding=hide(result.finding, secrets),
        advice=hide(result.advice, secrets),
        facts={name: _hide_in_fact(value, secrets) for name, value in result.facts.items()},
    )


def _hide_in_fact(value: object, secrets: list[str]) -> object:
    if isinstance(value, str):
        return hide(value, secrets)
    if isinstance(value, list):
        return [_hide_in_fact(each, secrets) for each in cast("list[object]", value)]
    if isinstance(value, dict):
        facts = cast("dict[object, object]", value)
        return {hide(str(name), secrets): _hide_in_fact(each, secrets) for name, each in facts.items()}
    return value
