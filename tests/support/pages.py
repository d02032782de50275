"""The pages of the documentation, and their links."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)


def links_of(page: Path) -> list[str]:
    """Return the targets of the page's links and the files that it includes."""
    text = page.read_text("utf-8")
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^```\{\w*include\} (.+)$", text, re.MULTILINE)
