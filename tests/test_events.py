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

EXAMPLES: list[tuple[Event, int, str]] = [
    (Event(), logging.DEBUG, "Event()"),
    (RenewalStarted(cause="due"), logging.DEBUG, "renewal started: due"),
    (
        TokenReceived(
            cause="first",
            source="endpoint",
            is_unchanged=False,
            duration_seconds=0.1234,
            life_seconds=3599.6,
            waiter_count=12,
        ),
        logging.DEBUG,
        "token received from endpoint in 0.123 s (first); valid for 3600 s, waiters: 12",
    ),
    (
        TokenReceived(
            cause="rejected", source="cache", is_unchanged=True, duration_seconds=2, life_seconds=10, waiter_count=0
        ),
        logging.DEBUG,
        "token received from cache, unchanged, in 2.000 s (rejected); valid for 10 s, waiters: 0",
    ),
    (
        RenewalFailed(
            cause="due", error=ERROR, is_token_alive=True, duration_seconds=1.5, retry_in_seconds=4, waiter_count=0
        ),
        logging.DEBUG,
        "token renewal failed after 1.500 s (due); waiters: 0, next attempt in 4 s at the earliest: reason",
    ),
    (
        RenewalFailed(
            cause="expired", error=ERROR, is_token_alive=False, duration_seconds=30, retry_in_seconds=1, waiter_count=7
        ),
        logging.ERROR,
        "token renewal failed after 30.000 s (expired); waiters: 7, next attempt in 1 s at the earliest: reason",
    ),
    (
        OutageBegan(error=ERROR, life_seconds=720.4),
        logging.WARNING,
        "token renewal is failing; the current token is valid for another 720 s: reason",
    ),
    (OutageBegan(error=ERROR, life_seconds=0.0), logging.DEBUG, "no token can be obtained: reason"),
    (OutageEnded(duration_seconds=61.6), logging.INFO, "token renewal recovered after 62 s"),
    (
        RenewalOverdue(waited_seconds=1.96, life_seconds=25.2),
        logging.WARNING,
        "renewal still pending after 2.0 s; serving the current token (25 s left)",
    ),
    (
        TokenRejected(age_seconds=90.2, is_replaced=True),
        logging.INFO,
        "the API rejected a token 90 s old; replacing it",
    ),
    (
        TokenRejected(age_seconds=2, is_replaced=False),
        logging.INFO,
        "the API rejected a token 2 s old; keeping it for now, to limit token requests",
    ),
    (
        CacheFailed(operation="set", problem="it raised OSError"),
        logging.WARNING,
        "token cache failed (set); continuing without it: it raised OSError",
    ),
]

each_example = pytest.mark.parametrize(
    ("event", "level", "text"), EXAMPLES, ids=[f"{type(event).__name__}-{n}" for n, (event, *_) in enumerate(EXAMPLES)]
)


@each_example
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


def test_listener() -> None:
    """A listener receives the event before `emit()` returns."""
    received: list[Event] = []
    event = RenewalStarted(cause="due")

    emit(event, received.append)

    assert [event] == received
    assert event is received[0]


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
