"""The documentation's pages, read as their tests need them: what is to be run, what is linked, what is said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)

# Lines of the form "% >>> …" are Markdown's comments: Python that a reader does not see. They set up what he has
# already, and assert what the page claims. "% not run: …" says why the block that follows is only shown.
_PARTS = re.compile(
    r"(?P<hidden>(?:^% >>> [^\n]*\n)+)|"
    r"(?:^% not run: (?P<reason>[^\n]+)\n)?^```(?P<language>python|sh)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@attrs.frozen
class Example:
    """A block of a page, or what stands hidden beside it."""

    language: str
    code: str
    line: int
    reason_not_to_run: str | None


def examples_of(page: Path) -> Iterator[Example]:
    text = page.read_text("utf-8")
    for part in _PARTS.finditer(text):
        hidden = part["hidden"]
        code = part["code"] if hidden is None else re.sub(r"^% >>> ", "", hidden, flags=re.MULTILINE)
        start = part.start("code") if hidden is None else part.start("hidden")
        yield Example(part["language"] or "python", code, text.count("\n", 0, start), part["reason"])


def links_of(page: Path) -> list[str]:
    """Return where the page's links lead, and the files that its directives take in."""
    text = page.read_text("utf-8")
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^```\{\w*include\} (.+)$", text, re.MULTILINE)


def words_of(page: Path) -> str:
    """Return the page's words in one line, without the marks of code."""
    return " ".join(page.read_text("utf-8").replace("`", "").split())
