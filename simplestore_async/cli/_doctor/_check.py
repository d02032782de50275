"""Checks, their results, and how they run. Rule: each check ends in time and in a result, and never ends another."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import stat
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final

import attrs

from simplestore_async.cli._text import as_line
from simplestore_async.errors import ConfigurationError

__all__ = ["Check", "Result", "State", "failed", "ok", "permissions", "run_checks", "skipped", "warning"]

_log: Final = logging.getLogger("simplestore_async")


class State(StrEnum):
    """State of a check."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@attrs.frozen(kw_only=True)
class Result:
    """Result of a check.

    Attributes:
        state: the state.
        finding: the result, in one printable line.
        advice: the next step, in one printable line; may be empty.
        facts: the same for programs; numbers have their units in their names.
        is_blocking: whether checks that need this one are skipped.
    """

    state: State
    finding: str = attrs.field(converter=as_line)
    advice: str = attrs.field(default="", converter=as_line)
    facts: dict[str, object] = attrs.field(factory=dict[str, object])
    is_blocking: bool = False


def ok(finding: str, **facts: object) -> Result:
    """Return the result of a check that passed."""
    return Result(state=State.OK, finding=finding, facts=facts)


def warning(finding: str, *, advice: str, **facts: object) -> Result:
    """Return the result for something that works, and may be a mistake or end soon."""
    return Result(state=State.WARNING, finding=finding, advice=advice, facts=facts)


def failed(finding: str, *, advice: str, **facts: object) -> Result:
    """Return the result for something that does not work."""
    return Result(state=State.FAILED, finding=finding, advice=advice, facts=facts, is_blocking=True)


def skipped(finding: str, *, advice: str = "", is_blocking: bool = False) -> Result:
    """Return the result of a check that did not apply."""
    return Result(state=State.SKIPPED, finding=finding, advice=advice, is_blocking=is_blocking)


def permissions(status: os.stat_result) -> dict[str, object]:
    """Return mode and owner of a file as facts; none on Windows, whose files have others."""
    if os.name != "posix":
        return {}
    return {"mode": f"{stat.S_IMODE(status.st_mode):04o}", "owner_id": status.st_uid}


@attrs.frozen(eq=False)
class Check:
    """A check.

    Attributes:
        subject: its group.
        name: its name within the group.
        run: returns the result; a `ConfigurationError` that it raises is a failure.
        needs: checks that run first; if one of them is blocking, this one is skipped.
        if_late: advice if it exceeds its time limit.
    """

    subject: str
    name: str
    run: Callable[[], Awaitable[Result]] | Callable[[], Result]
    needs: tuple[Check, ...] = attrs.field(default=(), kw_only=True)
    if_late: str = attrs.field(default="raise --timeout", kw_only=True)

    def __str__(self) -> str:
        return f"{self.subject}: {self.name}"


async def run_checks(checks: Sequence[Check], *, timeout_seconds: float, show: Callable[[Check, Result], None]) -> None:
    """Run the checks concurrently, as far as none needs another.

    Args:
        checks: each after those that it needs.
        timeout_seconds: time limit of each.
        show: called with each result, in the order of *checks*.
    """
    tasks: dict[Check, asyncio.Task[Result]] = {}
    for check in checks:
        needed = {each: tasks[each] for each in check.needs}
        tasks[check] = asyncio.create_task(_run_one(check, needed, timeout_seconds))
    try:
        for check, task in tasks.items():
            show(check, await task)
    finally:
        # A closed pipe or Ctrl-C ends the checks.
        for task in tasks.values():
            task.cancel()
        await asyncio.wait(tasks.values())


async def _run_one(check: Check, needed: Mapping[Check, asyncio.Task[Result]], timeout_seconds: float) -> Result:
    for each, task in needed.items():
        if (await task).is_blocking:
            return skipped(f"not checked, because of {each}", is_blocking=True)
    deadline = asyncio.timeout(timeout_seconds)
    try:
        async with deadline:
            result = check.run()
            return await result if inspect.isawaitable(result) else result
    except ConfigurationError as error:
        return failed(f"{error.field} {error.problem}", advice=error.hint or f"correct {error.field}")
    except Exception as error:  # noqa: BLE001 - one broken check must not end the others
        if deadline.expired():
            return failed(f"no response within {timeout_seconds:g} s", advice=check.if_late)
        # Without the error's text, which may hold a secret.
        stack = "".join(traceback.format_tb(error.__traceback__))
        _log.debug("doctor: %s: %s\n%s", check, type(error).__name__, stack)
        return failed(
            f"the check itself failed: {type(error).__name__}",
            advice="report it, with the output of `simplestore doctor --debug`",
        )
