"""A cache's own thread. Rule: what may block runs there, one after the other, and never on the event loop.

Nor in the threads of the loop's default executor, which may all be waiting for the very token that is looked for.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OwnThread"]

T = TypeVar("T")


class OwnThread:
    """One thread, which starts when it is first needed, and in each process anew: also after a fork, or unpickled."""

    def __init__(self) -> None:
        self._executor: concurrent.futures.ThreadPoolExecutor | None = None
        self._pid: int | None = None

    async def run(self, work: Callable[[], T]) -> T:
        """Return what *work* returns there."""
        # A forked process has the executor, but not its thread.
        if self._pid != os.getpid():
            self._executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="simplestore-cache")
            self._pid = os.getpid()
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()
