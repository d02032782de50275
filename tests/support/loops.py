"""Kinds of event loops, and event loops in other threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from tests.support.platforms import uvloop_factories

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]


def _new_eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]  # new in 3.12
    return loop


_FACTORIES: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop, **uvloop_factories()}
if hasattr(asyncio, "eager_task_factory"):
    _FACTORIES["eager"] = _new_eager_loop
LOOPS = [pytest.param(factory, id=name) for name, factory in _FACTORIES.items()]
"""Parameters for tests: asyncio's loop and, where available, uvloop's and one with eager tasks."""


@asynccontextmanager
async def other_loop() -> AsyncIterator[Callable[[Coroutine[Any, Any, Any]], asyncio.Future[Any]]]:
    """Run an event loop in another thread; yield a function that starts a coroutine there and returns a future."""
    loop = asyncio.new_event_loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda coroutine: asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop))
    finally:
        # Two turns of the loop, for callbacks of the last coroutine.
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop))
        left_over = asyncio.all_tasks(loop)
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join)
        loop.close()
    assert set() == left_over
    assert [] == complaints
