"""Marks for features that a platform or an installation lacks.

Rule: a test that cannot run has one of these marks with the reason, or needs Valkey (`redis_server.py`).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import sys
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

needs_bash: Final = pytest.mark.skipif(os.name != "posix" or shutil.which("bash") is None, reason="needs bash")
needs_break: Final = pytest.mark.skipif(
    sys.platform == "win32" and hasattr(ctypes.WinDLL("ntdll"), "wine_get_version"), reason="Wine raises no SIGBREAK"
)
needs_case: Final = pytest.mark.skipif(os.name == "nt", reason="needs case-sensitive environment variables")
needs_cluster_pubsub: Final = pytest.mark.skipif(
    int(version("redis").partition(".")[0]) < 8, reason="needs pub/sub in clusters, as redis-py 8 has it"
)
needs_console: Final = pytest.mark.skipif(os.name != "nt", reason="needs a Windows console")
needs_fork: Final = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
needs_httpx2: Final = pytest.mark.skipif(find_spec("httpx2") is None, reason="needs httpx2")
needs_linux: Final = pytest.mark.skipif(
    sys.platform != "linux", reason="needs Linux's boot id, cache directory, file names of any bytes or full backlog"
)
needs_matplotlib: Final = pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs matplotlib")
needs_permissions: Final = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs a user other than root, whom file modes restrict"
)
needs_posix: Final = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals, terminals and shells")
needs_posix_files: Final = pytest.mark.skipif(
    os.name != "posix", reason="needs file modes, owners, symlinks, pipes and locks of POSIX"
)
needs_proc: Final = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and /dev/full")
needs_resets: Final = pytest.mark.skipif(
    os.name != "posix", reason="the event loop of Windows reports a reset as end of file"
)
needs_resource: Final = pytest.mark.skipif(find_spec("resource") is None, reason="needs the module resource")
needs_unix_sockets: Final = pytest.mark.skipif(
    not hasattr(asyncio, "open_unix_connection"), reason="needs unix sockets in asyncio"
)
needs_valgrind: Final = pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
needs_windows: Final = pytest.mark.skipif(os.name != "nt", reason="needs files of Windows")


def uvloop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return uvloop's factory of event loops by name, if uvloop is installed."""
    if find_spec("uvloop") is None:
        return {}
    import uvloop

    return {"uvloop": uvloop.new_event_loop}
