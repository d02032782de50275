"""Checks and event loops of the contracts. Rule: operations time out, loops are closed, and -O skips no check."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

__all__ = ["check", "check_equal", "fail", "run", "within"]

T = TypeVar("T")


def fail(rule: str) -> NoReturn:
    """Fail with *rule*; `python -O` would skip an `assert`."""
    raise AssertionError(rule)


def check(is_kept: object, rule: str) -> None:
    """Fail with *rule* unless it is kept."""
    if not is_kept:
        fail(rule)


def check_equal(expected: object, actual: object, rule: str) -> None:
    """Fail with *rule* unless they are equal."""
    if expected != actual:
        fail(f"{rule}: expected {expected!r}, got {actual!r}")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run *coroutine* on a new event loop without changing the current one, unlike `asyncio.run()`."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(coroutine)


@asynccontextmanager
async def within(seconds: float, rule: str) -> AsyncGenerator[None]:
    """Fail with *rule* if the body takes longer than *seconds*."""
    scope = asyncio.timeout(seconds)
    try:
        async with scope:
            yield
    except TimeoutError:
        if not scope.expired():
            raise
        raise AssertionError(rule) from None
