"""Files that hold secrets. Rule: what was read is redacted, and what went wrong is said without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .redaction import RedactedStr

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_secret_text"]


def read_secret_text(path: Path) -> tuple[str, str]:
    """Return the file's text, redacted, or the problem: an exception from here would carry the text along."""
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        return "", error.strerror or type(error).__name__
    except UnicodeDecodeError:
        return "", "it is not UTF-8 text"
    except ValueError as error:
        return "", str(error)  # a NUL in the path
    return RedactedStr(text), ""
