"""Errors as tracebacks with locals show them."""

from __future__ import annotations

import traceback


def shown_by(error: BaseException) -> str:
    """Return a traceback with locals of *error*, its causes and contexts."""
    texts, todo, seen = [], [error], set()
    while todo:
        each = todo.pop()
        seen.add(id(each))
        texts.append(f"{each} {each!r} {each.args!r} {vars(each)!r}")
        frames = [frame for frame, _ in traceback.walk_tb(each.__traceback__)]
        texts += [repr(frame.f_locals) for frame in frames if not frame.f_code.co_name.startswith("test_")]
        todo += [linked for linked in (each.__cause__, each.__context__) if linked and id(linked) not in seen]
    return "\n".join(texts)
