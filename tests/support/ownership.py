"""Files of another user, even if the tests do not run as root."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

OTHER_USER = 54_321


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change the owner of *path*, or without the right to do so, the owner that `os.fstat()` reports."""
    if os.geteuid() == 0:
        os.chown(path, OTHER_USER, -1)
        return
    inode, fstat = path.stat().st_ino, os.fstat

    def fstat_as_if(descriptor: int) -> os.stat_result:
        status = fstat(descriptor)
        return os.stat_result((*status[:4], OTHER_USER, *status[5:])) if status.st_ino == inode else status

    monkeypatch.setattr(os, "fstat", fstat_as_if)
