"""Marks for features that platforms lack. Rule: a test that is skipped has a mark with the reason."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

needs_console: Final = pytest.mark.skipif(os.name != "nt", reason="needs a Windows console")
needs_break: Final = pytest.mark.skipif(
    sys.platform == "win32" and hasattr(ctypes.WinDLL("ntdll"), "wine_get_version"), reason="Wine raises no SIGBREAK"
)
needs_case: Final = pytest.mark.skipif(os.name == "nt", reason="needs case-sensitive environment variables")
needs_fork: Final = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
needs_posix: Final = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals, terminals and shells")
needs_posix_files: Final = pytest.mark.skipif(os.name != "posix", reason="needs file modes, owners, symlinks and pipes")
needs_proc: Final = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and /dev/full")
needs_resets: Final = pytest.mark.skipif(
    os.name != "posix", reason="the event loop of Windows reports a reset as end of file"
)
needs_resource: Final = pytest.mark.skipif(find_spec("resource") is None, reason="needs the module resource")
needs_unix_sockets: Final = pytest.mark.skipif(
    not hasattr(asyncio, "open_unix_connection"), reason="needs unix sockets in asyncio"
)
needs_windows: Final = pytest.mark.skipif(os.name != "nt", reason="needs files of Windows")


def uvloop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return uvloop's factory of event loops by name, if uvloop is installed."""
    if find_spec("uvloop") is None:
        return {}
    import uvloop

    return {"uvloop": uvloop.new_event_loop}
