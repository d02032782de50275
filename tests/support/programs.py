"""Programs in new processes."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path


async def run_script(script: str, environment: dict[str, str]) -> str:
    """Return the output of a Python script, which must succeed without output on stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script),
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        stdout, stderr = await process.communicate()
    assert (0, "") == (process.returncode, stderr.decode())
    return stdout.decode().strip()


def is_alive(pid: int) -> bool:
    """Return whether the process runs and is not a zombie."""
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat").read_text() if sys.platform == "linux" else ""
    except (ProcessLookupError, FileNotFoundError):
        return False
    return status.rpartition(")")[2].split()[:1] != ["Z"]


async def wait_for_end(pid: int) -> None:
    async with asyncio.timeout(60):
        while is_alive(pid):
            await asyncio.sleep(0.01)  # processes set no event
