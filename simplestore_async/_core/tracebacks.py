"""Tracebacks. Rule: an error keeps its lines, but frames of HTTP clients do not keep the bytes of headers.

HTTP clients and asyncio have the request's head as plain bytes among their locals while they write it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["clear_frames"]

_CLIENTS: Final = {"aiohttp", "httpx", "httpx2", "httpcore", "httpcore2", "h11", "h2", "hpack"}
_WRITERS: Final = {*_CLIENTS, "anyio", "asyncio", "ssl"}


def clear_frames(error: BaseException) -> None:
    """Clear the locals of HTTP clients' and asyncio's finished frames in the tracebacks of *error* and its causes."""
    for each in _chain(error):
        traceback = each.__traceback__
        while traceback is not None:
            frame = traceback.tb_frame
            if str(frame.f_globals.get("__name__")).partition(".")[0] in _WRITERS:
                with suppress(RuntimeError):  # it is still running
                    frame.clear()
            traceback = traceback.tb_next


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield *error*, its causes and contexts, and the members of groups."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        todo += each.__cause__, each.__context__
        if isinstance(each, BaseExceptionGroup):
            todo += cast("BaseExceptionGroup[BaseException]", each).exceptions
