"""Errors as logs, debuggers and pickles show them."""

from __future__ import annotations

import pickle
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from simplestore_async.errors import SimpleStoreError

if TYPE_CHECKING:
    from types import FrameType

_TESTS = Path(__file__).parent.parent


def everything_shown(error: BaseException) -> str:
    """Return everything that a log or debugger may show of an error, its causes and contexts.

    This includes the locals of all frames but those of the tests, which may contain secrets.
    """
    lines: list[str] = []
    todo, seen = [error], set[int]()
    while todo:
        each = todo.pop()
        seen.add(id(each))
        steps = [step for step in traceback.walk_tb(each.__traceback__) if not _is_ours(step[0])]
        lines += traceback.StackSummary.extract(iter(steps), capture_locals=True).format()
        lines += [str(each), repr(each), repr(each.args), repr(vars(each))]
        if isinstance(each, SimpleStoreError):
            lines.append(str(pickle.dumps(each)))
        todo += [linked for linked in (each.__cause__, each.__context__) if linked and id(linked) not in seen]
    return "\n".join(lines)


def _is_ours(frame: FrameType) -> bool:
    return Path(frame.f_code.co_filename).is_relative_to(_TESTS)
