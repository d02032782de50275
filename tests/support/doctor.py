"""Runs of `simplestore doctor`, and their results."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from unittest.mock import patch

from simplestore_async.cli._doctor._check import Result, State, run_checks
from simplestore_async.cli._doctor._plan import plan_checks
from tests.support.command import surroundings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from simplestore_async.cli._doctor._check import Check
    from tests.support.command import Outcome


async def doctor(
    *subjects: str,
    environment: Mapping[str, str],
    directory: Path | None = None,
    timeout_seconds: float = 10,
    **settings: str,
) -> dict[str, Result]:
    """Run the checks in this process; return their results by subject and name, such as "API: request".

    By default, all checks run; the command hides secrets in the results afterwards. `TOKEN_URL="…"` sets
    SIMPLESTORE_TOKEN_URL.
    """
    results: dict[Check, Result] = {}
    environment = {**environment, **{f"SIMPLESTORE_{name}": value for name, value in settings.items()}}
    with patch.dict(os.environ, surroundings(environment), clear=True):
        checks = plan_checks(directory=directory, timeout_seconds=timeout_seconds)
        checks = [check for check in checks if not subjects or check.subject in subjects]
        await run_checks(checks, timeout_seconds=timeout_seconds, show=results.__setitem__)
    assert [] == [check for check, row in results.items() if row.state in {"warning", "failed"} and not row.advice]
    return {str(check): result for check, result in results.items()}


def read_rows(outcome: Outcome) -> dict[str, Result]:
    """Return the results of a run with `--json`, and check that exit code and error match them."""
    rows = {
        f"{each.pop('subject')}: {each.pop('name')}": Result(state=State(each.pop("state")), **each)
        for each in outcome.json
    }
    failures = failures_in(rows)
    assert bool(failures) == outcome.code
    if failures:
        expected = f"{len(failures)} of {len(rows)} checks failed: {', '.join(failures)}"
        assert {"type": "CommandError", "message": expected, "exit_code": 1} == outcome.error
    else:
        assert "" == outcome.stderr
    return rows


def failures_in(rows: Mapping[str, Result]) -> list[str]:
    return [name for name, row in rows.items() if row.state == "failed"]


def assert_row(row: Result, *, state: str, says: str, advises: str = "") -> None:
    assert state == row.state, row
    assert says in row.finding
    assert advises in row.advice
