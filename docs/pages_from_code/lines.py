"""Line breaks of a page. Rule: in no number, and in a name only between its parts."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["keep_numbers_whole", "open_names"]

# Between groups of digits, and before a unit.
_GAP: Final = re.compile(r"(?<=\d) (?=\d{3}\b|%|(?:[mnµ]?s|[KM]iB)\b)")
_CODE: Final = re.compile(r'(?<=<span class="pre">)[^<]+')
_NAME_AS_HEADING: Final = re.compile(r"(?<=<h\d>)\w+(?=<)")
_LONG: Final = 31  # characters, for which every place on a phone's page has room


def keep_numbers_whole(text: str) -> str:
    """Return *text* with spaces that do not break where one stands in a number, or before its unit."""
    return _GAP.sub("\N{NO-BREAK SPACE}", text)


def open_names(html: str) -> str:
    """Return *html* with optional breaks in long words of code, after the bracket of a type, and in headings' names."""
    html = _CODE.sub(lambda code: _open(code[0]), html)
    return _NAME_AS_HEADING.sub(lambda name: _open_after("_", name[0]), html)


def _open(code: str) -> str:
    if code == "[":
        return "[<wbr>"
    if len(code) <= _LONG:
        return code
    if "::" in code:  # a test
        return _open_after("_", code.replace("::", "::<wbr>"))
    opened = _open_after("./", code)
    return opened if opened != code else _open_after("_", code)


def _open_after(signs: str, name: str) -> str:
    return re.sub(rf"(?<=[^\W\d])([{signs}])(?=\w)", r"\1<wbr>", name)
