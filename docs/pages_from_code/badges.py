"""README's badges: `python -m pages_from_code.badges` draws them. Rule: it says what the build says, and no more."""

from __future__ import annotations

import re
import tomllib
from html import escape
from pathlib import Path
from typing import Final

__all__ = ["draw_badges"]

_ROOT: Final = Path(__file__).parents[2]
_FOLDER: Final = _ROOT / "docs" / "_static" / "badges"
_CHARACTER_WIDTH: Final = 6.6
_PADDING: Final = 6


def draw_badges() -> dict[str, str]:
    """Return the SVG of each badge by its name."""
    settings = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))
    versions = re.findall(r"Python :: (3\.\d+)", " ".join(settings["project"]["classifiers"]))
    checks = [name for name in ("mypy", "pyright") if "strict" in str(settings["tool"][name])]
    coverage = settings["tool"]["coverage"]["report"]["fail_under"]
    return {
        "python": _draw("python", " | ".join(versions)),
        "typing": _draw("types", f"strict: {' and '.join(checks)}"),
        "coverage": _draw("coverage of the core", f"{coverage} %"),
        "license": _draw("license", settings["project"]["license"]),
    }


def _draw(name: str, value: str) -> str:
    widths = [len(text) * _CHARACTER_WIDTH + 2 * _PADDING for text in (name, value)]
    left, whole = round(widths[0]), round(sum(widths))
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="20" role="img">
<title>{escape(name)}: {escape(value)}</title>
<clipPath id="round"><rect width="{whole}" height="20" rx="3"/></clipPath>
<g clip-path="url(#round)">
<rect width="{left}" height="20" fill="#444"/>
<rect x="{left}" width="{whole - left}" height="20" fill="#08705f"/>
</g>
<g fill="#fff" font-family="Verdana, DejaVu Sans, sans-serif" font-size="11" text-anchor="middle">
<text x="{left / 2}" y="14">{escape(name)}</text>
<text x="{(left + whole) / 2}" y="14">{escape(value)}</text>
</g>
</svg>
"""


if __name__ == "__main__":
    _FOLDER.mkdir(exist_ok=True)
    for badge, picture in draw_badges().items():
        (_FOLDER / f"{badge}.svg").write_text(picture, "utf-8")
