"""Events: log messages, levels and listeners."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys

import attrs
import pytest

from simplestore_async import events
from simplestore_async.errors import TokenError
from simplestore_async.events import (
    CacheFailed,
    Event,
    OutageBegan,
    OutageEnded,
    RenewalFailed,
    RenewalOverdue,
    RenewalStarted,
    TokenReceived,
    TokenRejected,
    emit,
)
from tests.support.providers import Panic

ERROR = TokenError("reason")

DEBUG, INFO, WARNING = logging.DEBUG, logging.INFO, logging.WARNING
RECEIVED = TokenReceived(
    cause="first", source="endpoint", is_unchanged=False, duration_seconds=0.1234, life_seconds=3599.6, waiter_count=12
)
CACHED = attrs.evolve(RECEIVED, source="cache", is_unchanged=True)
FAILED = RenewalFailed(
    cause="due", error=ERROR, is_token_alive=True, duration_seconds=1.5, retry_in_seconds=4, waiter_count=7
)
FAILED_TEXT = "token renewal failed after 1.500 s (due); waiters: 7, next attempt in 4 s at the earliest: reason"
REJECTED = "the API rejected a token 90 s old;"

EXAMPLES: list[tuple[Event, int, str]] = [
    (Event(), DEBUG, "Event()"),
    (RenewalStarted(cause="due"), DEBUG, "renewal started: due"),
    (RECEIVED, DEBUG, "token received from endpoint in 0.123 s (first); valid for 3600 s, waiters: 12"),
    (CACHED, DEBUG, "token received from cache, unchanged, in 0.123 s (first); valid for 3600 s, waiters: 12"),
    (FAILED, DEBUG, FAILED_TEXT),
    (attrs.evolve(FAILED, is_token_alive=False), logging.ERROR, FAILED_TEXT),
    (
        OutageBegan(error=ERROR, life_seconds=720.4),
        WARNING,
        "token renewal is failing; the current token is valid for another 720 s: reason",
    ),
    (OutageBegan(error=ERROR, life_seconds=0.0), DEBUG, "no token can be obtained: reason"),
    (OutageEnded(duration_seconds=61.6), INFO, "token renewal recovered after 62 s"),
    (
        RenewalOverdue(waited_seconds=1.96, life_seconds=25.2),
        WARNING,
        "renewal still pending after 2.0 s; serving the current token (25 s left)",
    ),
    (TokenRejected(age_seconds=90.2, is_replaced=True), INFO, f"{REJECTED} replacing it"),
    (
        TokenRejected(age_seconds=90.2, is_replaced=False),
        INFO,
        f"{REJECTED} keeping it for now, to limit token requests",
    ),
    (
        CacheFailed(operation="set", problem="it raised OSError"),
        WARNING,
        "token cache failed (set); continuing without it: it raised OSError",
    ),
]


@pytest.mark.parametrize(("event", "level", "text"), EXAMPLES, ids=[type(event).__name__ for event, *_ in EXAMPLES])
def test_logged(caplog: pytest.LogCaptureFixture, event: Event, level: int, text: str) -> None:
    """Each event is one line of the logger `simplestore_async` with the event's text and level."""
    assert text == str(event)
    with caplog.at_level(logging.DEBUG, "simplestore_async"):
        emit(event, None)

    assert level == event.level
    assert [("simplestore_async", level, text)] == caplog.record_tuples


def test_examples_are_complete() -> None:
    """Every public event is among the examples."""
    kinds = {name for name in events.__all__ if isinstance(getattr(events, name), type)}

    assert kinds == {type(event).__name__ for event, *_ in EXAMPLES}


@pytest.mark.parametrize("error", [LookupError, asyncio.CancelledError, Panic])
def test_listener_that_raises(caplog: pytest.LogCaptureFixture, error: type[BaseException]) -> None:
    """An exception of a listener is logged with its traceback and does not propagate."""

    def fail(event: Event) -> None:
        raise error("from the listener")

    with caplog.at_level(logging.ERROR, "simplestore_async"):
        emit(RenewalStarted(cause="due"), fail)

    assert [("simplestore_async", logging.ERROR, "on_event raised for RenewalStarted")] == caplog.record_tuples
    assert "from the listener" in caplog.text


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_listener_that_exits(exception: type[BaseException]) -> None:
    """KeyboardInterrupt and SystemExit in a listener propagate."""

    def end(event: Event) -> None:
        raise exception

    with pytest.raises(exception):
        emit(RenewalStarted(cause="due"), end)


def test_without_logging_configuration() -> None:
    """Without any logging configuration warnings are printed to standard error, and debug messages are not."""
    code = (
        "from simplestore_async.events import *; from simplestore_async.events import emit; "
        "emit(RenewalStarted(cause='due'), None); emit(CacheFailed(operation='get', problem='the disk is full'), None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "token cache failed (get); continuing without it: the disk is full\n" == done.stderr


@pytest.mark.parametrize("event", [event for event, *_ in EXAMPLES], ids=lambda event: type(event).__name__)
def test_immutable(event: Event) -> None:
    """Events are immutable and have keyword-only fields, so that fields can be added."""
    assert {True} >= {field.kw_only for field in attrs.fields(type(event))}
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.anything = 1  # type: ignore[attr-defined]  # it must fail
