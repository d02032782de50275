"""How the contracts run a cache. Rule: everything ends in time, and no event loop is left behind."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

__all__ = ["run", "within"]

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run *coroutine* on an event loop of its own, and leave alone the one that `asyncio.run()` would forget."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(coroutine)


@asynccontextmanager
async def within(seconds: float, rule: str) -> AsyncGenerator[None]:
    """Fail with *rule* if what is done inside takes longer than *seconds*."""
    scope = asyncio.timeout(seconds)
    try:
        async with scope:
            yield
    except TimeoutError:
        if not scope.expired():
            raise
        raise AssertionError(rule) from None
