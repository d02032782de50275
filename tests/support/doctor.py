"""Runs of `simplestore doctor`, and their findings."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import attrs

from tests.support.command import finish, simplestore, start

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.command import Outcome

NEUTRAL: Final = {"SSL_CERT_FILE": "", "SSL_CERT_DIR": ""}  # the developer's shell may have a private CA
# Runs the command after a change to the standard library in its process.
_PROGRAM = "{change}\nimport sys; from simplestore_async.cli import main; sys.exit(main())"


@attrs.frozen
class Row:
    state: str
    finding: str
    advice: str
    facts: dict[str, object]


async def doctor(*options: str, environment: Mapping[str, str]) -> dict[str, Row]:
    """Return the outcome of each check by subject and name, such as "API: request"."""
    return read_rows(await simplestore("doctor", "--json", *options, environment=environment))


async def changed_doctor(change: str, *options: str, environment: Mapping[str, str]) -> dict[str, Row]:
    """Return the outcomes from a new process that runs *change* first."""
    command = sys.executable, "-c", _PROGRAM.format(change=change), "doctor", "--json", *options
    return read_rows(await finish(await start(*command, environment=environment)))


def read_rows(outcome: Outcome) -> dict[str, Row]:
    """Return the rows of a run, and check that exit code and error match them."""
    rows = {
        f"{each['subject']}: {each['name']}": Row(each["state"], each["finding"], each["advice"], each["facts"])
        for each in outcome.json
    }
    failures = failures_in(rows)
    assert bool(failures) == outcome.code
    if failures:
        expected = f"{len(failures)} of {len(rows)} checks failed: {', '.join(failures)}"
        assert {"type": "CommandError", "message": expected, "exit_code": 1} == outcome.error
    else:
        assert "" == outcome.stderr
    assert [] == [name for name, row in rows.items() if row.state in {"warning", "failed"} and not row.advice]
    return rows


def failures_in(rows: Mapping[str, Row]) -> list[str]:
    return [name for name, row in rows.items() if row.state == "failed"]


def assert_row(row: Row, *, state: str, says: str, advises: str = "") -> None:
    assert state == row.state, row
    assert says in row.finding
    assert advises in row.advice
