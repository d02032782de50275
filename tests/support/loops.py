"""Event loops in other threads."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine


@asynccontextmanager
async def other_loop() -> AsyncIterator[Callable[[Coroutine[Any, Any, Any]], asyncio.Future[Any]]]:
    """Run an event loop in another thread; yield a function that starts a coroutine there, and returns a future."""
    loop = asyncio.new_event_loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda coroutine: asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop))
    finally:
        # Twice round the loop, for what the last coroutine left behind.
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop))
        left_over = asyncio.all_tasks(loop)
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join)
        loop.close()
    assert set() == left_over
    assert [] == complaints
