"""Programs in a process of their own."""

from __future__ import annotations

import asyncio
import os
import sys


async def run_script(script: str, environment: dict[str, str]) -> str:
    """Return the output of a Python script, which must succeed, with nothing on stderr."""
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
