"""The guarantees and their tests. Rule: the README has the list, the tests have the words; here both are only read."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Guarantee", "list_guarantees", "list_proofs", "read_guarantees"]

_ROOT: Final = Path(__file__).parent.parent.parent
_ROW: Final = re.compile(
    r"^\| (?P<claim>.+?) \| \[`(?P<label>[\w.:]+)`\]\((?P<path>tests/[\w/]+\.py)\) \|$", re.MULTILINE
)

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@attrs.frozen
class Guarantee:
    """What is promised, and the file or the one test in it that proves it."""

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
    """Return the rows of the README's table, in its order."""
    readme = (_ROOT / "README.md").read_text("utf-8")
    return [Guarantee(row["claim"], row["path"], row["label"].partition("::")[2]) for row in _ROW.finditer(readme)]


def list_guarantees() -> str:
    """Return the guarantees in Markdown, each with a link to its proof."""
    return "\n".join(f"- {each.claim} ([test](#{each.anchor}))" for each in read_guarantees())


def list_proofs() -> str:
    """Return the proofs in Markdown: a test whole, or of a whole file what each of its tests claims."""
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
