"""Every text that the package's core may show a user, found in its sources."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import simplestore_async
from simplestore_async import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT: Final = Path(simplestore_async.__file__).parent
# Not the core: what these say is for whoever runs the command, writes tests, or reads a dashboard.
_UPPER: Final = {"cli", "sandbox", "testing", "_pytest_plugin.py", "opentelemetry.py"}
# Whatever is said to one of these is a message; and so is any text of three words or more.
_CALLS: Final = {*errors.__all__, "CacheFailed", "TypeError", "RuntimeError", "PermissionError", "_FieldError"}


def texts_in_core() -> set[str]:
    """Return the constant parts of all messages, each stripped to what a page would quote of it."""
    paths = [path for path in _ROOT.rglob("*.py") if not _UPPER & set(path.relative_to(_ROOT).parts)]
    return {text for path in paths for text in _texts_in(ast.parse(path.read_text("utf-8")))}


def _texts_in(tree: ast.Module) -> Iterator[str]:
    documentation = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
    said = {id(node) for call in ast.walk(tree) if _is_message(call) for node in ast.walk(call)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in documentation:
            continue
        text = " ".join(node.value.replace("%s", "").split()).strip(" .:;,()")
        words = re.findall(r"\w\S*", text)
        if len(words) > (1 if id(node) in said else 2):
            yield text


def _is_message(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CALLS
