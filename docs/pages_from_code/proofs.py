"""Guarantees and their tests, read from docs/guarantees.md and from the tests themselves."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Guarantee", "list_proofs", "read_guarantees"]

_ROOT: Final = Path(__file__).parent.parent.parent
_ROW: Final = re.compile(
    r"^\| (?P<claim>.+?) \| \[`(?P<label>[\w.]+)`\]\(\.\./(?P<path>tests/[\w/]+\.py)\) \|$", re.MULTILINE
)

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@attrs.frozen
class Guarantee:
    """A guarantee, and the file or the one test in it that proves it."""

    claim: str
    path: str
    test: str

    @property
    def anchor(self) -> str:
        """The place on the page of proofs."""
        return f"proof-{Path(self.path).stem}-{self.test}".strip("-").replace("_", "-").lower()

    @property
    def title(self) -> str:
        """The name of the test, or of the file if all of it is the proof."""
        return self.test or Path(self.path).name


def read_guarantees() -> list[Guarantee]:
    """Return the rows of the table, in its order."""
    page = (_ROOT / "docs" / "guarantees.md").read_text("utf-8")
    rows = [row.group("claim", "path", "label") for row in _ROW.finditer(page)]
    return [Guarantee(claim, path, "" if label.endswith(".py") else label) for claim, path, label in rows]


def list_proofs() -> str:
    """Return the proofs in Markdown: the source of a test, or the claims of all tests of a file."""
    return "\n\n".join(
        f"({each.anchor})=\n## {each.title}\n\n{each.claim}.\n\n`{each.path}`:\n\n{_show(each)}"
        for each in read_guarantees()
    )


def _show(guarantee: Guarantee) -> str:
    source = (_ROOT / guarantee.path).read_text("utf-8")
    tree = ast.parse(source)
    if not guarantee.test:
        return "\n".join(f"- {claim}" for claim in _claims(tree))
    [found] = [each for each in _definitions(tree) if each.name == guarantee.test]
    first = min([found.lineno, *(decorator.lineno for decorator in found.decorator_list)])
    lines = source.splitlines()[first - 1 : found.end_lineno]
    return "\n".join(["````python", textwrap.dedent("\n".join(lines)), "````"])


def _definitions(parent: ast.Module | ast.ClassDef) -> Iterator[_Definition]:
    """Yield the functions and classes of a module or class, from top to bottom, and what is in the classes."""
    for each in parent.body:
        if isinstance(each, _Definition):
            yield each
        if isinstance(each, ast.ClassDef):
            yield from _definitions(each)


def _claims(tree: ast.Module) -> Iterator[str]:
    for each in _definitions(tree):
        if each.name.startswith("test_"):
            yield f"{' '.join((ast.get_docstring(each) or '').split())} (`{each.name}`)"
