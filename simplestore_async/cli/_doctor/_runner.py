"""The checks' course. Rule: each ends in time and in an outcome, and none of them ends another.

They run at once, as far as none needs another, and are told of in their order.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import traceback
from typing import TYPE_CHECKING, Final

from ._check import Outcome, failed, skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ._check import Check

__all__ = ["examine"]

_log: Final = logging.getLogger("simplestore_async")


async def examine(
    checks: Sequence[Check], *, timeout_seconds: float, show: Callable[[Check, Outcome], None]
) -> dict[Check, Outcome]:
    """Return what the checks found.

    Args:
        checks: each after those that it needs.
        timeout_seconds: how long each may take.
        show: is told of every outcome, in the order of *checks*.
    """
    tasks: dict[Check, asyncio.Task[Outcome]] = {}
    for check in checks:
        needed = {each: tasks[each] for each in check.needs}
        tasks[check] = asyncio.create_task(_examine_one(check, needed, timeout_seconds))
    found: dict[Check, Outcome] = {}
    try:
        for check, task in tasks.items():
            found[check] = await task
            show(check, found[check])
    finally:
        # Whatever ended it, a closed pipe or Ctrl-C, ends the checks.
        for task in tasks.values():
            task.cancel()
        await asyncio.wait(tasks.values())
    return found


async def _examine_one(check: Check, needed: Mapping[Check, asyncio.Task[Outcome]], timeout_seconds: float) -> Outcome:
    for each, task in needed.items():
        if (await task).holds_up:
            return skipped(f"not looked at, because of {each.subject}: {each.name}", holds_up=True)
    deadline = asyncio.timeout(timeout_seconds)
    try:
        async with deadline:
            outcome = check.look()
            return await outcome if inspect.isawaitable(outcome) else outcome
    except Exception as error:  # noqa: BLE001 - a checklist goes on, whatever one of its checks meets
        if deadline.expired():
            return failed(f"no answer within {timeout_seconds:g} s", advice=check.if_late)
        # Without the error's own text, in which anything may stand.
        stack = "".join(traceback.format_tb(error.__traceback__))
        _log.debug("doctor: %s: %s: %s\n%s", check.subject, check.name, type(error).__name__, stack)
        return failed(
            f"the check itself broke: {type(error).__name__}",
            advice="report it, with what `simplestore --debug doctor` prints",
        )
