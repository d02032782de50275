"""What a check is, and what it may find. Rule: values only; none of them holds a secret or moves the cursor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from types import MappingProxyType

import attrs

from simplestore_async.cli._output import as_line

__all__ = ["Check", "Outcome", "State", "failed", "ok", "skipped", "warning"]


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@attrs.frozen(kw_only=True)
class Outcome:
    """What a check found.

    Attributes:
        state: how it ended.
        finding: what is so, in one line.
        advice: what to do about it, in one line; empty if nothing is to be done.
        facts: the same for programs; numbers have their units in their names.
        holds_up: whether the checks that need this one make no sense any more.
    """

    state: State
    finding: str = attrs.field(converter=as_line)
    advice: str = attrs.field(default="", converter=as_line)
    facts: Mapping[str, object] = MappingProxyType({})
    holds_up: bool = False


@attrs.frozen(eq=False, kw_only=True)
class Check:
    """A question, and who answers it.

    Attributes:
        subject: what it is about, with others.
        name: what it is called, among those of its subject.
        look: answers it, and raises nothing that it foresees.
        needs: checks that come first; if one of them holds it up, this one is skipped.
        if_late: what to do if it has no answer in time.
    """

    subject: str
    name: str
    look: Callable[[], Awaitable[Outcome]] | Callable[[], Outcome]
    needs: tuple[Check, ...] = ()
    if_late: str = "give it longer: --timeout"


def ok(finding: str, **facts: object) -> Outcome:
    """Return that all is well."""
    return Outcome(state=State.OK, finding=finding, facts=facts)


def warning(finding: str, *, advice: str, **facts: object) -> Outcome:
    """Return what works, and may be a mistake or end soon."""
    return Outcome(state=State.WARNING, finding=finding, advice=advice, facts=facts)


def failed(finding: str, *, advice: str, **facts: object) -> Outcome:
    """Return what does not work."""
    return Outcome(state=State.FAILED, finding=finding, advice=advice, facts=facts, holds_up=True)


def skipped(finding: str, *, advice: str = "", holds_up: bool = False) -> Outcome:
    """Return why there was nothing to look at."""
    return Outcome(state=State.SKIPPED, finding=finding, advice=advice, holds_up=holds_up)
