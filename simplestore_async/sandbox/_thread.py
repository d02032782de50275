"""A server in a thread. Rule: whoever waits for the thread gets what went wrong in it, and it outlives no server.

A program under test may block its own thread, or run one event loop after another: the server's loop is no part of it.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

__all__ = ["ServerThread"]


class ServerThread:
    """Keep an async context manager entered, on an event loop in a thread of its own."""

    def __init__(self, server: AbstractAsyncContextManager[object]) -> None:
        self._server = server
        self._entered: Future[Callable[[], object]] = Future()  # gives what lets the thread go on to its end
        self._left: Future[None] = Future()
        # A daemon: when a test run is interrupted nobody waits for it.
        self._thread = threading.Thread(target=self._run, name="simplestore-sandbox", daemon=True)

    def start(self) -> None:
        """Return once the server is entered; if entering raises, raise that once the thread is gone."""
        self._thread.start()
        error = self._entered.exception()
        if error is not None:
            self._thread.join()
            raise error

    def stop(self) -> None:
        """Return once the server is left and the thread is gone; raise what leaving raises."""
        leave = self._entered.result()
        leave()
        self._thread.join()
        self._left.result()

    def _run(self) -> None:
        try:
            # No `asyncio.run()`: a program under test may have put another in its place, as nest_asyncio does.
            with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
            (self._left if self._entered.done() else self._entered).set_exception(error)
        else:
            self._left.set_result(None)

    async def _serve(self) -> None:
        is_over = asyncio.Event()
        async with self._server:
            self._entered.set_result(partial(asyncio.get_running_loop().call_soon_threadsafe, is_over.set))
            await is_over.wait()
